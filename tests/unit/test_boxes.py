"""Boxes: the table and its complaints, overlaps, clusters, medians, what is learned of workers, parity, streams."""

import itertools
import json
import math
import re
from pathlib import Path

import naive_boxes
import numpy as np
import pytest

from voxpop.consolidation.boxes import (
    Boxes,
    BoxesError,
    FusedBoxes,
    MedianBoxes,
    NonMaximumBoxes,
    NonMaximumWeightedBoxes,
    SoftNonMaximumBoxes,
    WeightedBoxes,
    pairwise_iou,
    score_boxes,
)
from voxpop.consolidation.boxes.cluster import cluster_boxes
from voxpop.consolidation.boxes.existence import TYPICAL_RATE, learn_existence
from voxpop.consolidation.boxes.noise import DEGREES
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.objects import ObjectsError
from voxpop.consolidation.votes.snapshot import SnapshotError
from voxpop.formats.boxes import read_boxes, read_gold_boxes

DATA = Path(__file__).parents[1] / "data" / "boxes"
METHODS = [
    MedianBoxes(),
    WeightedBoxes(),
    FusedBoxes(),
    NonMaximumBoxes(),
    SoftNonMaximumBoxes(),
    NonMaximumWeightedBoxes(),
]
NOTHING = (None,) * 4


def table(rows, **options):
    """Return a table of (item, worker, box, label)."""
    items, workers, boxes, labels = zip(*rows, strict=True)
    return Boxes.from_columns(items, workers, *zip(*boxes, strict=True), labels, **options)


def crowd(seed, *, n_items=40, workers=("good", "fair", "bad"), noise=None, miss=None, false=None, classes="ab"):
    """Return rows of a simulated crowd, and the true boxes of each item."""
    r = np.random.default_rng(seed)
    noise, miss, false = noise or {}, miss or {}, false or {}
    rows, truth = [], {}
    for item in range(n_items):
        true = [
            ((x * 200.0, y * 200.0, *r.uniform(30, 90, 2).tolist()), str(r.choice(list(classes))))
            for x in range(2)
            for y in range(2)
            if r.random() < 0.7
        ]
        truth[f"i{item}"] = true
        for worker in workers:
            drawn = []
            for box, label in true:
                if r.random() >= miss.get(worker, 0.1):
                    size = np.array([box[2], box[3]] * 2) * noise.get(worker, 0.05)
                    ends = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) + r.normal(0, 1, 4) * size
                    drawn.append(((ends[0], ends[1], max(1, ends[2] - ends[0]), max(1, ends[3] - ends[1])), label))
            if r.random() < false.get(worker, 0.05):
                drawn.append(((*(500 + 400 * r.random(2)).tolist(), 40.0, 40.0), str(r.choice(list(classes)))))
            rows += [(f"i{item}", worker, box, label) for box, label in drawn] or [(f"i{item}", worker, NOTHING, None)]
    return rows, truth


def answers_of(rows):
    found = {}
    for item, worker, box, label in rows:
        drawn = found.setdefault(item, {}).setdefault(worker, [])
        if box != NOTHING:
            drawn.append((tuple(map(float, box)), label))
    return found


def merged_of(result, boxes):
    """Return {item: [(box, label, confidence, members)]}."""
    found = {item: [] for item in result.items.tolist()}
    names = boxes.workers[boxes.worker_of_object].tolist()
    for o in range(result.n_objects):
        members = result.members[result.member_indptr[o] : result.member_indptr[o + 1]].tolist()
        found[result.items[result.item_of_object[o]]].append(
            (
                tuple(result.boxes[o].tolist()),
                result.labels[o],
                float(result.confidence[o]),
                {(names[m], tuple(boxes.geometry[m].tolist())) for m in members},
            )
        )
    return found


@pytest.fixture(scope="module")
def pedestrians():
    folder = DATA / "pedestrians"
    return read_boxes(str(folder / "answers.csv")), read_gold_boxes(str(folder / "truth.csv")).boxes


