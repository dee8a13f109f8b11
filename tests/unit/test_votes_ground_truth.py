"""The service's own consolidation: its output on real answers, its arithmetic, its edges."""

import csv
import gzip
from pathlib import Path

import naive_scales
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.ground_truth import GroundTruth, GroundTruthState

BIRDS = Path(__file__).parents[1] / "data" / "ground_truth" / "birds"
CLASSES = ["Duck", "Sparrow", "Woodpecker", "Owl", "Parrot", "Turkey", "Falcon", "Swan", "Goose", "Canary"]


def read(name):
    with gzip.open(BIRDS / name, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def birds():
    rows = read("answers.csv.gz")
    return [(row["item"], row["worker"], row["label"].replace(" ", "")) for row in rows]


def random_triples(seed, n_items=40, n_workers=8, K=3, per_item=4):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    triples = []
    for item in range(n_items):
        for worker in generator.choice(n_workers, per_item, replace=False):
            right = generator.random() < 0.7
            triples.append((item, int(worker), int(truth[item] if right else generator.integers(0, K))))
    return triples


def table(triples, **options):
    return Votes.from_columns(*zip(*triples, strict=True), **options)


def matrix_of(votes, by_pair):
    classes = votes.classes.tolist()
    return np.array([[[by_pair[w][k, l] for l in classes] for k in classes] for w in votes.workers.tolist()])


def test_real_answers_get_the_labels_and_confidences_that_the_service_gave():
    """301 of 302 labels; 295 confidences to the two decimals that the service writes."""
    result = GroundTruth().fit(table(birds(), classes=CLASSES))
    ours = dict(zip(result.items, zip(result.labels, result.confidence, strict=True), strict=True))
    theirs = {row["item"]: (row["class_name"], float(row["confidence"])) for row in read("output.csv.gz")}
    assert len(theirs) == 302
    other_label = {item for item, (label, _) in theirs.items() if ours[item][0] != label}
    other_confidence = {item for item, (_, confidence) in theirs.items() if round(ours[item][1], 2) != confidence}
    assert other_label == {"139"}  # two Duck, two Swan, one Goose
    assert other_confidence == {"136", "139", "165", "183", "209", "231", "235"}
    truth = {row["item"]: row["label"] for row in read("truth.csv.gz")}
    assert sum(ours[item][0] == label for item, label in truth.items()) >= 271


def test_two_rounds_are_nearer_to_the_service_than_twenty():
    """Why the default is what the published program does, and not what it says."""
    votes = table(birds(), classes=CLASSES)
    theirs = {row["item"]: float(row["confidence"]) for row in read("output.csv.gz")}
    away = {}
    for n_iter in (2, 20):
        result = GroundTruth(max_iter=n_iter).fit(votes)
        away[n_iter] = sum(
            abs(theirs[item] - p) for item, p in zip(result.items.tolist(), result.confidence.tolist(), strict=True)
        )
    assert away[2] < 0.5 * away[20]


@pytest.mark.parametrize("K", [1, 2, 3, 7])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n_iter", [1, 2, 6])
def test_ground_truth_equals_the_oracle(K, known, n_iter):
    triples = random_triples(K, K=K)
    votes = table(triples, classes=range(K))
    extra = {}
    if known:
        generator = np.random.default_rng(9)
        counts = generator.integers(0, 5, (K, K)).astype(float)
        extra = {
            "gold": {0: 0, 3: K - 1},
            "history": {2: {(k, l): counts[k, l] for k in range(K) for l in range(K)}},
            "worker_weight": {1: 0.5, 4: 2.0},
            "item_weight": {5: 3.0, 6: 0.0},
        }
        votes = votes.with_gold(extra["gold"]).with_history({2: counts})
        votes = votes.with_weights(items=extra["item_weight"], workers=extra["worker_weight"])
    found = GroundTruth(max_iter=n_iter).fit(votes)
    posterior, matrix, prior, likelihoods = naive_scales.ground_truth(triples, list(range(K)), n_iter, 0.95, **extra)
    expected = [[posterior[i][k] for k in range(K)] for i in votes.items.tolist()]
    np.testing.assert_allclose(found.posterior, expected, atol=1e-9)
    np.testing.assert_allclose(found.confusion, matrix_of(votes, matrix), atol=1e-9)
    np.testing.assert_allclose(found.class_prior, [prior[k] for k in range(K)], atol=1e-9)
    np.testing.assert_allclose(found.objective, likelihoods, rtol=1e-10)
    assert found.n_iter == n_iter


def test_no_confidence_is_above_the_cap_except_of_gold():
    triples = [(i, w, "ab"[i % 2]) for i in range(10) for w in range(5)]
    result = GroundTruth().fit(table(triples).with_gold({0: "a"}))
    assert result.confidence[0] == 1
    np.testing.assert_allclose(result.confidence[1:], 0.95)
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert (GroundTruth(cap=1).fit(table(triples)).confidence > 0.99).all()


def test_what_the_cap_cuts_goes_to_the_others_in_proportion():
    result = GroundTruth(max_iter=1).fit(table([(0, w, "a") for w in range(9)] + [(0, 9, "b")], classes="abc"))
    free = GroundTruth(max_iter=1, cap=1).fit(table([(0, w, "a") for w in range(9)] + [(0, 9, "b")], classes="abc"))
    assert result.posterior[0, 1] / result.posterior[0, 2] == pytest.approx(
        free.posterior[0, 1] / free.posterior[0, 2], rel=1e-6
    )
    certain = GroundTruth(max_iter=1).fit(table([(0, w, "a") for w in range(9000)], classes="abc"))
    np.testing.assert_allclose(certain.posterior, [[0.95, 0.025, 0.025]])


@pytest.mark.parametrize(
    "triples", [[("i", "w", "a")], [("i", "w", "a"), ("j", "w", "a")], [("i", "w", "a"), ("j", "w", "b")]]
)
def test_one_item_one_worker_one_class(triples):
    result = GroundTruth().fit(table(triples))
    assert result.labels.tolist() == [label for _, _, label in triples]
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    np.testing.assert_allclose(result.confusion.sum(axis=2), 1)


def test_items_and_workers_without_votes():
    names = {"items": ["a", "b", "c"], "workers": ["v", "w", "idle"], "classes": ["x", "y"]}
    result = GroundTruth(cap=1).fit(Votes.from_coded([0, 0, 1], [0, 1, 0], [1, 1, 1], **names))
    np.testing.assert_allclose(result.posterior[2], result.class_prior)
    np.testing.assert_allclose(result.confusion[2], [[0.7, 0.3], [0.3, 0.7]])


def test_fifty_classes_and_thousands_of_votes_on_one_item():
    generator = np.random.default_rng(0)
    labels = [*generator.integers(0, 50, 5000), 1]
    result = GroundTruth(max_iter=5).fit(Votes.from_columns([0] * 5000 + [1], [*range(5000), 0], labels))
    assert np.isfinite(result.posterior).all()
    assert np.isfinite(result.objective).all()


def test_weights_may_be_tiny_or_nothing():
    """What is proportional to everybody's votes does not depend on their unit."""
    votes = table(random_triples(3))
    everybody = dict.fromkeys(votes.items.tolist(), 1e-12)
    scaled = GroundTruth().fit(votes.with_weights(items=everybody))
    np.testing.assert_allclose(scaled.posterior, GroundTruth().fit(votes).posterior, atol=1e-9)
    nothing = GroundTruth().fit(votes.with_weights(items=dict.fromkeys(everybody, 0.0)))
    assert np.isfinite(nothing.posterior).all()
    np.testing.assert_allclose(nothing.class_prior, 1 / 3)


def test_a_stream_refits_to_the_bytes_of_the_batch_and_labels_late_votes():
    triples = birds()
    state = GroundTruth().state()
    for start in range(0, len(triples), 100):
        state.add(table(triples[start : start + 100], classes=CLASSES))
    again = GroundTruthState.load(state.save())
    batch = GroundTruth().fit(table(triples, classes=CLASSES))
    for result in (state.refit(), again.refit()):
        assert result.posterior.tobytes() == batch.posterior.tobytes()
    state.add(table([("new", "w1", "Owl"), ("new", "stranger", "Owl")], classes=CLASSES))
    late = state.posterior(["new"])
    assert late.labels.tolist() == ["Owl"]
    assert late.confidence[0] <= 0.95
    assert state.posterior().posterior[:-1].tobytes() == batch.posterior.tobytes()


def test_matrices_that_cannot_fit_are_refused_with_what_they_need():
    votes = Votes.from_coded([0], [0], [0], items=[0], workers=range(1000), classes=range(10_000))
    with pytest.raises(VotesError, match=r"1000 workers x 10000 x 10000 classes need 2400 GB"):
        GroundTruth().fit(votes)


@pytest.mark.parametrize(("parameter", "value"), [("max_iter", 0), ("cap", 0.5), ("cap", 1.1), ("refit_growth", 0.9)])
def test_wrong_parameters_are_refused_by_name(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} is "):
        GroundTruth(**{parameter: value})


def test_it_keeps_the_protocols():
    assert GroundTruth().name == "ground_truth"
    assert isinstance(GroundTruth(), Method)
    assert isinstance(GroundTruth().state(), State)
