"""Instance masks: who drew the same object, votes inside, quorum, confidence, and what is refused."""

import itertools

import naive_masks
import numpy as np
import pytest

from voxpop.consolidation.masks import InstanceMasks, MaskError, MaskInstances, Runs
from voxpop.consolidation.method import Method, State


def block(top, left, height=4, width=4, size=(16, 20)):
    mask = np.zeros(size, np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


ROWS = [
    ("a", "ann", block(1, 1), "cat"),
    ("a", "ann", block(9, 9), "dog"),
    ("a", "bob", block(1, 2), "cat"),
    ("a", "bob", block(9, 10), "cat"),
    ("a", "cy", block(2, 1), "dog"),
    ("b", "ann", None, None),
    ("b", "bob", block(0, 0), "dog"),
    ("b", "cy", None, None),
]


def table(rows=ROWS):
    items, workers, masks, labels = zip(*rows, strict=True)
    return InstanceMasks.from_rows(items, workers, masks, labels)


def test_objects_are_found_and_voted_on():
    result = MaskInstances().fit(table())
    assert result.indptr.tolist() == [0, 2, 2]
    assert result.labels.tolist()[0] == "cat"
    assert [len(names) for names in result.annotators(table())] == [3, 2]
    first = sum(mask.astype(int) for mask in (block(1, 1), block(1, 2), block(2, 1))) >= 2
    assert np.array_equal(result.masks[0].to_mask(), first)
    assert np.array_equal(result.masks[1].to_mask(), block(9, 10, width=3))
    assert result.confidence.tolist() == [pytest.approx(15 / 16 * 2 / 3), pytest.approx(11 / 16 / 2)]
    assert result.pixel_confidence[1] == 1
    quality = dict(zip(result.workers.tolist(), result.worker_quality.tolist(), strict=True))
    assert quality == {"ann": 1.0, "bob": pytest.approx(4 / 5), "cy": pytest.approx(2 / 3)}


def test_quorum_ties_and_classes():
    assert MaskInstances(quorum=0.3).fit(table()).indptr.tolist() == [0, 2, 3]
    assert MaskInstances(quorum=1).fit(table()).indptr.tolist() == [0, 1, 1]
    wide = MaskInstances(ties="foreground").fit(table())
    assert np.array_equal(wide.masks[1].to_mask(), block(9, 9, width=5))
    apart = MaskInstances(same_class=True).fit(table())
    assert apart.indptr.tolist() == [0, 1, 1]
    assert apart.labels.tolist() == ["cat"]
    assert MaskInstances(iou=0.9).fit(table()).n_objects == 0


def test_no_worker_is_twice_in_an_object():
    """Somebody who drew the same object twice gets one mask in it; the other is on its own."""
    rows = [("a", "ann", block(1, 1), "x"), ("a", "ann", block(1, 2), "x"), ("a", "bob", block(1, 1), "x")]
    result = MaskInstances(quorum=0).fit(table(rows))
    assert sorted(result.n_members.tolist()) == [1, 2]


@pytest.mark.parametrize("seed", range(8))
def test_objects_equal_their_oracle(seed):
    dice = np.random.default_rng(seed)
    centres = dice.integers(0, 12, (4, 2))
    rows, sets, workers = [], [], []
    for w in range(5):
        for top, left in centres[dice.random(4) < 0.8].tolist():
            mask = block(top + int(dice.integers(0, 3)), left + int(dice.integers(0, 3)), 5, int(dice.integers(3, 7)))
            rows.append(("i", f"w{w}", mask, "x"))
            sets.append(set(np.flatnonzero(mask).tolist()))
            workers.append(w)
    result = MaskInstances(quorum=0, iou=0.3, ties="foreground").fit(table(rows))
    bounds = result.member_indptr.tolist()
    found = sorted(sorted(result.members[a:b].tolist()) for a, b in itertools.pairwise(bounds))
    assert found == naive_masks.clusters(sets, workers, 0.3)


def test_streams_equal_batches():
    method = MaskInstances(quorum=0.3)
    assert isinstance(method, Method)
    state, other = method.state(), method.state()
    assert isinstance(state, State)
    state.add(table(ROWS[:4]))
    other.add(table(ROWS[4:]))
    state.merge(other)
    state = type(state).load(state.save())
    expected, shown = method.fit(table()), state.posterior(["b", "a"])
    assert shown.masks.tolist() == [*expected.masks[2:].tolist(), *expected.masks[:2].tolist()]
    assert shown.confidence.tolist() == [*expected.confidence[2:].tolist(), *expected.confidence[:2].tolist()]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a", "w", block(0, 0), "x"), ("a", "v", block(0, 0, size=(8, 8)), "x")],
            "item 'a' has masks of 8 x 8 and of",
        ),
        ([("a", "w", np.zeros((4, 4), np.bool_), "x")], "row 0: the object's mask is empty"),
        ([("a", "w", np.zeros(4, np.bool_), "x")], "row 0: a mask has shape"),
        ([("a", "w", None, None), ("a", "w", block(0, 0), "x")], "found nothing here"),
        ([("a", f"w{i}", block(0, 0), "x") for i in range(65)], "more than 64 workers"),
        ([("a", "w", Runs.from_mask(block(0, 0)), None)], "row 0"),
    ],
)
def test_what_is_refused(rows, message):
    with pytest.raises(MaskError, match=message):
        table(rows)


@pytest.mark.parametrize(("name", "value"), [("quorum", 1.1), ("iou", 0), ("threshold", 0), ("ties", "none")])
def test_wrong_parameters(name, value):
    with pytest.raises(ValueError, match=f"{name} is"):
        MaskInstances(**{name: value})