# The table


def test_a_row_without_a_box_says_that_nothing_is_there():
    boxes = table([("i", "w", (1, 2, 3, 4), "x"), ("i", "v", NOTHING, None), ("j", "w", (math.nan,) * 4, None)])
    assert (boxes.n_items, boxes.n_answers, boxes.n_objects) == (2, 3, 1)
    assert boxes.geometry.tolist() == [[1, 2, 3, 4]]
    assert boxes.corners.tolist() == [[1, 2, 4, 6]]
    assert boxes.angle is None
    assert boxes.score is None


@pytest.mark.parametrize(
    ("box", "options", "message"),
    [
        ((1, 2, None, 4), {}, "row 1: width is missing and others are there"),
        ((1, math.inf, 3, 4), {}, "row 1: top is inf"),
        ((1, 2, 3, 0), {}, "row 1: height is 0.0; expected more than 0"),
        ((1, 2, -3, 4), {}, "row 1: width is -3.0"),
        ((1, 2, 3, 1e-200), {}, "row 1: height is 1e-200; expected more than 0"),
        ((-1e300, 2, 3, 4), {}, "row 1: left is -1e+300; expected at most 1e+12"),
        ((1, "two", 3, 4), {}, "row 1: top is 'two'; expected a number"),
        ((1, "2", 3, 4), {}, "row 1: top is '2'; expected a number"),
        ((8, 2, 3, 4), {"image_sizes": {"i": (10, 10)}}, "row 1: the box spans 8..11 by 2..6, outside its image of 10"),
        ((-1, 2, 3, 4), {"image_sizes": {"i": (10, 10)}}, "row 1: the box spans -1..2"),
        ((1, 2, 3, 4), {"score": [None, 0]}, "row 1: score is 0.0"),
        ((1, 2, 3, 4), {"score": [None, 1.5]}, "row 1: score is 1.5"),
        ((1, 2, 3, 4), {"score": [None]}, "left and score have 2 and 1 entries"),
        ((1, 2, 3, 4), {"angle": [0, math.inf]}, "row 1: angle is inf"),
        ((1, 6, 8, 2), {"angle": [0, 90], "image_sizes": {"i": (10, 10)}}, "row 1: the box spans 4..6 by 3..11"),
        ((1, 2, 3, 4), {"classes": ["x"]}, "row 1: label 'y' is not among the 1 classes"),
    ],
)
def test_what_is_no_box_is_refused_by_row(box, options, message):
    with pytest.raises(ObjectsError, match=re.escape(message)):
        table([("i", "w", (1, 2, 3, 4), "x"), ("i", "v", box, "y")], **options)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(BoxesError, match="left 1, top 1, width 1, height 2"):
        Boxes.from_columns(["i"], ["w"], [1], [2], [3], [4, 5])
    with pytest.raises(BoxesError, match="items and left have 2 and 1 entries"):
        Boxes.from_columns(["i", "j"], ["w"], [1], [2], [3], [4])


def test_a_box_that_ends_with_its_image_is_inside_whatever_its_last_bit():
    Boxes.from_columns(["i"], ["w"], [0.1], [0.0], [0.2], [1.0], image_sizes={"i": (0.3, 1.0)})


# Overlaps


def test_iou_equals_the_oracle():
    r = np.random.default_rng(0)
    one, other = (np.column_stack([r.uniform(0, 10, (60, 2)), r.uniform(1, 8, (60, 2))]) for _ in range(2))
    angles = [r.uniform(-200, 200, 60), r.choice([0.0, 45.0, 90.0, 33.0], 60)]
    flat, turned = pairwise_iou(one, other), pairwise_iou(one, other, *angles)
    for i in range(60):
        for j in range(60):
            assert flat[i, j] == pytest.approx(naive_boxes.iou(one[i], other[j]), abs=1e-12)
            expected = naive_boxes.turned_iou(one[i], angles[0][i], other[j], angles[1][j])
            assert turned[i, j] == pytest.approx(expected, abs=1e-6)
    assert np.allclose(turned, pairwise_iou(other, one, *angles[::-1]).T)


