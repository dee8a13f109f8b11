"""Majority and Dawid-Skene against their oracles, the paper, and the edges of what can be asked of them."""

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np
import pytest

from voxpop.consolidation import Votes, get_method
from voxpop.consolidation.method import Method, State, UnknownMethodError, method_names
from voxpop.consolidation.votes import em, engine
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.ties import choose_labels

DATA = Path(__file__).parents[1] / "data" / "votes"


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def random_triples(seed, n_items=60, n_workers=9, K=3, per_item=4, accuracy=0.7):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    triples = []
    for item in range(n_items):
        for worker in generator.choice(n_workers, per_item, replace=False):
            right = generator.random() < accuracy
            triples.append((item, int(worker), int(truth[item] if right else generator.integers(0, K))))
    return triples


def table(triples, **options):
    return Votes.from_columns(*zip(*triples, strict=True), **options)


def against_oracle(votes, triples, method, gold=None):
    classes = votes.classes.tolist()
    found = method.fit(votes)
    posterior, confusion, prior, objective = naive.dawid_skene(
        triples, classes, method.max_iter, method.smoothing, gold
    )
    expected = np.array([[posterior[i][k] for k in classes] for i in votes.items.tolist()])
    matrices = np.array([[[confusion[w][k, l] for l in classes] for k in classes] for w in votes.workers.tolist()])
    return found, expected, matrices, np.array([prior[k] for k in classes]), np.array(objective)


@pytest.mark.parametrize("smoothing", [0.0, 4.0])
@pytest.mark.parametrize("K", [1, 2, 3, 5, 16, 17, 23])
def test_dawid_skene_equals_the_oracle_after_any_number_of_iterations(K, smoothing):
    """K up to 16 runs the unrolled pass, more the loop."""
    triples = random_triples(K, K=K, per_item=9, n_workers=12)
    gold = {0: triples[0][2], 5: triples[-1][2]}
    votes = table(triples).with_gold(gold)
    for n_iter in (1, 4):
        method = DawidSkene(max_iter=n_iter, tol=0, smoothing=smoothing)
        found, posterior, confusion, prior, objective = against_oracle(votes, triples, method, gold)
        np.testing.assert_allclose(found.posterior, posterior, atol=1e-9)
        np.testing.assert_allclose(found.confusion, confusion, atol=1e-9)
        np.testing.assert_allclose(found.class_prior, prior, atol=1e-9)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-10)
        assert found.n_iter == n_iter
        quality = np.einsum("k,wkk->w", prior, confusion)
        np.testing.assert_allclose(found.worker_quality, quality, atol=1e-9)


@pytest.mark.parametrize("K", [2, 17])
def test_sums_of_thousands_do_not_overflow_their_fixed_point(K):
    triples = random_triples(K, n_items=5000, n_workers=2, K=K, per_item=2)
    method = DawidSkene(max_iter=2, tol=0)
    found, posterior, confusion, prior, _ = against_oracle(table(triples), triples, method)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-9)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-9)
    np.testing.assert_allclose(found.class_prior, prior, atol=1e-9)


def test_float32_is_the_float64_answer_rounded():
    votes = table(random_triples(1))
    wide, narrow = DawidSkene().fit(votes), DawidSkene(dtype="float32").fit(votes)
    assert narrow.posterior.dtype == np.float32
    np.testing.assert_allclose(narrow.posterior, wide.posterior, atol=1e-6)
    assert narrow.labels.tolist() == wide.labels.tolist()


# Dawid and Skene (1979): estimated class marginals, and the error rates of observer 1 for true classes 1 to 3.
MARGINALS_1979 = [0.40, 0.42, 0.11, 0.07]
OBSERVER_1_1979 = [[0.89, 0.11, 0.00, 0.00], [0.07, 0.88, 0.05, 0.00], [0.00, 0.34, 0.66, 0.00]]


def test_anaesthesia_gives_the_published_figures_and_the_oracle():
    """Observer 1 answered three times; the paper counts all three, and so does the default of ``repeats``."""
    triples = read(DATA / "anaesthesia1979" / "answers.csv.gz")
    votes = table(triples)
    assert votes.n_votes == 315
    converged = DawidSkene(max_iter=1000, tol=0, smoothing=0).fit(votes)
    assert converged.class_prior is not None
    assert np.round(converged.class_prior, 2).tolist() == MARGINALS_1979
    assert np.round(converged.confusion[0][:3], 2).tolist() == OBSERVER_1_1979
    method = DawidSkene(max_iter=30, tol=0, smoothing=0)
    found, posterior, confusion, _prior, _objective = against_oracle(votes, triples, method)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-8)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-8)


def test_real_votes_are_labeled_better_than_by_majority():
    triples = read(DATA / "snow_rte" / "answers.csv.gz")
    gold = dict(read(DATA / "snow_rte" / "truth.csv.gz"))
    votes = table(triples)
    share = {}
    for method in (Majority(), DawidSkene()):
        result = method.fit(votes)
        codes = result.gold_codes(gold)
        share[method.name] = np.mean(result.label_codes == codes)
    assert 0.885 < share["majority"] < 0.91
    assert share["dawid_skene"] > share["majority"] + 0.015


