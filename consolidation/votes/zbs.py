"""Zero-based skill: Wawa again and again, until the labels stay."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels
from voxpop.consolidation.votes.wawa import agreement, share_right, weighted_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["ZeroBasedSkill", "ZeroBasedSkillState"]


@dataclasses.dataclass(frozen=True)
class ZeroBasedSkill:
    """Weighted majority vote whose weights are fitted to its own labels. Known from the crowd-kit library.

    All workers start with the same skill. Each iteration labels the items by the vote weighted with the skills ``s``,
    then sets each skill to the share ``a`` of the worker's ``n`` votes that agree with the labels. Both steps raise

        sum over workers of  n * (s * a - s**2 / 2),

    which is ``objective`` after the second step, so it never falls; as there are finitely many labelings, the labels
    settle. The method stops when the labels are those of the iteration before: nothing would change any more. crowd-kit
    runs a fixed number of gradient steps on the same sum instead; its first 19 have length 1, which is the step here.

    Gold items keep their gold class throughout. History is counted as votes that agreed or did not. Weights of items
    count in the skills, weights of workers in both steps. Workers of whom nothing is known have the mean skill of the
    others.

    The posterior is the share of skill-weighted votes, no calibrated probability; an item without votes, or whose
    voters never agreed with anybody, has equal shares. A worker's quality is their skill.

    Attributes:
        max_iter: the most iterations; at least 1.
        seed: breaks ties.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    seed: int = 0
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        for name, good in (("max_iter", self.max_iter >= 1), ("refit_growth", self.refit_growth >= 1)):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected at least 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "zero_based_skill"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        The posterior is exactly the weighted vote under the returned ``worker_quality``.
        """
        votes = annotations
        skill = np.ones(votes.n_workers)
        labels: NDArray[np.int64] | None = None
        objective: list[float] = []
        while len(objective) < self.max_iter:
            before = labels
            labels = choose_labels(weighted_shares(votes, skill), votes.items, votes.classes, self.seed)
            if before is not None and np.array_equal(labels, before):
                break
            right, total = agreement(votes, labels)
            skill = share_right(right, total)
            objective.append(float((skill * right - skill**2 * total / 2).sum()))
        return self.label(votes, Learned({"skill": skill}, {"objective": np.array(objective)}))

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the vote weighted by skills that were learned before."""
        skill, objective = learned.workers["skill"], learned.shared["objective"]
        posterior = weighted_shares(votes, skill)
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=skill,
            objective=objective,
            n_iter=objective.size,
            learned=learned,
        )

    def state(self) -> ZeroBasedSkillState:
        """Start an empty stream."""
        return ZeroBasedSkillState(self)


class ZeroBasedSkillState(LearningState[ZeroBasedSkill]):
    """The stream of ``ZeroBasedSkill``: the vote weighted by the workers' skills as of the last fit."""

    method_type = ZeroBasedSkill
