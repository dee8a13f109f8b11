"""Masks of several people merged into one: binary, by class, and by instance; dense or as COCO's run lengths.

``Masks`` and ``InstanceMasks`` are the ways in, and ``Runs`` is one mask as run lengths. See ``docs/masks.md``.
"""

from __future__ import annotations

from voxpop.consolidation.masks.crowd import MaskCrowdEM, MaskRasa
from voxpop.consolidation.masks.errors import MaskError
from voxpop.consolidation.masks.instances import InstanceMasks, InstanceResult, MaskInstances
from voxpop.consolidation.masks.multilabel import MaskMultilabelStaple
from voxpop.consolidation.masks.result import MaskResult
from voxpop.consolidation.masks.rle import Runs
from voxpop.consolidation.masks.smooth import smooth_probability
from voxpop.consolidation.masks.staple import MaskStaple
from voxpop.consolidation.masks.table import Masks
from voxpop.consolidation.masks.vote import MaskMajority, MaskPlurality

__all__ = [
    "InstanceMasks", "InstanceResult", "MaskCrowdEM", "MaskError", "MaskInstances", "MaskMajority",
    "MaskMultilabelStaple", "MaskPlurality", "MaskRasa", "MaskResult", "MaskStaple", "Masks", "Runs",
    "smooth_probability",
]  # fmt: skip