def test_a_quarter_turn_of_a_box_is_the_box_the_other_way_round():
    box, same = np.array([[10.0, 20.0, 30.0, 10.0]]), np.array([[20.0, 10.0, 10.0, 30.0]])
    assert pairwise_iou(box, same, np.array([90.0]))[0, 0] == pytest.approx(1)
    assert pairwise_iou(box, box, np.array([180.0]), np.array([0.0]))[0, 0] == pytest.approx(1)
    assert pairwise_iou(box, box + np.array([100, 0, 0, 0]), np.array([30.0]))[0, 0] == 0


# Clusters


@pytest.mark.parametrize("same_class", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_clusters_equal_the_oracle(seed, same_class):
    r = np.random.default_rng(seed)
    rows = [
        (
            int(r.integers(4)),
            f"w{r.integers(5)}",
            (*r.integers(0, 40, 2).tolist(), *r.integers(20, 40, 2).tolist()),
            label,
        )
        for label in r.choice(list("ab"), 120).tolist()
    ]
    rows = [row for i, row in enumerate(rows) if row not in rows[:i]]
    boxes = table(rows)
    found = cluster_boxes(boxes, 0.3, same_class=same_class)
    for i, item in enumerate(boxes.items.tolist()):
        mine = range(boxes.object_indptr[i], boxes.object_indptr[i + 1])
        marks = [
            (w, tuple(boxes.geometry[o].tolist()), boxes.classes[boxes.label[o]])
            for w, o in zip(boxes.worker_of_object[mine.start : mine.stop].tolist(), mine, strict=True)
        ]
        ours = {
            frozenset((found.members[found.member_indptr[c] : found.member_indptr[c + 1]] - mine.start).tolist())
            for c in range(found.indptr[i], found.indptr[i + 1])
        }
        theirs = naive_boxes.clusters(marks, 0.3, same_class=same_class)
        sizes = sorted(map(len, ours)), sorted(map(len, theirs))
        assert ours == {frozenset(c) for c in theirs} or len(set(marks)) < len(marks), (item, sizes)


def test_nobody_has_two_boxes_in_a_cluster_however_many_people_there_are():
    r = np.random.default_rng(1)
    rows = [(0, w, (*r.normal(0, 1, 2).tolist(), 30, 30), "x") for w in range(150) for _ in range(3)]
    boxes = table(rows)
    found = cluster_boxes(boxes, 0.2, same_class=False)
    workers = boxes.worker_of_object[found.members]
    for start, stop in zip(found.member_indptr[:-1], found.member_indptr[1:], strict=True):
        assert np.unique(workers[start:stop]).size == stop - start
    assert sorted(found.members.tolist()) == list(range(boxes.n_objects))
    once = cluster_boxes(table(rows[::3]), 0.2, same_class=False)
    assert np.diff(once.member_indptr).tolist() == [150]


def test_two_people_side_by_side_stay_apart():
    """Each worker drew both; a chain through sloppy boxes must not join them."""
    boxes = table([("i", w, (x + d, 0, 20, 40), "p") for d, w in enumerate("abc") for x in (0, 8)])
    assert sorted(np.diff(cluster_boxes(boxes, 0.3, same_class=False).member_indptr).tolist()) == [3, 3]


# Medians


@pytest.mark.parametrize(("quorum", "same_class"), [(0.5, False), (0, False), (0.7, True)])
def test_median_boxes_equal_the_oracle(quorum, same_class):
    rows, _ = crowd(3, workers="abcde", miss=dict.fromkeys("abcde", 0.3))
    rows = [
        (item, w, box, "ab"[hash((item, w)) % 2] if box != NOTHING and i % 5 == 0 else label)
        for i, (item, w, box, label) in enumerate(rows)
    ]
    boxes = table(rows)
    found = merged_of(MedianBoxes(quorum=quorum, same_class=same_class).fit(boxes), boxes)
    expected = naive_boxes.merged(answers_of(rows), quorum, 0.4, same_class=same_class)
    assert found.keys() == expected.keys()
    for item, theirs in expected.items():
        assert len(found[item]) == len(theirs)
        confidences = [confidence for _, _, confidence, _ in found[item]]
        assert confidences == sorted(confidences, reverse=True)
        for box, labels, confidence, members in theirs:
            ours = next(one for one in found[item] if one[3] == members)
            assert ours[0] == pytest.approx(box, abs=1e-9)
            assert ours[1] in labels
            assert ours[2] == pytest.approx(confidence, abs=1e-12)


def test_mean_and_what_one_worker_drew():
    boxes = Boxes.from_columns(list("iij"), list("abc"), [0.0, 2.0, 0.1], [0, 0, 0.3], [10, 10, 0.7], [10, 14, 0.2])
    result = MedianBoxes(merge="mean").fit(boxes)
    assert result.boxes[0].tolist() == [1, 0, 10, 12]
    assert result.boxes[1].tolist() == [0.1, 0.3, 0.7, 0.2], "to the last bit"
    assert result.annotators(boxes) == [["a", "b"], ["c"]]
    assert result.worker_quality.tolist() == [1, 1, 1]


def test_a_tie_between_classes_is_broken_by_names_and_seed():
    rows = [(f"i{n}", w, (0, 0, 10, 10), label) for n in range(40) for w, label in (("a", "x"), ("b", "y"))]
    found = [MedianBoxes(seed=seed).fit(table(rows)).labels.tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert set(found[0]) == {"x", "y"}
    assert MedianBoxes().fit(table(rows)).confidence[0] == pytest.approx(7 / 8 / 2)


def test_turned_boxes_are_merged_in_the_nearest_quarter_turn():
    boxes = Boxes.from_columns(
        list("iii"), list("abc"), [0, 10, 0], [0, -10, 0], [40, 20, 40], [20, 40, 20], angle=[10, 102, 188.0]
    )
    for method in (MedianBoxes(), WeightedBoxes()):
        result = method.fit(boxes)
        assert result.n_objects == 1
        expected = np.array([[0.0, 0.0, 40.0, 20.0]])
        assert pairwise_iou(result.boxes, expected, result.angle, np.array([10.0]))[0, 0] > 0.97
        assert -90 <= result.angle[0] < 90
    assert MedianBoxes().fit(boxes).to_columns().keys() >= {"angle", "confidence"}


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (MedianBoxes, {"quorum": 1.1}),
        (MedianBoxes, {"quorum": math.nan}),
        (MedianBoxes, {"iou": 0}),
        (MedianBoxes, {"merge": "mode"}),
        (WeightedBoxes, {"threshold": -0.1}),
        (WeightedBoxes, {"smoothing": 0}),
        (WeightedBoxes, {"max_iter": 0}),
        (WeightedBoxes, {"tol": math.nan}),
        (FusedBoxes, {"confidence": "mean"}),
        (FusedBoxes, {"weights": {"w": 0}}),
        (FusedBoxes, {"weights": 3}),
        (SoftNonMaximumBoxes, {"sigma": 0}),
        (SoftNonMaximumBoxes, {"decay": "hard"}),
    ],
)
def test_wrong_parameters_are_named(method, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).rstrip("s")):
        method(**wrong)


