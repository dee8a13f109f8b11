"""What the suite measures in a process of its own: peak memory, and what the first use of a method costs.

A runner as those of peers (see ``peers/serve.py``), for voxpop itself. Nothing is imported before a task asks for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
ITERATIONS = 20


def versions() -> dict[str, str]:
    return {}  # those of the process that asks


def labels_from_codes(options: dict[str, Any], clock: Any) -> dict[str, Any]:
    """Interned votes to labels, confidences and confusion matrices. Options: ``votes``, an .npz file; ``size``."""
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from benchmarks.suites.votes.data import Coded, Size, simulate

    from voxpop.consolidation.votes.dawid_skene import DawidSkene

    method = DawidSkene(max_iter=ITERATIONS, tol=0)
    size = Size(*options["size"])
    method.fit(simulate(size.scaled(1e-6), 0).votes())  # compiled code is loaded
    with np.load(options["votes"]) as file:
        coded = Coded(file["item"], file["worker"], file["label"], size)
    before = _rss_bytes()
    with clock:
        result = method.fit(coded.votes())
        labels, confidence = result.labels, result.confidence
    assert labels.size == confidence.size == size.items
    assert result.confusion is not None
    return {"n": size.votes, "iterations": result.n_iter, "rss_bytes_before": before}


def labels_from_strings(options: dict[str, Any], clock: Any) -> dict[str, Any]:
    """Columns of strings to labels, confidences and confusion matrices. Options: as above."""
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from benchmarks.suites.votes.data import Coded, Size, simulate

    from voxpop.consolidation.votes.dawid_skene import DawidSkene
    from voxpop.consolidation.votes.table import Votes

    method = DawidSkene(max_iter=ITERATIONS, tol=0)
    size = Size(*options["size"])
    method.fit(simulate(size.scaled(1e-6), 0).votes())
    with np.load(options["votes"]) as file:
        columns = Coded(file["item"], file["worker"], file["label"], size).strings()
    before = _rss_bytes()
    with clock:
        result = method.fit(Votes.from_columns(columns["item"], columns["worker"], columns["label"]))
        labels, confidence = result.labels, result.confidence
    assert labels.size == confidence.size == size.items
    return {"n": size.votes, "iterations": result.n_iter, "rss_bytes_before": before}


def first_use(options: dict[str, Any], clock: Any) -> dict[str, Any]:
    """Import, and fit a method to a few votes of 4 classes. Options: ``method``."""
    import time
    from random import Random

    rng = Random(0)
    rows = [(f"item{i}", f"worker{w}", f"label{rng.randrange(4)}") for i in range(40) for w in range(5)]
    items, workers, labels = (list(column) for column in zip(*rows, strict=True))
    with clock:
        began = time.perf_counter()
        from voxpop.consolidation import Votes, get_method

        method = get_method(options["method"])
        imported = time.perf_counter()
        method.fit(Votes.from_columns(items, workers, labels))
    return {"n": 1, "import_seconds": imported - began}


def _rss_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * 4096 if statm.exists() else 0


TASKS = {"labels_from_codes": labels_from_codes, "labels_from_strings": labels_from_strings, "first_use": first_use}
