"""What must hold for any boxes: order and names of workers, place, size and number of items do not matter."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from voxpop.consolidation.boxes import (
    Boxes,
    FusedBoxes,
    MedianBoxes,
    NonMaximumBoxes,
    NonMaximumWeightedBoxes,
    SoftNonMaximumBoxes,
    WeightedBoxes,
)

# Whole numbers, so that moving and doubling are exact; scores in 64ths for the same reason.
boxes = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(6, 20), st.integers(6, 20))
marks = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 3), st.one_of(st.none(), boxes), st.sampled_from("xy"), st.integers(1, 64)
    ),
    min_size=1,
    max_size=25,
)
methods = st.sampled_from(
    [
        MedianBoxes(quorum=0.4, iou=0.3),
        MedianBoxes(merge="mean", same_class=True),
        WeightedBoxes(max_iter=8, tol=0),
        FusedBoxes(iou=0.3),
        FusedBoxes(iou=0.3, confidence="absent_model_aware_avg"),
        NonMaximumBoxes(iou=0.3),
        SoftNonMaximumBoxes(iou=0.3),
        NonMaximumWeightedBoxes(iou=0.3),
    ]
)
relaxed = settings(deadline=None, max_examples=60)


def cleaned(rows):
    """Leave out what one table cannot hold: "nothing there" beside a box; and exact repetitions."""
    drawn = {(item, worker) for item, worker, box, *_ in rows if box}
    kept = [row for row in rows if row[2] or (row[0], row[1]) not in drawn]
    return list({(r[0], r[1], r[2], r[3] if r[2] else "x"): r for r in kept}.values())


def table(rows, shift=(0, 0), scale=1.0):
    sides = [
        (None,) * 4
        if box is None
        else (scale * (box[0] + shift[0]), scale * (box[1] + shift[1]), scale * box[2], scale * box[3])
        for _, _, box, *_ in rows
    ]
    return Boxes.from_columns(
        [row[0] for row in rows],
        [row[1] for row in rows],
        *zip(*sides, strict=True),
        [row[3] for row in rows],
        classes=["x", "y"],
        score=[row[4] / 64 for row in rows],
    )


def described(result):
    """Return {item: sorted rows of box, label, confidence}."""
    found = {item: [] for item in result.items.tolist()}
    for item, box, label, confidence in zip(
        result.items[result.item_of_object].tolist(), result.boxes, result.labels, result.confidence, strict=True
    ):
        found[item].append(np.round([*box, confidence, "xy".index(label)], 6).tolist())
    return {item: sorted(rows) for item, rows in found.items()}


def without_labels(found):
    return {item: sorted(row[:-1] for row in rows) for item, rows in found.items()}


def assert_alike(ours, theirs, tolerance=2e-5):
    assert ours.keys() == theirs.keys()
    for item, rows in ours.items():
        assert len(rows) == len(theirs[item]), (rows, theirs[item])
        np.testing.assert_allclose(np.array(rows), np.array(theirs[item]), rtol=tolerance, atol=tolerance)


def names_of(rows, name):
    return [(item, name[worker], *rest) for item, worker, *rest in rows]


@given(rows=marks, method=methods, order=st.randoms(use_true_random=False), names=st.permutations("abcd"))
@relaxed
def test_order_of_rows_and_names_of_workers(rows, method, order, names):
    rows = cleaned(rows)
    # Two boxes alike of different people, one of whom drew another that overlaps: who is meant, only a name can tell.
    assume(len({(item, box) for item, _, box, *_ in rows if box}) == sum(1 for row in rows if row[2]))
    other = names_of(rows, names)
    order.shuffle(other)
    assert_alike(described(method.fit(table(names_of(rows, "abcd")))), described(method.fit(table(other))))


@given(rows=marks, method=methods, shift=st.tuples(st.integers(-64, 64), st.integers(-64, 64)))
@relaxed
def test_moving_all_boxes_moves_the_result(rows, method, shift):
    rows = cleaned(rows)
    moved = described(method.fit(table(rows, shift)))
    back = {item: sorted([[r[0] - shift[0], r[1] - shift[1], *r[2:]] for r in found]) for item, found in moved.items()}
    assert_alike(described(method.fit(table(rows))), back, 1e-4)


@given(rows=marks, method=methods, power=st.integers(-3, 3))
@relaxed
def test_another_unit_changes_nothing_else(rows, method, power):
    rows, scale = cleaned(rows), 2.0**power
    scaled = described(method.fit(table(rows, scale=scale)))
    back = {item: sorted([[*(v / scale for v in r[:4]), *r[4:]] for r in found]) for item, found in scaled.items()}
    assert_alike(described(method.fit(table(rows))), back, 1e-4)


@given(rows=marks, method=methods)
@relaxed
def test_an_item_given_twice_is_merged_alike(rows, method):
    rows = cleaned(rows)
    twice = [(item + offset, *rest) for offset in (0, 10) for item, *rest in rows]
    found = without_labels(described(method.fit(table(twice))))  # ties between labels are broken by the item's name
    for item in {row[0] for row in rows}:
        assert_alike({0: found[item]}, {0: found[item + 10]})
    if not isinstance(method, WeightedBoxes):  # which knows workers better from more
        once = without_labels(described(method.fit(table(rows))))
        assert_alike(once, {item: found[item] for item in {row[0] for row in rows}})


@given(rows=marks, method=methods)
@relaxed
def test_confidences_are_probabilities_and_members_of_one_item(rows, method):
    annotations = table(cleaned(rows))
    result = method.fit(annotations)
    assert ((result.confidence >= 0) & (result.confidence <= 1)).all()
    assert (result.boxes[:, 2:] > 0).all()
    item_of_mark = np.repeat(np.arange(annotations.n_items), np.diff(annotations.object_indptr))
    assert (item_of_mark[result.members] == np.repeat(result.item_of_object, result.n_members)).all()
    for i in range(annotations.n_items):
        mine = result.confidence[result.indptr[i] : result.indptr[i + 1]]
        assert (np.diff(mine) <= 0).all()
    quality = result.worker_quality[~np.isnan(result.worker_quality)]
    assert ((quality >= 0) & (quality <= 1)).all()
