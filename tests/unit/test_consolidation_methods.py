"""Majority and Dawid-Skene against their oracles, the paper, and the edges of what can be asked of them."""

import csv
import dataclasses
import gzip
import json
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
from voxpop.consolidation.votes.one_coin import OneCoin
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


def against_oracle(votes, triples, method, gold=None, **known):
    classes = votes.classes.tolist()
    found = method.fit(votes)
    posterior, confusion, prior, objective = naive.dawid_skene(
        triples, classes, method.max_iter, method.smoothing, gold, **known
    )
    expected = np.array([[posterior[i][k] for k in classes] for i in votes.items.tolist()])
    matrices = np.array([[[confusion[w][k, l] for l in classes] for k in classes] for w in votes.workers.tolist()])
    return found, expected, matrices, np.array([prior[k] for k in classes]), np.array(objective)


@pytest.mark.parametrize("smoothing", [0.0, 4.0])
@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 9, 16, 17, 23, 40])
def test_dawid_skene_equals_the_oracle_after_any_number_of_iterations(K, smoothing):
    """Rows of 2, 4, 8, 12, 16, 20, 24 and 40 lanes: every way in which they are made up of vectors."""
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


def random_knowledge(seed, votes, smoothing):
    """Weights of 0 to 3 for half of the items and workers, and a history of every third worker.

    Without smoothing everybody has a history without zeros: an item that nobody learns of may else be impossible.
    """
    generator = np.random.default_rng(seed)
    K = votes.n_classes
    item_weight, worker_weight = (
        {name: float(generator.choice([0.0, 0.25, 1.0, 3.0])) for name in names.tolist()[::2]}
        for names in (votes.items, votes.workers)
    )
    workers, least = (votes.workers.tolist()[::3], 0) if smoothing else (votes.workers.tolist(), 1)
    counts = {name: generator.integers(least, 9, (K, K)).astype(float) for name in workers}
    known = votes.with_weights(items=item_weight, workers=worker_weight).with_history(counts)
    classes = votes.classes.tolist()
    history = {
        name: {(k, l): matrix[i, j] for i, k in enumerate(classes) for j, l in enumerate(classes)}
        for name, matrix in counts.items()
    }
    return known, {"item_weight": item_weight, "worker_weight": worker_weight, "history": history}


@pytest.mark.parametrize("smoothing", [0.0, 4.0])
@pytest.mark.parametrize("K", [2, 4, 9, 130])
def test_weights_and_history_equal_the_oracle(K, smoothing):
    """More than 128 classes are worked on in pieces."""
    triples = random_triples(K, n_items=40, K=K, per_item=9, n_workers=12)
    gold = {0: triples[0][2], 5: triples[-1][2]}
    votes, known = random_knowledge(K, table(triples).with_gold(gold), smoothing)
    for n_iter in (1, 4):
        method = DawidSkene(max_iter=n_iter, tol=0, smoothing=smoothing)
        found, posterior, confusion, prior, objective = against_oracle(votes, triples, method, gold, **known)
        np.testing.assert_allclose(found.posterior, posterior, atol=1e-8)
        np.testing.assert_allclose(found.confusion, confusion, atol=1e-8)
        np.testing.assert_allclose(found.class_prior, prior, atol=1e-9)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-9)


@pytest.mark.parametrize("K", [3, 130])
def test_weights_of_items_with_many_votes_equal_the_oracle(K):
    """Likelihoods of a hundred votes are brought back from near zero more than once an item."""
    triples = random_triples(1, n_items=5, n_workers=130, K=K, per_item=120)
    known = {"item_weight": {0: 0.25, 1: 3.0}}
    votes = table(triples, classes=range(K)).with_weights(items=known["item_weight"])
    found, posterior, confusion, _, objective = against_oracle(votes, triples, DawidSkene(max_iter=2, tol=0), **known)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-9)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-9)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-10)


def test_whole_weights_are_repeated_votes_and_items():
    """Two votes instead of one of weight 2, and two items instead of one, teach the same."""
    triples = random_triples(3, n_items=30)
    double = {0: 2.0, 4: 2.0}
    weighted = DawidSkene(max_iter=7, tol=0).fit(table(triples).with_weights(workers=double))
    repeated = DawidSkene(max_iter=7, tol=0).fit(table(triples + [t for t in triples if t[1] in double]))
    np.testing.assert_allclose(weighted.posterior, repeated.posterior, atol=1e-9)
    np.testing.assert_allclose(weighted.confusion, repeated.confusion, atol=1e-9)
    weighted = DawidSkene(max_iter=7, tol=0).fit(table(triples).with_weights(items=double))
    repeated = DawidSkene(max_iter=7, tol=0).fit(
        table(triples + [(i + 1000, w, k) for i, w, k in triples if i in double])
    )
    np.testing.assert_allclose(weighted.posterior, repeated.posterior[:30], atol=1e-9)
    np.testing.assert_allclose(weighted.confusion, repeated.confusion, atol=1e-9)


