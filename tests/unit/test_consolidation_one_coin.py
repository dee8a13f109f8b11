"""One coin against its oracle and its peer, and where it differs from Dawid-Skene: few votes a worker, many classes."""

import csv
import gzip
import json
from pathlib import Path

import naive
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.one_coin import OneCoin

DATA = Path(__file__).parents[1] / "data" / "votes"


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


def compare(votes, triples, method, gold=None, **known):
    classes = votes.classes.tolist()
    found = method.fit(votes)
    posterior, accuracy, prior, objective = naive.one_coin(
        triples, classes, method.max_iter, method.smoothing, gold, **known
    )
    expected = [[posterior[i][k] for k in classes] for i in votes.items.tolist()]
    # Without a prior, masses near the unit of the fixed point decide between workers who are never right or wrong.
    atol = 1e-9 if method.smoothing else 1e-7
    np.testing.assert_allclose(found.posterior, expected, atol=atol)
    np.testing.assert_allclose(found.worker_quality, [accuracy[w] for w in votes.workers.tolist()], atol=atol)
    np.testing.assert_allclose(found.class_prior, [prior[k] for k in classes], atol=atol)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 4.0])
@pytest.mark.parametrize("K", [1, 2, 3, 9, 32, 33, 70])
def test_equals_the_oracle_after_any_number_of_iterations(K, smoothing):
    """K up to 32 works on all classes, more on those with votes."""
    triples = random_triples(K, K=K, per_item=9, n_workers=12)
    gold = {0: triples[0][2], 5: triples[-1][2]}
    for n_iter in (1, 4):
        method = OneCoin(max_iter=n_iter, tol=0, smoothing=smoothing)
        compare(table(triples).with_gold(gold), triples, method, gold)


@pytest.mark.parametrize("smoothing", [0.0, 4.0])
@pytest.mark.parametrize("K", [2, 5, 40])
def test_weights_and_history_equal_the_oracle(K, smoothing):
    triples = random_triples(K, n_items=50, K=K, per_item=9, n_workers=12)
    gold = {3: triples[-1][2]}
    votes = table(triples).with_gold(gold)
    generator = np.random.default_rng(K)
    item_weight, worker_weight = (
        {name: float(generator.choice([0.0, 0.25, 1.0, 3.0])) for name in names.tolist()[::2]}
        for names in (votes.items, votes.workers)
    )
    history = dict.fromkeys(votes.workers.tolist()[::3], (9.0, 4.0))
    known = votes.with_weights(items=item_weight, workers=worker_weight).with_history(history)
    for n_iter in (1, 4):
        method = OneCoin(max_iter=n_iter, tol=0, smoothing=smoothing)
        compare(
            known, triples, method, gold, item_weight=item_weight, worker_weight=worker_weight, history=history
        )  # fmt: skip


def test_classes_that_have_nearly_all_of_the_prior_are_told_from_the_rest():
    """40 classes of which almost all items have one: what is left to the others is worked on class by class."""
    triples = [(i, w, 0) for i in range(4000) for w in range(3)] + [(-1, w, w) for w in range(40)]
    votes = table(triples, classes=range(40))
    assert (OneCoin(max_iter=2, tol=0, smoothing=0).fit(votes).class_prior[1:] < 2**-10 / 39).all()
    compare(votes, triples, OneCoin(max_iter=3, tol=0))


def test_a_class_that_nobody_who_is_ever_right_voted_for():
    """Eight who are never right name the class that has nearly all of the prior: it is one of the others."""
    liars = [f"liar {n}" for n in range(8)]
    triples = [(i, f"honest {w}", 0) for i in range(4000) for w in range(3)] + [(-1, liar, 0) for liar in liars]
    history = dict.fromkeys(liars, (0.0, 1e6))
    votes = table(triples, classes=range(40)).with_history(history)
    compare(votes, triples, OneCoin(max_iter=2, tol=0), history=history)
    assert OneCoin(max_iter=2, tol=0).fit(votes).posterior[-1, 0] < 1e-9


def test_many_votes_on_one_item_neither_overflow_nor_underflow():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 20_000)
    for K in (10, 40):
        votes = Votes.from_columns([0] * 20_000 + [1], [*range(20_000), 0], [*labels, 1], classes=range(K))
        for smoothing in (0, 0.5):
            result = OneCoin(max_iter=5, tol=0, smoothing=smoothing).fit(votes)
            assert np.isfinite(result.posterior).all()
            assert np.isfinite(result.objective).all()