def test_few_votes_a_worker_do_not_fall_below_majority():
    """Two votes a worker teach nothing of 25 confusion rates; without a prior the method overfits them."""
    accuracy = {"majority": [], "published": [], "default": []}
    for seed in range(10):
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, 5, 400)
        items = np.repeat(np.arange(400), 5)
        workers = generator.permutation(items.size) // 2
        right = generator.random(items.size) < 0.6
        labels = np.where(right, truth[items], (truth[items] + generator.integers(1, 5, items.size)) % 5)
        votes = Votes.from_columns(items, workers, labels)
        for name, method in (
            ("majority", Majority()),
            ("published", DawidSkene(smoothing=0)),
            ("default", DawidSkene()),
        ):
            accuracy[name].append(np.mean(method.fit(votes).labels == truth))
    mean = {name: np.mean(values) for name, values in accuracy.items()}
    assert mean["published"] < mean["majority"] - 0.03
    assert mean["default"] > mean["majority"] - 0.005


def test_majority_equals_the_oracle():
    triples = random_triples(3, per_item=5)
    gold = {2: 0}
    votes = table(triples).with_gold(gold)
    result = Majority().fit(votes)
    shares = naive.vote_shares(triples, votes.classes.tolist(), gold)
    expected = [[shares[i][k] for k in votes.classes.tolist()] for i in votes.items.tolist()]
    np.testing.assert_allclose(result.posterior, expected, atol=1e-15)
    label = dict(zip(result.items.tolist(), result.labels.tolist(), strict=True))
    assert all(shares[i][label[i]] == max(shares[i].values()) for i in label)
    for worker, quality in zip(result.workers.tolist(), result.worker_quality, strict=True):
        own = [label[i] == k for i, w, k in triples if w == worker]
        assert quality == pytest.approx(sum(own) / len(own))


def test_ties_are_broken_by_seed_and_name_and_not_by_order():
    items = [f"item {i}" for i in range(400)]
    triples = [(i, "w1", "a") for i in items] + [(i, "w2", "b") for i in items]
    labels = {s: dict(zip(items, Majority(seed=s).fit(table(triples)).labels, strict=True)) for s in (0, 1)}
    assert 140 < sum(label == "a" for label in labels[0].values()) < 260
    assert labels[0] != labels[1]
    backwards = Majority().fit(table(triples[::-1], classes=["b", "a"]))
    assert dict(zip(backwards.items, backwards.labels, strict=True)) == labels[0]
    symmetric = DawidSkene().fit(table(triples))
    np.testing.assert_allclose(symmetric.confidence, 0.5)
    assert symmetric.labels.tolist() == [labels[0][item] for item in items]


def test_the_last_bits_of_a_sum_do_not_break_a_tie():
    items, classes = np.arange(200), np.array(["a", "b"])
    even = choose_labels(np.full((200, 2), 0.5), items, classes, 0)
    for noise in (1e-13, -1e-13):
        posterior = np.tile([0.5 + noise, 0.5 - noise], (200, 1))
        assert choose_labels(posterior, items, classes, 0).tolist() == even.tolist()
    assert choose_labels(np.tile([0.49, 0.51], (200, 1)), items, classes, 0).tolist() == [1] * 200


@pytest.mark.parametrize("method", [Majority(), DawidSkene(), DawidSkene(smoothing=0)])
@pytest.mark.parametrize(
    ("triples", "labels"),
    [
        ([("i", "w", "a")], ["a"]),
        ([("i", "w", "a"), ("j", "w", "a")], ["a", "a"]),
        ([("i", "w", "a"), ("j", "w", "b")], ["a", "b"]),
        ([("i", "v", "a"), ("i", "w", "a"), ("i", "x", "b")], ["a"]),
    ],
)
def test_one_item_one_worker_one_class(method, triples, labels):
    result = method.fit(table(triples))
    assert result.labels.tolist() == labels
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert np.isfinite(result.worker_quality).all()


@pytest.mark.parametrize("smoothing", [0, 4])
def test_items_and_workers_without_votes(smoothing):
    """Such an item gets the class prior (majority: equal shares); such a worker is average or unknown."""
    names = {"items": ["a", "b", "c"], "workers": ["v", "w", "idle"], "classes": ["x", "y"]}
    votes = Votes.from_coded([0, 0, 1], [0, 1, 0], [1, 1, 1], **names)
    learned = DawidSkene(smoothing=smoothing).fit(votes)
    np.testing.assert_allclose(learned.posterior[2], learned.class_prior)
    np.testing.assert_allclose(learned.confusion.sum(axis=2), 1)
    counted = Majority().fit(votes)
    assert counted.posterior[2].tolist() == [0.5, 0.5]
    assert np.isnan(counted.worker_quality[2])


