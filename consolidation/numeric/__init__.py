"""Labels on a scale: numbers, and classes that have an order.

``NumericVotes`` is the way in for numbers, which ``Mean``, ``Median`` and ``BiasAndNoise`` consolidate.
``Ordinal`` is a method for votes whose classes stand in their order.
"""

from __future__ import annotations

from voxpop.consolidation.numeric.averages import Mean, Median
from voxpop.consolidation.numeric.bias_and_noise import BiasAndNoise
from voxpop.consolidation.numeric.ordinal import Ordinal
from voxpop.consolidation.numeric.result import NumericResult
from voxpop.consolidation.numeric.table import NumericVotes

__all__ = ["BiasAndNoise", "Mean", "Median", "NumericResult", "NumericVotes", "Ordinal"]
