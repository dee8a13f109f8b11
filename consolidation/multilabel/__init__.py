"""Labels of which any number apply to an item: the table of answers, and their consolidation class by class.

``MultiLabelVotes`` is the way in, ``MultiLabel`` makes any method for votes one for sets of labels.
"""

from __future__ import annotations

from voxpop.consolidation.multilabel.methods import MultiLabel, MultiLabelState
from voxpop.consolidation.multilabel.result import MultiLabelResult
from voxpop.consolidation.multilabel.table import MultiLabelVotes

__all__ = ["MultiLabel", "MultiLabelResult", "MultiLabelState", "MultiLabelVotes"]