def test_gold_teaches_who_is_right():
    """A worker who is always wrong is outvoted by nobody, until gold tells."""
    triples = [(i, w, "a" if (i % 2 == 0) == (w == "liar") else "b") for i in range(40) for w in ("liar", "honest")]
    gold = {i: "b" if i % 2 == 0 else "a" for i in range(6)}
    result = DawidSkene().fit(table(triples).with_gold(gold))
    assert result.labels.tolist() == ["b" if i % 2 == 0 else "a" for i in range(40)]
    quality = dict(zip(result.workers, result.worker_quality, strict=True))
    assert quality["honest"] > 0.8 > 0.2 > quality["liar"]


def test_thousands_of_votes_on_one_item_do_not_underflow():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 20_000)
    for K in (10, 40):
        votes = Votes.from_columns([0] * 20_000 + [1], [*range(20_000), 0], [*labels, 1], classes=range(K))
        result = DawidSkene(max_iter=5, tol=0, smoothing=0.5).fit(votes)
        assert np.isfinite(result.posterior).all()
        assert np.isfinite(result.objective).all()


def test_a_large_fit_has_the_same_bytes_with_any_number_of_threads():
    generator = np.random.default_rng(5)
    n = 350_000
    items, workers = generator.integers(0, 70_000, n), generator.integers(0, 1500, n)
    labels = (items + (generator.random(n) < 0.3) * generator.integers(0, 4, n)) % 4
    votes = Votes.from_columns(items, workers, labels)
    results = [DawidSkene(threads=threads, max_iter=6).fit(votes) for threads in (1, 2, 3, 4)]
    with engine.Engine(votes, smoothing=1, threads=4) as used:
        assert used.threads == 4
        assert used.item_blocks.size > 8
    for name in ("posterior", "confusion", "class_prior", "objective", "worker_quality", "label_codes"):
        assert len({getattr(result, name).tobytes() for result in results}) == 1, name


def test_matrices_that_cannot_fit_are_refused_with_what_they_need():
    names = {"items": [0], "workers": range(1000), "classes": range(10_000)}
    votes = Votes.from_coded([0], [0], [0], **names)
    with pytest.raises(VotesError, match=r"1000 workers x 10000 x 10000 classes need 1600 GB"):
        DawidSkene().fit(votes)
    assert Majority().fit(votes).labels.tolist() == [0]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("max_iter", 0),
        ("tol", -1),
        ("tol", float("nan")),
        ("smoothing", -1),
        ("threads", 0),
        ("dtype", "int8"),
        ("refit_growth", 0.5),
    ],
)
def test_wrong_parameters_are_refused_by_name(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} is "):
        DawidSkene(**{parameter: value})


def test_methods_are_found_by_name_and_keep_the_protocols():
    for name in ("majority", "dawid_skene"):
        method = get_method(name)
        assert method.name == name
        assert isinstance(method, Method)
        assert isinstance(method.state(), State)
    assert get_method("dawid_skene", max_iter=7).max_iter == 7


def test_results_become_columns():
    result = Majority().fit(table([("i", "w", "a"), ("j", "w", "b")]))
    assert {name: column.tolist() for name, column in result.to_columns().items()} == {
        "item": ["i", "j"],
        "label": ["a", "b"],
        "confidence": [1.0, 1.0],
    }
    assert result.gold_codes({"j": "a", "i": "no class"}).tolist() == [2, 0]


def test_listing_the_methods_needs_no_compiler():
    program = "import sys, voxpop.consolidation as c; c.method_names(); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_kernel_compiles_where_its_code_cannot_be_cached():
    """A function without a file of its own has no cache folder, as in a read-only installation without a home."""
    from voxpop.consolidation.jit import kernel

    scope = {}
    exec("def double(x):\n    return 2 * x", scope)
    assert kernel(scope["double"])(21) == 42


def test_generated_code_is_cached_on_disk():
    em.pass_kernel(2)
    DawidSkene(max_iter=1).fit(table([("i", "w", "a"), ("j", "w", "b")]))
    stats = em.pass_kernel(2).stats
    assert stats.cache_path
    assert list(Path(stats.cache_path).glob("em.pass_2-*.nbc"))


def test_a_method_for_something_else_is_refused_by_its_kind():
    assert "multi_label" in method_names()
    assert "multi_label" not in method_names("votes")
    assert get_method("multi_label", merges="sets of labels").name == "multi_label"
    with pytest.raises(
        UnknownMethodError, match=r"'multi_label' merges sets of labels; known methods for votes: .*majority"
    ):
        get_method("multi_label", merges="votes")
    with pytest.raises(
        UnknownMethodError, match="unknown consolidation method 'best'; known methods for numbers: bias_and_noise, "
    ):
        get_method("best", merges="numbers")


@pytest.mark.parametrize("name", method_names())
def test_every_registered_method_has_its_name_and_starts_a_stream(name):
    method = get_method(name)
    assert method.name == name
    assert method.state().method == method
