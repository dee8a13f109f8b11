"""What must hold for any masks: order, translation, duplication, and one form against another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from voxpop.consolidation.masks import (
    InstanceMasks,
    MaskCrowdEM,
    MaskInstances,
    MaskMajority,
    MaskMultilabelStaple,
    MaskPlurality,
    MaskRasa,
    Masks,
    MaskStaple,
    Runs,
)
from voxpop.consolidation.masks.rle import intersection_matrix

BINARY = (MaskMajority(), MaskMajority(0.3, "foreground"), MaskStaple(max_iter=20), MaskCrowdEM(), MaskRasa())
METHODS = (*BINARY, MaskPlurality(), MaskMultilabelStaple(max_iter=20))
EXAMPLES = settings(deadline=None, max_examples=40)


RATERS = st.sampled_from([2, 3, 5, 10])


def stacks(largest=2, raters=RATERS):
    """Masks of several raters, of one size: few patterns, so that methods have something to learn."""
    size = st.tuples(raters, st.integers(1, 6), st.integers(1, 70))
    return size.flatmap(lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, largest - 1)))


def fitted(method, stack, workers=None):
    workers = range(len(stack)) if workers is None else workers
    items = ["i"] * len(stack)
    if isinstance(method, (MaskPlurality, MaskMultilabelStaple)):
        return method.fit(Masks.from_labels(items, workers, list(stack), [0, 1]))
    return method.fit(Masks.from_dense(items, workers, list(stack)))


def certain(result, classes=(0, 1)):
    """Return the pixels that no last bit of a sum decides."""
    shown = np.sort(np.stack([result.probability(0, k) for k in classes]), axis=0)
    return shown[-1] - shown[-2] > 1e-6


@EXAMPLES
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 140))))
def test_every_form_of_a_mask_is_the_same(mask):
    runs = Runs.from_mask(mask)
    assert np.array_equal(runs.to_mask(), mask)
    assert Runs.from_string(runs.to_string(), *mask.shape) == runs
    assert Runs.from_counts(runs.counts, *mask.shape) == runs
    assert (runs.counts[1:] > 0).all()
    assert runs.area == mask.sum()


@EXAMPLES
@given(stacks())
def test_overlaps_without_decoding(stack):
    masks = [Runs.from_mask(mask) for mask in stack]
    assert intersection_matrix(masks, masks).tolist() == [[int((a & b).sum()) for b in stack] for a in stack]


@pytest.mark.parametrize("method", BINARY, ids=repr)
@EXAMPLES
@given(stack=stacks())
def test_run_lengths_against_dense(method, stack):
    """The same masks, confidences and qualities from either form."""
    dense = fitted(method, stack)
    runs = method.fit(Masks.from_runs(["i"] * len(stack), range(len(stack)), [Runs.from_mask(mask) for mask in stack]))
    assert np.allclose(runs.probability(0), dense.probability(0), atol=1e-9)
    sure = certain(dense)
    assert np.array_equal(runs.mask(0)[sure], dense.mask(0)[sure])
    assert np.allclose(runs.worker_quality, dense.worker_quality, equal_nan=True, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@EXAMPLES
@given(stack=stacks(), seed=st.integers(0, 99))
def test_the_order_of_raters_does_not_matter(method, stack, seed):
    order = np.random.default_rng(seed).permutation(len(stack))
    one, other = fitted(method, stack), fitted(method, stack[order])
    sure = certain(one) & certain(other)
    assert np.allclose(one.probability(0), other.probability(0), atol=1e-6)
    assert np.array_equal(one.mask(0)[sure], other.mask(0)[sure])
    assert np.allclose(one.worker_quality[order], other.worker_quality, equal_nan=True, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@EXAMPLES
@given(stack=stacks(), down=st.integers(0, 5), right=st.integers(0, 70))
def test_translated_masks_give_a_translated_mask(method, stack, down, right):
    shift = {"shift": (down, right), "axis": (-2, -1)}
    one, other = fitted(method, stack), fitted(method, np.roll(stack, **shift))
    assert np.array_equal(np.roll(one.mask(0), **shift), other.mask(0))


@pytest.mark.parametrize("method", [MaskMajority(), MaskMajority(0.3, "foreground"), MaskPlurality()], ids=repr)
@EXAMPLES
@given(stack=stacks())
def test_votes_of_everybody_twice_change_nothing(method, stack):
    assert np.array_equal(fitted(method, stack).mask(0), fitted(method, np.concatenate([stack, stack])).mask(0))


@pytest.mark.parametrize("method", METHODS, ids=repr)
@EXAMPLES
@given(stack=stacks(raters=st.just(1)))
def test_one_rater_is_believed(method, stack):
    assert np.array_equal(fitted(method, stack).mask(0), stack[0])


@EXAMPLES
@given(stack=stacks())
def test_two_classes_vote_like_foreground_and_background(stack):
    """Plurality of two classes is majority, where nothing is tied."""
    tied = 2 * stack.sum(axis=0) == len(stack)
    shown, expected = fitted(MaskPlurality(), stack).mask(0), fitted(MaskMajority(), stack).mask(0)
    assert np.array_equal(shown[~tied], expected[~tied])


@EXAMPLES
@given(stack=stacks(largest=7, raters=st.sampled_from([3, 7])), seed=st.integers(0, 9))
def test_renamed_classes_give_renamed_labels(stack, seed):
    """Where nothing is tied, the numbers of the classes do not matter."""
    place = np.random.default_rng(seed).permutation(7).astype(np.uint8)
    items, workers = ["i"] * len(stack), range(len(stack))
    for method in (MaskPlurality("undecided"), MaskMultilabelStaple(max_iter=5)):
        one = method.fit(Masks.from_labels(items, workers, list(stack), range(7)))
        other = method.fit(Masks.from_labels(items, workers, list(place[stack]), range(7)))
        sure = certain(one, range(7)) & (one.mask(0) < 7)
        assert np.array_equal(place[np.minimum(one.mask(0), 6)][sure], other.mask(0)[sure])


@EXAMPLES
@given(stack=stacks(raters=st.sampled_from([2, 5])), seed=st.integers(0, 9))
def test_instances_in_any_order_of_rows(stack, seed):
    rows = [(f"w{r}", mask) for r, mask in enumerate(stack) if mask.any()]
    if not rows:
        return
    order = np.random.default_rng(seed).permutation(len(rows))

    def made(rows):
        workers, masks = zip(*rows, strict=True)
        return MaskInstances(quorum=0).fit(InstanceMasks.from_rows(["i"] * len(rows), workers, masks))

    assert made(rows).masks.tolist() == made([rows[i] for i in order]).masks.tolist()