# What is learned


def candidates_of(boxes, found):
    workers = boxes.worker_of_object[found.members]
    rows = []
    for i in range(boxes.n_items):
        looked = boxes.worker[boxes.item_indptr[i] : boxes.item_indptr[i + 1]].tolist()
        for c in range(found.indptr[i], found.indptr[i + 1]):
            marked = workers[found.member_indptr[c] : found.member_indptr[c + 1]].tolist()
            rows.append((marked, [w for w in looked if w not in marked]))
    return rows


def test_existence_equals_the_oracle_and_is_at_the_top_of_its_objective():
    rows, _ = crowd(4, n_items=12, miss={"bad": 0.4}, false={"bad": 0.6})
    boxes = table(rows)
    found = cluster_boxes(boxes, 0.4, same_class=False)
    learned = learn_existence(boxes, found, 3.0, 2000, 1e-13)
    assert (np.diff(learned.objective) > -1e-9).all()
    candidates = candidates_of(boxes, found)
    miss, false = (dict(enumerate(rate.tolist())) for rate in (learned.miss, learned.false_positive))
    assert learned.exists == pytest.approx(naive_boxes.existence(candidates, miss, false, learned.obvious)[1], abs=1e-6)

    def objective(miss, false, obvious):
        return naive_boxes.existence_objective(candidates, miss, false, obvious, 3.0, TYPICAL_RATE)

    best = objective(miss, false, learned.obvious)
    assert 0.01 < learned.obvious < 0.99
    for factor in (0.95, 1.05):
        assert objective(miss, false, learned.obvious * factor) < best + 1e-6
    assert learned.objective[-1] == pytest.approx(best, abs=1e-4)
    for rates in (miss, false):
        for w in rates:
            for factor in (0.9, 1.1):
                moved = {name: dict(r) for name, r in (("miss", miss), ("false", false))}
                moved["miss" if rates is miss else "false"][w] *= factor
                assert objective(moved["miss"], moved["false"], learned.obvious) < best + 1e-6


