"""Consolidated boxes against gold ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.boxes.iou import pairwise_iou
from voxpop.consolidation.objects.scores import scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.result import BoxesResult
    from voxpop.consolidation.boxes.table import Boxes
    from voxpop.consolidation.objects.scores import MatchScores

__all__ = ["score_boxes"]


def score_boxes(result: BoxesResult, gold: Boxes, least: float = 0.5) -> MatchScores:
    """Match the boxes of each item that has both one to one by IoU, and count.

    Args:
        result: what was found.
        gold: what is there; an answer without boxes says that nothing is. If either has no classes, they are not
            compared.
        least: the least IoU of a match.
    """
    place = {name: i for i, name in enumerate(gold.items.tolist())}
    names = result.items.tolist()
    shared = [(i, place[name]) for i, name in enumerate(names) if name in place]
    compared = result.classes.tolist() != [""] and gold.classes.tolist() != [""]
    found_labels, gold_labels = result.labels, gold.classes[gold.label]
    bounds = gold.object_indptr

    def similarity(pair: int) -> NDArray[np.float64]:
        item, gold_item = shared[pair]
        mine = slice(result.indptr[item], result.indptr[item + 1])
        theirs = slice(bounds[gold_item], bounds[gold_item + 1])
        iou = pairwise_iou(
            result.boxes[mine],
            gold.geometry[theirs],
            None if result.angle is None else result.angle[mine],
            None if gold.angle is None else gold.angle[theirs],
        )
        return iou * (found_labels[mine][:, None] == gold_labels[theirs][None, :]) if compared else iou

    counts = np.diff(result.indptr), np.diff(bounds)
    return scores_of([(int(counts[0][i]), int(counts[1][j])) for i, j in shared], similarity, least)
