"""Boxes around objects: who drew what, how boxes of different people become one, and how sure that is."""

from __future__ import annotations

from voxpop.consolidation.boxes.ensembles import (
    FusedBoxes,
    NonMaximumBoxes,
    NonMaximumWeightedBoxes,
    SoftNonMaximumBoxes,
)
from voxpop.consolidation.boxes.iou import pairwise_iou
from voxpop.consolidation.boxes.median import MedianBoxes
from voxpop.consolidation.boxes.result import BoxesResult
from voxpop.consolidation.boxes.scores import score_boxes
from voxpop.consolidation.boxes.table import Boxes, BoxesError
from voxpop.consolidation.boxes.weighted import WeightedBoxes, WeightedBoxesResult

__all__ = [
    "Boxes",
    "BoxesError",
    "BoxesResult",
    "FusedBoxes",
    "MedianBoxes",
    "NonMaximumBoxes",
    "NonMaximumWeightedBoxes",
    "SoftNonMaximumBoxes",
    "WeightedBoxes",
    "WeightedBoxesResult",
    "pairwise_iou",
    "score_boxes",
]
