"""Smoothing with neighbours: a pixel whose neighbours are foreground is more likely foreground, too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.errors import MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["smooth_probability"]

_CERTAIN: Final = 1e-12  # probabilities closer to 0 or 1 count as this: neighbours can overrule what is not quite sure


def smooth_probability(
    probability: NDArray[np.float64], strength: float = 1.0, n_iter: int = 10
) -> NDArray[np.float64]:
    """Return the probability of foreground under a Markov random field with the four neighbours.

    The field is Ising's (Potts' with two classes; Geman and Geman, 1984): two neighbours that differ cost ``strength``
    in the logarithm of the probability, and a pixel's own evidence is its log odds. The posterior is approximated by
    mean field: each pixel's log odds are its own plus ``strength`` times the sum of ``2 q - 1`` over its neighbours'
    present probabilities ``q``. All pixels are renewed at once, half way, so that the result does not depend on an
    order. Beside the output, two rows are kept.

    STAPLE is very sure of itself (see ``MaskStaple``): its W may need a strength of 10 or more where a vote's share
    needs 1.

    Args:
        probability: W, as ``MaskResult.probability`` gives it, shape (height, width).
        strength: 0 changes nothing; 0.5 to 2 takes away specks and closes holes of single pixels of votes' shares.
        n_iter: rounds; the remaining way halves with each.

    Raises:
        MaskError: not two-dimensional, or a probability that is none.
        ValueError: a strength below 0, or no rounds.
    """
    given = np.ascontiguousarray(probability, np.float64)
    if given.ndim != 2 or not given.size:
        raise MaskError(f"probabilities have shape {given.shape}; expected (height, width)")
    if not (given.min() >= 0 and given.max() <= 1):
        raise MaskError(f"probabilities go from {given.min()} to {given.max()}; expected 0 to 1")
    if not strength >= 0 or n_iter < 1:
        raise ValueError(f"strength is {strength!r} and n_iter {n_iter!r}; expected 0 or more, and 1 or more")
    out = given.copy()
    for _ in range(n_iter):
        _renew(given, strength, out)
    return out


@kernel
def _renew(own: NDArray[np.float64], strength: float, q: NDArray[np.float64]) -> None:
    """Renew ``q`` half way, all pixels from the values before."""
    height, width = q.shape
    above = np.empty(width)
    here = np.empty(width)
    for y in range(height):
        here[:] = q[y]
        for x in range(width):
            pull = 0.0
            if y > 0:
                pull += 2.0 * above[x] - 1.0
            if y + 1 < height:
                pull += 2.0 * q[y + 1, x] - 1.0
            if x > 0:
                pull += 2.0 * here[x - 1] - 1.0
            if x + 1 < width:
                pull += 2.0 * here[x + 1] - 1.0
            p = min(max(own[y, x], _CERTAIN), 1.0 - _CERTAIN)
            odds = math.log(p / (1.0 - p)) + strength * pull
            q[y, x] = 0.5 * here[x] + 0.5 / (1.0 + math.exp(-odds))
        above[:] = here