def test_merged_edges_solve_the_equation_of_their_model():
    rows, _ = crowd(5, workers=["bad", "fair", "good", "other"], noise={"good": 0.02, "bad": 0.15})
    boxes = table(rows)
    result = WeightedBoxes(threshold=0, tol=1e-12, max_iter=500).fit(boxes)
    medians = MedianBoxes(quorum=0).fit(boxes)
    size = {frozenset(m): b[2:] for m, b in zip(members(medians), medians.boxes, strict=True)}
    for mine, box in zip(members(result), result.boxes, strict=True):
        if len(mine) < 2:
            continue
        ends = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
        off = (boxes.corners[mine] - ends) / np.tile(size[frozenset(mine)], 2)
        variance = result.worker_deviation[boxes.worker_of_object[mine]][:, None] ** 2
        assert ((off / (DEGREES * variance + off**2)).sum(axis=0)) == pytest.approx(np.zeros(4), abs=1e-4)
    assert result.worker_deviation[2] < result.worker_deviation[1] < result.worker_deviation[0], "good, fair, bad"


def members(result):
    bounds = result.member_indptr.tolist()
    return [result.members[a:b].tolist() for a, b in itertools.pairwise(bounds)]


def test_weighting_finds_out_who_errs_and_gains_by_it():
    workers = ["good1", "good2", "lazy1", "lazy2", "lazy3", "wild"]
    rows, truth = crowd(
        6,
        n_items=150,
        workers=workers,
        noise={"good1": 0.03, "good2": 0.03, "wild": 0.25, "lazy1": 0.1, "lazy2": 0.1, "lazy3": 0.1},
        miss={"good1": 0.03, "good2": 0.03, "lazy1": 0.6, "lazy2": 0.6, "lazy3": 0.6},
        false={"wild": 0.9},
    )
    gold = table([(i, "g", box, label) for i, true in truth.items() for box, label in true])
    boxes = table(rows)
    weighted, median = WeightedBoxes().fit(boxes), MedianBoxes().fit(boxes)
    ours, theirs = score_boxes(weighted, gold), score_boxes(median, gold)
    assert ours.f1 > theirs.f1 + 0.03
    assert ours.mean_similarity > theirs.mean_similarity + 0.01
    learned = dict(zip(weighted.workers.tolist(), weighted.worker_miss.tolist(), strict=True))
    assert min(learned[w] for w in workers if "lazy" in w) > 3 * max(learned["good1"], learned["good2"])
    false = dict(zip(weighted.workers.tolist(), weighted.worker_false_positive.tolist(), strict=True))
    assert false["wild"] == max(false.values())