@pytest.mark.parametrize("weight", [1e-9, 1e-3, 1e3, 1e9])
def test_weights_of_any_size_lose_no_digits(weight):
    """All alike, weights of items change nothing; a very heavy worker decides, whoever speaks against them."""
    votes = table(random_triples(2))
    plain = DawidSkene(max_iter=5, tol=0, smoothing=0).fit(votes)
    heavy = DawidSkene(max_iter=5, tol=0, smoothing=0).fit(
        votes.with_weights(items=dict.fromkeys(votes.items.tolist(), weight))
    )
    np.testing.assert_allclose(heavy.posterior, plain.posterior, atol=1e-9)
    np.testing.assert_allclose(heavy.objective, plain.objective * weight, rtol=1e-9)
    many = DawidSkene(max_iter=5).fit(votes.with_weights(workers=dict.fromkeys(votes.workers.tolist(), weight)))
    assert np.isfinite(many.posterior).all()
    assert np.isfinite(many.objective).all()


def test_nothing_that_counts_teaches_nothing():
    votes = table(random_triples(4))
    for smoothing in (0, 4):
        method = DawidSkene(smoothing=smoothing)
        silent = method.fit(votes.with_weights(workers=dict.fromkeys(votes.workers.tolist(), 0)))
        np.testing.assert_allclose(silent.posterior, 1 / 3)
        unheard = method.fit(votes.with_weights(items=dict.fromkeys(votes.items.tolist(), 0)))
        assert np.isfinite(unheard.posterior).all()
        np.testing.assert_allclose(unheard.class_prior, 1 / 3)


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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-8), ("float32", 1e-5)])
@pytest.mark.parametrize("name", ["anaesthesia1979", "snow_rte"])
def test_dawid_skene_equals_crowd_kit_after_as_many_iterations(name, dtype, tolerance):
    peer = json.loads((DATA / "peers" / "dawid_skene.json").read_text(encoding="utf-8"))["sets"][name]
    votes = table(read(DATA / name / "answers.csv.gz"))
    result = DawidSkene(max_iter=peer["n_iter"], tol=0, smoothing=0, dtype=dtype).fit(votes)
    assert result.classes.tolist() == peer["classes"]
    expected = [peer["posterior"][item] for item in votes.items.tolist()]
    np.testing.assert_allclose(result.posterior, expected, atol=tolerance)


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


@pytest.mark.parametrize("method", [Majority(), DawidSkene(), DawidSkene(smoothing=0), OneCoin(), OneCoin(smoothing=0)])
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
    for method in (DawidSkene(smoothing=smoothing), OneCoin(smoothing=smoothing)):
        learned = method.fit(votes)
        np.testing.assert_allclose(learned.posterior[2], learned.class_prior)
        assert np.isfinite(learned.worker_quality).all()
    np.testing.assert_allclose(DawidSkene(smoothing=smoothing).fit(votes).confusion.sum(axis=2), 1)
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
        assert used._item_blocks.size > 8
    for name in ("posterior", "confusion", "class_prior", "objective", "worker_quality", "label_codes"):
        assert len({getattr(result, name).tobytes() for result in results}) == 1, name


@pytest.mark.parametrize("method", [DawidSkene(max_iter=3, tol=0), OneCoin(max_iter=3, tol=0)])
@pytest.mark.parametrize("K", [3, 40, 130])
def test_votes_beyond_two_to_the_31_are_counted_right(method, K, tmp_path):
    """The table's last votes alone, and at the end of two thousand million others that belong to no item."""
    few = Votes.from_columns([0, 0, 1, 1], ["v", "w", "v", "w"], [0, 0, 1, 2], classes=range(K))
    before = 2**31 + 5
    codes = np.memmap(tmp_path / "codes", np.uint32, "w+", shape=before + 4)  # a sparse file: zeros take no room
    codes[before:] = few.codes
    many = dataclasses.replace(few, codes=codes, indptr=few.indptr + before)
    expected, found = method.fit(few), method.fit(many)
    np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-12)
    np.testing.assert_allclose(found.worker_quality, expected.worker_quality, atol=1e-12)


def test_matrices_that_cannot_fit_are_refused_with_what_they_need():
    names = {"items": [0], "workers": range(1000), "classes": range(10_000)}
    votes = Votes.from_coded([0], [0], [0], **names)
    with pytest.raises(VotesError, match=r"1000 workers x 10000 x 10000 classes need 1600 GB.*one_coin"):
        DawidSkene().fit(votes)
    for method in (Majority(), OneCoin()):
        assert method.fit(votes).labels.tolist() == [0]


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
    assert list(Path(stats.cache_path).glob("em._pass_in_registers.*.nbc"))


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
