"""Comparisons of two items at a time: scores and a ranking of all of them.

``PairwiseVotes`` is the way in; ``BradleyTerry`` takes all workers alike, ``NoisyBradleyTerry`` learns whom to believe.
"""

from __future__ import annotations

from voxpop.consolidation.pairwise.bradley_terry import BradleyTerry
from voxpop.consolidation.pairwise.noisy import NoisyBradleyTerry
from voxpop.consolidation.pairwise.result import PairwiseResult
from voxpop.consolidation.pairwise.table import PairwiseVotes

__all__ = ["BradleyTerry", "NoisyBradleyTerry", "PairwiseResult", "PairwiseVotes"]