def test_classes_follow_those_who_are_right():
    r = np.random.default_rng(7)
    rows, truth = [], {}
    for n in range(200):
        truth[n] = str(r.choice(list("abcd")))
        for w in range(5):
            right = w < 2 or r.random() < 0.35
            rows.append((n, w, (0, 0, 10, 10), truth[n] if right else str(r.choice(list("abcd")))))
    boxes = table(rows)
    accuracy = {
        method.name: np.mean([truth[n] == label for n, label in zip(result.items, result.labels, strict=True)])
        for method in (MedianBoxes(), WeightedBoxes())
        for result in (method.fit(boxes),)
    }
    assert accuracy["box_weighted"] > 0.98 > accuracy["box_median"] + 0.01
    assert (WeightedBoxes().fit(boxes).confidence <= 1).all()


# Parity


@pytest.mark.parametrize("case", range(5))
def test_ensembles_have_the_bits_of_ensemble_boxes(case):
    found = json.loads((DATA / "ensemble_boxes.json").read_text())["cases"][case]
    rows = [
        (0, model, box, label, score)
        for model, columns in enumerate(zip(found["boxes"], found["scores"], found["labels"], strict=True))
        for box, score, label in zip(*columns, strict=True)
    ]
    items, models, corners, labels, scores = zip(*rows, strict=True)
    ends = np.array(corners)
    boxes = Boxes.from_columns(
        items, models, ends[:, 0], ends[:, 1], *(ends[:, 2:] - ends[:, :2]).T, labels, score=scores
    )
    assert (boxes.corners[:, 2:] >= boxes.corners[:, :2]).all()
    weights = dict(enumerate(found["weights"] or []))
    share = np.array([weights[w] / sum(weights.values()) if weights else 1.0 for w in boxes.worker_of_object])
    common = {"iou": found["iou"], "weights": weights}
    for name, theirs in found["out"].items():
        kind, _, variant = name.partition("/")
        method = {
            "wbf": lambda v=variant: FusedBoxes(least_score=found["skip"], confidence=v, **common),
            "nmw": lambda: NonMaximumWeightedBoxes(least_score=found["skip"], **common),
            "nms": lambda: NonMaximumBoxes(**common),
            "soft": lambda v=variant: SoftNonMaximumBoxes(decay=v, sigma=0.1, least_confidence=0.3, **common),
        }[kind]()
        result = method.fit(boxes)
        confidence = (boxes.score * share)[result.members] if kind == "soft" else result.confidence
        ours = np.column_stack([result.boxes, confidence, result.labels.astype(float)])
        ours[:, 2:4] += ours[:, :2]
        assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs)), name


def test_a_fused_box_of_one_heavy_model_is_not_surer_than_sure():
    boxes = Boxes.from_columns(list("iii"), list("aab"), [0, 1, 90], [0, 0, 90], [50] * 3, [50] * 3)
    assert FusedBoxes(weights={"a": 3}).fit(boxes).confidence.max() == 1
    assert FusedBoxes(least_confidence=0.9).fit(boxes).n_objects == 1
    assert FusedBoxes(weights=(("a", 3.0),)) == FusedBoxes(weights={"a": 3})


@pytest.mark.parametrize("method", METHODS[2:])
def test_ensembles_refuse_turned_boxes(method):
    with pytest.raises(BoxesError, match=f"{method.name} cannot merge boxes that are turned; use box_median"):
        method.fit(Boxes.from_columns(list("i"), list("a"), [0], [0], [5], [5], angle=[3]))