def test_ten_thousand_classes():
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 10_000, 300)
    items = np.repeat(np.arange(300), 5)
    workers = generator.integers(0, 40, 1500)
    labels = np.where(generator.random(1500) < 0.6, truth[items], generator.integers(0, 10_000, 1500))
    votes = Votes.from_coded(items, workers, labels, items=range(300), workers=range(40), classes=range(10_000))
    result = OneCoin(dtype="float32").fit(votes)
    assert result.posterior.shape == (300, 10_000)
    assert np.mean(result.labels == truth) > 0.9
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1, rtol=1e-4)


def test_a_worker_of_whom_nothing_is_known_is_as_good_as_all_together():
    names = {"items": ["a", "b", "c"], "workers": ["v", "w", "idle"], "classes": ["x", "y"]}
    votes = Votes.from_coded([0, 0, 1], [0, 1, 0], [1, 1, 0], **names)
    for smoothing in (0, 4):
        result = OneCoin(smoothing=smoothing).fit(votes)
        assert result.worker_quality[2] == pytest.approx(4 / 5)
        np.testing.assert_allclose(result.posterior[2], result.class_prior)


def test_few_votes_a_worker_and_many_classes_do_not_fall_below_majority():
    generator = np.random.default_rng(2)
    truth = generator.integers(0, 12, 600)
    items = np.repeat(np.arange(600), 5)
    workers = generator.permutation(items.size) // 5
    skill = generator.uniform(0.3, 1, workers.max() + 1)[workers]
    labels = np.where(generator.random(items.size) < skill, truth[items], generator.integers(0, 12, items.size))
    votes = Votes.from_columns(items, workers, labels)
    share = {method.name: np.mean(method.fit(votes).labels == truth) for method in (Majority(), OneCoin())}
    assert share["one_coin"] > share["majority"]


def test_the_bytes_are_those_of_any_number_of_threads():
    generator = np.random.default_rng(5)
    n = 350_000
    items, workers = generator.integers(0, 70_000, n), generator.integers(0, 1500, n)
    for K in (4, 40):
        labels = (items + (generator.random(n) < 0.3) * generator.integers(0, K, n)) % K
        votes = Votes.from_columns(items, workers, labels)
        results = [OneCoin(threads=threads, max_iter=4).fit(votes) for threads in (1, 2, 3)]
        for name in ("posterior", "class_prior", "objective", "worker_quality", "label_codes"):
            assert len({getattr(result, name).tobytes() for result in results}) == 1, name


@pytest.mark.parametrize("name", ["anaesthesia1979", "snow_rte"])
def test_equals_crowd_kit_after_as_many_iterations(name):
    """The peer too takes nobody for more certain than 1e-10; its skills are of the M-step after the last E-step."""
    peer = json.loads((DATA / "peers" / "one_coin.json").read_text(encoding="utf-8"))["sets"][name]
    with gzip.open(DATA / name / "answers.csv.gz", "rt", encoding="utf-8") as file:
        votes = table(list(csv.reader(file))[1:])
    result = OneCoin(max_iter=peer["n_iter"], tol=0, smoothing=0).fit(votes)
    assert result.classes.tolist() == peer["classes"]
    np.testing.assert_allclose(result.posterior, [peer["posterior"][item] for item in votes.items.tolist()], atol=1e-8)
    np.testing.assert_allclose(
        result.worker_quality, [peer["accuracy"][worker] for worker in votes.workers.tolist()], atol=1e-8
    )


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("max_iter", 0),
        ("tol", -1),
        ("smoothing", float("inf")),
        ("threads", 0),
        ("dtype", "int8"),
        ("refit_growth", 0.5),
    ],
)
def test_wrong_parameters_are_refused_by_name(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} is "):
        OneCoin(**{parameter: value})


def test_keeps_the_protocols():
    assert isinstance(OneCoin(), Method)
    assert isinstance(OneCoin().state(), State)
    assert DawidSkene().fit(table(random_triples(0))).confusion is not None
    assert OneCoin().fit(table(random_triples(0))).confusion is None
