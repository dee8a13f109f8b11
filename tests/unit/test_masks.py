"""Methods for masks: equal to their oracles and to the peers, and what tables refuse."""

import tracemalloc
from pathlib import Path

import naive_masks
import numpy as np
import pytest

from voxpop.consolidation.masks import (
    MaskCrowdEM,
    MaskError,
    MaskMajority,
    MaskMultilabelStaple,
    MaskPlurality,
    MaskRasa,
    Masks,
    MaskStaple,
    Runs,
    smooth_probability,
)
from voxpop.consolidation.masks.patterns import MOST_BYTES, bits_for
from voxpop.consolidation.masks.vote import packed_majority, raters_needed
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.ties import choose_labels

PEERS = np.load(Path(__file__).parents[1] / "data/masks/peers.npz")
RATERS = (2, 3, 4, 5, 6, 7, 9)
BINARY = (MaskMajority(), MaskStaple(), MaskStaple(pooled=True), MaskCrowdEM(), MaskRasa())
LABELED = (MaskPlurality(), MaskMultilabelStaple())


def unpacked(name, R):
    shape = PEERS[f"size_{R}"]
    return np.unpackbits(PEERS[f"{name}_{R}"], count=int(np.prod(shape[-2:]))).reshape(shape[-2:])


def binary(R):
    shape = PEERS[f"size_{R}"]
    return np.unpackbits(PEERS[f"binary_{R}"], count=int(np.prod(shape))).reshape(shape)


def of_one(masks, item="i"):
    return Masks.from_dense([item] * len(masks), [f"w{r:02}" for r in range(len(masks))], list(masks))


def as_runs(masks, item="i"):
    return Masks.from_runs(
        [item] * len(masks), [f"w{r:02}" for r in range(len(masks))], [Runs.from_mask(mask) for mask in masks]
    )


def of_labels(images, K=None, item="i"):
    classes = None if K is None else list(range(K))
    return Masks.from_labels([item] * len(images), [f"w{r:02}" for r in range(len(images))], list(images), classes)