# Every method


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_where_nobody_drew_anything_there_is_nothing(method):
    result = method.fit(table([("i", "a", NOTHING, None), ("j", "b", NOTHING, None)]))
    assert result.n_objects == 0
    assert result.indptr.tolist() == [0, 0, 0]
    assert result.boxes.shape == (0, 4)
    assert np.isnan(result.worker_quality).all()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_streams_end_where_the_batch_does(method):
    rows, _ = crowd(8, n_items=9, workers="abc")
    assert isinstance(method, Method)
    whole = method.fit(table(rows))
    one, other = method.state(), method.state()
    assert isinstance(one, State)
    for n, row in enumerate(rows):
        (one if n % 3 else other).add(table([row]))
    one.merge(type(one).load(other.save()))
    found = type(one).load(one.save()).posterior(whole.items.tolist())
    assert found.indptr.tolist() == whole.indptr.tolist()
    assert np.allclose(found.boxes, whole.boxes, atol=1e-6)
    assert found.confidence == pytest.approx(whole.confidence, abs=1e-6)
    assert found.labels.tolist() == whole.labels.tolist()
    assert one.save() == one.save()
    part = one.posterior(["i4", "i2"])
    places = [whole.items.tolist().index(name) for name in ("i4", "i2")]
    expected = np.concatenate([whole.boxes[whole.indptr[p] : whole.indptr[p + 1]] for p in places])
    assert np.allclose(part.boxes, expected, atol=1e-6)
    with pytest.raises(KeyError, match="no answers to item 'nowhere'"):
        one.posterior(["nowhere"])


def test_snapshots_keep_everything_and_refuse_what_does_not_fit():
    state = FusedBoxes(weights={"a": 2.0}).state()
    state.add(
        Boxes.from_columns(
            list("ij"), list("ab"), [0, None], [0, None], [5, None], [5, None], ["x", None], score=[0.5, None]
        )
    )
    state.add(Boxes.from_columns(list("j"), list("a"), [0], [0], [5], [5], ["y"], angle=[3]))
    again = type(state).load(state.save())
    assert again.method == state.method
    kept = again.annotations()
    assert kept.classes.tolist() == ["x", "y"], "not the empty one of a table without boxes"
    assert kept.score.tolist() == [0.5, 1.0]
    assert kept.angle.tolist() == [0, 3]
    names, arrays = kept.dump()
    with pytest.raises(SnapshotError, match="do not fit"):
        Boxes.restore(names, arrays | {"geometry": arrays["geometry"][:1]})
    with pytest.raises(SnapshotError, match="do not fit"):
        Boxes.restore(names | {"workers": ["a"]}, arrays)


def test_real_people(pedestrians):
    read, gold = pedestrians
    assert str(read.left_out[0]).endswith("line 39: a box of 0 by 0 has no area")
    boxes = read.boxes
    assert (boxes.n_items, boxes.n_answers) == (20, 140)
    median, weighted = (score_boxes(m.fit(boxes), gold) for m in (MedianBoxes(), WeightedBoxes()))
    assert median.n_gold == 21
    assert min(median.f1, weighted.f1) > 0.85
    assert min(median.mean_similarity, weighted.mean_similarity) > 0.75


def test_scores_compare_classes_if_both_sides_have_some():
    boxes = table([("i", "a", (0, 0, 10, 10), "x"), ("j", "a", NOTHING, None)])
    result = MedianBoxes().fit(boxes)
    wrong = table([("i", "g", (0, 0, 10, 10), "y"), ("k", "g", (0, 0, 1, 1), "y")])
    plain = Boxes.from_columns(list("i"), list("g"), [0], [0], [10], [10])
    assert score_boxes(result, wrong).f1 == 0
    assert score_boxes(result, plain).f1 == 1
    assert score_boxes(result, table([("j", "g", (0, 0, 1, 1), "x")])).recall == 0
