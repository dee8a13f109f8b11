"""Every limit of the formats, in one place. Going over one is an error that names it.

The first two are those of Ground Truth's manifests; the others keep memory bounded whatever the file holds.
"""

from __future__ import annotations

from typing import Final

MAX_LINE_CHARS: Final = 100_000
MAX_ATTRIBUTE_CHARS: Final = 20_000
MAX_LABEL_ATTRIBUTE_CHARS: Final = 127

MAX_LINE_BYTES: Final = 4 * MAX_LINE_CHARS  # a character is at most four bytes of UTF-8
MAX_READ_BYTES: Final = 256 * 1024 * 1024  # an object that is read whole, not streamed
MAX_REPORTED_PROBLEMS: Final = 20  # a refused input names so many problems, and the count of all
