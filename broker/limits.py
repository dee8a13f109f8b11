"""Every limit, in one place. Going over one is an error that names it."""

from __future__ import annotations

from typing import Final

# Categories of a job. What a line of input may hold is in formats/limits.py.
MAX_CATEGORIES: Final = 10_000
MAX_CATEGORY_CHARS: Final = 256

# Names of jobs, pools, workforces and workers.
NAME_PATTERN: Final = r"[a-zA-Z0-9](?:[-_.]?[a-zA-Z0-9]){0,62}"
MAX_WORKER_ID_CHARS: Final = 256

# What fits the packed records: see docs/state-machines.md.
MAX_REPLICATION: Final = 64
MAX_ITEMS_PER_SHARD: Final = 2**32 - 1
MAX_WORKERS_PER_WORKFORCE: Final = 2**29 - 1
MAX_TICKETS: Final = 255  # granted to one item: one byte
MAX_NAMED_TICKETS: Final = MAX_TICKETS - MAX_REPLICATION  # of one item, when it is appended

# One call.
MAX_CLAIM_ITEMS: Final = 1_000
MAX_SUBMIT_ANSWERS: Final = 1_000
MAX_APPEND_ITEMS: Final = 10_000
MAX_ANSWER_BYTES: Final = 1_000_000
MAX_ANSWER_SECONDS: Final = 366 * 86_400  # that somebody says to have spent on one answer
MAX_PUSH_ITEMS: Final = 1_000
MAX_ALLOWLIST_RANGES: Final = 10_000
MAX_WAIT_SECONDS: Final = 60.0
MAX_LEASE_SECONDS: Final = 30 * 86_400