def random_masks(seed, R, H=13, W=17):
    """Masks of raters who mostly agree, so that patterns repeat."""
    dice = np.random.default_rng(seed)
    truth = np.zeros((H, W), np.uint8)
    truth[H // 4 : H // 2 + 1, W // 4 : W // 2 + 2] = 1
    return np.stack([np.where(dice.random((H, W)) < dice.uniform(0.05, 0.3), 1 - truth, truth) for _ in range(R)])


@pytest.mark.parametrize("R", RATERS)
def test_majority_equals_crowd_kit_and_simpleitk(R):
    """crowd-kit sends ties to the foreground; SimpleITK marks them, as plurality of two classes does."""
    masks = binary(R)
    expected = unpacked("mv", R)
    assert np.array_equal(MaskMajority(ties="foreground").fit(of_one(masks)).mask(0), expected)
    assert np.array_equal(MaskMajority(ties="foreground").fit(as_runs(masks)).mask(0), expected)
    assert np.array_equal(MaskPlurality(ties="undecided").fit(of_labels(masks)).mask(0), PEERS[f"voting_{R}"])


@pytest.mark.parametrize("R", RATERS)
@pytest.mark.parametrize("table", [of_one, as_runs])
def test_staple_equals_simpleitk(R, table):
    result = MaskStaple(max_iter=10**6).fit(table(binary(R)))
    assert np.abs(result.probability(0) - PEERS[f"W_{R}"]).max() < 1e-9
    assert np.abs(result.sensitivity - PEERS[f"p_{R}"]).max() < 1e-9
    assert np.abs(result.specificity - PEERS[f"q_{R}"]).max() < 1e-9
    assert np.array_equal(result.mask(0), PEERS[f"W_{R}"] > 0.5)
    assert np.allclose(result.answer_quality, (result.sensitivity + result.specificity) / 2)


@pytest.mark.parametrize("R", RATERS)
@pytest.mark.parametrize("table", [of_one, as_runs])
def test_crowd_kit_methods_give_its_masks(R, table):
    """Also with an even number of raters, where the last bit of a sum of weights decides ties."""
    masks = table(binary(R))
    assert np.array_equal(MaskCrowdEM().fit(masks).mask(0), unpacked("em", R))
    assert np.array_equal(MaskRasa().fit(masks).mask(0), unpacked("rasa", R))


@pytest.mark.parametrize("R", RATERS)
def test_label_images_equal_simpleitk(R):
    images = PEERS[f"labels_{R}"]
    table = of_labels(images)
    K = table.classes.size
    voted = MaskPlurality(ties="undecided").fit(table)
    assert np.array_equal(voted.mask(0), PEERS[f"plurality_{R}"])
    result = MaskMultilabelStaple(simpleitk=True).fit(table)
    assert np.array_equal(result.mask(0), PEERS[f"multi_{R}"])
    learned = PEERS[f"confusion_{R}"][:, :K].transpose(0, 2, 1)
    assert np.abs(result.confusion - learned).max() < 1e-9


def test_ties_teach_multilabel_staple_only_where_they_happened():
    """SimpleITK counts a tie in the next answer's row; with one good rater among bad ones the default finds out who."""
    dice = np.random.default_rng(3)
    truth = np.repeat(np.arange(4, dtype=np.uint8), 900).reshape(60, 60)
    images = [
        np.where(dice.random(truth.shape) < wrong, dice.integers(0, 4, truth.shape), truth) for wrong in (0.1, 0.6, 0.7)
    ]
    table = of_labels([image.astype(np.uint8) for image in images])
    right = (MaskMultilabelStaple().fit(table).mask(0) == truth).mean()
    assert right >= (MaskMultilabelStaple(simpleitk=True).fit(table).mask(0) == truth).mean()
    assert right > (MaskPlurality().fit(table).mask(0) == truth).mean()


@pytest.mark.parametrize("R", [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33, 64])
@pytest.mark.parametrize(
    ("threshold", "ties"), [(0.5, "background"), (0.5, "foreground"), (0.3, "background"), (1, "background")]
)
def test_majority_equals_its_oracle(R, threshold, ties):
    masks = random_masks(R, R)
    method = MaskMajority(threshold, ties)
    expected = naive_masks.majority(masks.tolist(), threshold, ties)
    dense, runs = method.fit(of_one(masks)), method.fit(as_runs(masks))
    assert dense.mask(0).tolist() == expected
    assert runs.mask(0).tolist() == expected
    assert runs.runs(0) == dense.runs(0) == Runs.from_mask(np.array(expected))
    assert np.allclose(dense.probability(0), masks.mean(axis=0))
    assert np.allclose(runs.probability(0), masks.mean(axis=0))
    packed = packed_majority([np.packbits(mask) for mask in masks], raters_needed(R, threshold, ties))
    assert np.unpackbits(packed, count=masks[0].size).reshape(masks[0].shape).tolist() == expected


def test_majority_over_many_blocks():
    """Sizes around whole vectors and blocks, with the last pixels in a vector of their own."""
    dice = np.random.default_rng(0)
    for width in (1, 63, 64, 65, 127, 128, 4095, 4096, 4097, 4159, 8193):
        masks = (dice.random((19, 1, width)) < 0.5).astype(np.uint8)
        assert np.array_equal(MaskMajority().fit(of_one(masks)).mask(0), masks.sum(axis=0) > 9)
        result = MaskStaple(max_iter=1).fit(of_one(masks[:5]))
        W = result.probability(0)
        assert np.array_equal(result.mask(0), W > 0.5)
        for pattern in range(32):
            there = (masks[:5, 0] == np.array([pattern >> r & 1 for r in range(5)])[:, None]).all(axis=0)
            assert np.unique(W[0, there]).size <= 1


@pytest.mark.parametrize("R", [2, 3, 5, 9, 17, 40])
def test_staple_equals_its_oracle(R):
    """Patterns in tables of two sizes and hashed ones; what is learned and W."""
    masks = random_masks(R, R)
    for n_iter in (1, 2, 7):
        W, p, q = naive_masks.staple(masks.tolist(), n_iter, 0.8)
        result = MaskStaple(confidence_weight=0.8, tolerance=0, max_iter=n_iter).fit(of_one(masks))
        assert np.allclose(result.probability(0).ravel(), W, atol=1e-9)
        assert np.allclose(result.sensitivity, p, atol=1e-9)
        assert np.allclose(result.specificity, q, atol=1e-9)


def test_pooled_staple_equals_its_oracle():
    """Workers are learned from all items; items have different workers and sizes."""
    dice = np.random.default_rng(5)
    crowd = [f"w{r}" for r in range(6)]
    images = []
    for i in range(4):
        chosen = sorted(dice.choice(6, 3 + i % 2, replace=False).tolist())
        masks = random_masks(i, len(chosen), 7 + i, 9)
        images.append({crowd[w]: mask.tolist() for w, mask in zip(chosen, masks, strict=True)})
    rows = [(i, w, np.array(mask, np.uint8)) for i, image in enumerate(images) for w, mask in image.items()]
    table = Masks.from_dense(*zip(*rows, strict=True))
    result = MaskStaple(pooled=True, tolerance=0, max_iter=6).fit(table)
    W, quality = naive_masks.pooled_staple(images, 6)
    for i, expected in enumerate(W):
        assert np.allclose(result.probability(i).ravel(), expected, atol=1e-9)
    for place, name in enumerate(table.workers.tolist()):
        assert result.worker_quality[place] == pytest.approx(sum(quality[name]) / 2, abs=1e-9)


@pytest.mark.parametrize(("R", "K"), [(3, 2), (3, 5), (4, 3), (6, 9), (12, 40)])
def test_label_images_equal_their_oracles(R, K):
    dice = np.random.default_rng(R * K)
    truth = dice.integers(0, K, (5, 3)).repeat(4, 0).repeat(5, 1)
    images = np.stack(
        [np.where(dice.random(truth.shape) < 0.3, dice.integers(0, K, truth.shape), truth) for _ in range(R)]
    )
    table = of_labels(images.astype(np.int32), K)
    for n_iter in (1, 3):
        result = MaskMultilabelStaple(tolerance=0, max_iter=n_iter).fit(table)
        posterior = np.array(naive_masks.multilabel_staple(images.tolist(), K, n_iter))
        shown = np.stack([result.probability(0, k).ravel() for k in range(K)], axis=1)
        assert np.allclose(shown, posterior, atol=1e-9)
    voted = MaskPlurality().fit(table).mask(0)
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            best = naive_masks.best_classes(images[:, y, x].tolist())
            shares = np.isin(np.arange(K), best).astype(float)[None, :]
            assert voted[y, x] == choose_labels(shares, table.items, table.classes, 0)[0]


def test_a_fit_knows_what_it_is_worth():
    """Confidence is expected IoU; quality is IoU, agreement, or what was learned."""
    masks = np.zeros((3, 4, 4), np.uint8)
    masks[:, 0] = 1
    masks[2, 1] = 1
    result = MaskMajority().fit(of_one(masks))
    assert result.confidence.tolist() == [pytest.approx(4 / (4 + 4 / 3))]
    assert result.worker_quality.tolist() == [1, 1, 0.5]
    labels = MaskPlurality().fit(of_labels(masks))
    assert labels.confidence.tolist() == [pytest.approx((12 + 4 * 2 / 3) / 16)]
    assert labels.worker_quality.tolist() == [1, 1, 0.75]
    undecided = MaskPlurality(ties="undecided").fit(of_labels(masks[1:]))
    assert undecided.mask(0)[1].tolist() == [2] * 4
    assert undecided.confidence.tolist() == [0.75]


@pytest.mark.parametrize("method", BINARY, ids=repr)
@pytest.mark.parametrize("table", [of_one, as_runs])
@pytest.mark.parametrize("value", [0, 1])
def test_nobody_drew_anything_or_everybody_everything(method, table, value):
    """An empty mask is an answer; nothing divides 0 by 0."""
    masks = np.full((4, 5, 70), value, np.uint8)
    result = method.fit(table(masks))
    assert np.array_equal(result.mask(0), masks[0])
    assert result.runs(0) == Runs.from_mask(masks[0])
    assert np.allclose(result.probability(0), value)
    assert result.confidence.tolist() == [1.0]


def test_staple_between_raters_without_a_fault():
    """Two who contradict each other wherever they say something: W stays a number."""
    masks = np.zeros((2, 6, 6), np.uint8)
    masks[0, :3] = masks[1, 3:] = 1
    W = MaskStaple().fit(of_one(masks)).probability(0)
    assert np.isfinite(W).all()
    assert ((W >= 0) & (W <= 1)).all()


def test_smoothing_equals_its_oracle():
    dice = np.random.default_rng(2)
    for strength, n_iter in ((0.0, 30), (0.7, 3), (2.0, 10)):
        W = dice.random((7, 5))
        W[0, 0], W[6, 4] = 0, 1
        assert np.allclose(smooth_probability(W, strength, n_iter), naive_masks.smoothed(W.tolist(), strength, n_iter))
    speck = np.full((9, 9), 0.2)
    speck[4, 4] = 0.8
    assert smooth_probability(speck)[4, 4] < 0.5 < smooth_probability(1 - speck)[4, 4]
    for wrong in (np.array([[0.5, 1.5]]), np.array([[np.nan]]), np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(MaskError):
            smooth_probability(wrong)
    with pytest.raises(ValueError, match="strength is -1"):
        smooth_probability(speck, -1)


def test_a_table_keeps_items_and_workers_in_order():
    """Items by first appearance, workers sorted; results come by item, each of its own size."""
    rows = [("b", 2), ("a", 10), ("b", 1), ("a", 2)]
    arrays = [np.full((3, 4) if item == "b" else (5, 2), worker == 2, np.bool_) for item, worker in rows]
    for table in (
        Masks.from_dense(*zip(*rows, strict=True), arrays),
        Masks.from_runs(*zip(*rows, strict=True), [Runs.from_mask(array) for array in arrays]),
        Masks.from_coco(*zip(*rows, strict=True), [Runs.from_mask(array).to_coco() for array in arrays]),
        Masks.from_labels(*zip(*rows, strict=True), [array.astype(np.int64) for array in arrays]),
    ):
        assert table.items.tolist() == ["b", "a"]
        assert table.workers.tolist() == [1, 2, 10]
        assert [table.size(item) for item in range(2)] == [(3, 4), (5, 2)]
        assert table.worker.tolist() == [0, 1, 1, 2]
        method = MaskPlurality("undecided") if table.form == "labels" else MaskMajority(1)
        shown = method.fit(table)
        assert shown.mask(0).shape == (3, 4)
        assert shown.of_items(["a", "b"]).mask(1).shape == (3, 4)
        assert np.array_equal(method.fit(table.of_items(["a"])).mask(0), shown.mask(1))
        with pytest.raises(KeyError):
            table.of_items(["c"])


def test_unconstrained_views_are_not_copied():
    """Boolean arrays, and bytes of 0 and 1, are used as they are."""
    masks = [np.ones((4, 4), np.bool_), np.ones((4, 4), np.uint8)]
    table = of_one(masks)
    assert all(np.shares_memory(given, used) for given, used in zip(masks, table.arrays, strict=True))


@pytest.mark.parametrize("method", [*BINARY, *LABELED], ids=repr)
def test_streams_equal_batches(method):
    """In parts, merged and saved; of some items only."""
    assert isinstance(method, Method)
    assert isinstance(method.state(), State)
    for form in ("labels",) if method in LABELED else ("dense", "runs"):
        rows = [(f"i{i}", f"w{w}", mask) for i in range(3) for w, mask in enumerate(random_masks(i, 4, 6 + i, 11))]

        def table(rows, form=form):
            items, workers, masks = zip(*rows, strict=True)
            if form == "runs":
                return Masks.from_runs(items, workers, [Runs.from_mask(mask) for mask in masks])
            if form == "labels":
                return Masks.from_labels(items, workers, masks, ["no", "yes"])
            return Masks.from_dense(items, workers, masks)

        expected = method.fit(table(rows))
        one, other = method.state(), method.state()
        with pytest.raises(VotesError):
            one.posterior()
        one.add(table(rows[:5]))
        other.add(table(rows[5:8]))
        other.add(table(rows[8:]))
        one.merge(other)
        one = type(one).load(one.save())
        assert len(one) == len(rows)
        for shown, places in ((one.posterior(), [0, 1, 2]), (one.posterior(["i2", "i0"]), [2, 0])):
            for place, item in enumerate(places):
                assert np.array_equal(shown.mask(place), expected.mask(item))
                assert np.allclose(shown.probability(place), expected.probability(item))
            assert np.allclose(shown.confidence, expected.confidence[places])


IMAGE = np.zeros((3, 4), np.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Masks.from_dense([], [], []), "no masks"),
        (lambda: Masks.from_dense(["a"], ["w", "v"], [IMAGE]), "2 workers and 1 masks"),
        (lambda: Masks.from_dense(["a", None], ["w", "v"], [IMAGE] * 2), "row 1: item"),
        (lambda: Masks.from_dense(["a"] * 2, ["w"] * 2, [IMAGE] * 2), "item 'a': worker 'w' has two masks"),
        (
            lambda: Masks.from_dense(["b", "a", "a"], ["w", "w", "v"], [IMAGE, IMAGE, IMAGE.T]),
            "item 'a': the mask of worker 'w' has 3 x 4 pixels, that of 'v' 4 x 3",
        ),
        (lambda: Masks.from_dense(["a"], ["w"], [IMAGE[0]]), "row 0: a mask has shape"),
        (lambda: Masks.from_dense(["a"], ["w"], [IMAGE.astype(float)]), "row 0: .*float64"),
        (lambda: Masks.from_dense(["a"] * 65, range(65), [IMAGE] * 65), "65 raters; the most is 64"),
        (lambda: Masks.from_labels(["a"], ["w"], [IMAGE - 1]), "row 0: a pixel is 255; expected 0 to 254"),
        (lambda: Masks.from_labels(["a"], ["w"], [IMAGE.astype(int) - 1]), "a pixel is -1"),
        (lambda: Masks.from_labels(["a"], ["w"], [IMAGE + 2], ["x", "y"]), "a pixel is 2; expected 0 to 1"),
        (lambda: Masks.from_labels(["a"], ["w"], [IMAGE.astype(float)]), "row 0: a label image has"),
        (lambda: Masks.from_labels(["a"], ["w"], [IMAGE], range(256)), "256 classes"),
        (lambda: Masks.from_coco(["a"], ["w"], [{"size": [3, 4], "counts": "0"}]), "sum to 0"),
        (lambda: Masks.from_coco(["a"], ["w"], [{"size": [3], "counts": "<"}]), "row 0: size is"),
        (lambda: Masks.from_coco(["a"], ["w"], [{"size": [3, 4], "counts": [5, 5]}]), "row 0: .*sum to 10"),
        (lambda: MaskMajority().fit(of_labels([IMAGE])), "mask_majority takes dense or runs masks, found labels"),
        (lambda: MaskPlurality().fit(of_one([IMAGE])), "mask_plurality takes labels masks, found dense"),
        (lambda: Masks.joined([of_one([IMAGE]), as_runs([IMAGE])]), "cannot be joined"),
    ],
)
def test_what_tables_refuse(make, message):
    with pytest.raises(MaskError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskMajority(threshold=0), "threshold is 0"),
        (lambda: MaskMajority(ties="seeded"), "ties is 'seeded'"),
        (lambda: MaskPlurality(ties="background"), "ties is 'background'"),
        (lambda: MaskStaple(max_iter=0), "max_iter is 0"),
        (lambda: MaskStaple(tolerance=float("nan")), "tolerance is nan"),
        (lambda: MaskStaple(confidence_weight=0), "confidence_weight is 0"),
        (lambda: MaskMultilabelStaple(tolerance=-1), "tolerance is -1"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bits_for_classes():
    assert [bits_for(K) for K in (1, 2, 3, 4, 5, 8, 9, 255)] == [1, 1, 2, 2, 3, 3, 4, 8]


def test_a_hundred_megapixels_in_bounded_memory():
    """Nine masks of 10,000 x 10,000: besides the output no more than the constant that ``patterns.py`` states."""
    side, R = 10_000, 9
    masks = [np.zeros((side, side), np.uint8) for _ in range(R)]  # untouched pages take no memory
    for r, mask in enumerate(masks):
        mask[4000 + r : 4200 + r] = 1
    table = of_one(masks)
    for method in (MaskMajority(), MaskStaple(), MaskRasa()):
        method.fit(of_one([mask[:2, :200] for mask in masks])).mask(0)  # compiles
        tracemalloc.start()
        result = method.fit(table)
        shown = result.mask(0)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most - shown.nbytes < MOST_BYTES
        assert shown[4008:4200].all()
        assert 195 * side < int(shown.sum()) < 205 * side
