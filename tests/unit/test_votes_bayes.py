"""iBCC, EBCC and BWA against their oracles, their authors' figures and code, and the edges of what can be asked."""

import csv
import gzip
import json
import math
from pathlib import Path

import naive_bayes
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.votes.bwa import BWA
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.dirichlet import psi_and_log_gamma
from voxpop.consolidation.votes.ebcc import EBCC
from voxpop.consolidation.votes.ibcc import IBCC

DATA = Path(__file__).parents[1] / "data" / "votes"
METHODS = [IBCC(), EBCC(subtypes=3, restarts=2), BWA()]


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def table(triples, **options):
    return Votes.from_columns(*zip(*triples, strict=True), **options)


def random_triples(seed, n_items=50, n_workers=8, K=3, per_item=4, accuracy=0.7):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    return [
        (item, int(worker), int(truth[item] if generator.random() < accuracy else generator.integers(0, K)))
        for item in range(n_items)
        for worker in generator.choice(n_workers, per_item, replace=False)
    ]


def knowledge(name, triples, K):
    """Return votes and what an oracle has to be told of what is known besides them."""
    votes = table(triples, classes=range(K))
    if name == "nothing":
        return votes, {}
    gold = {0: triples[0][2], 5: triples[-1][2]}
    if name == "gold":
        return votes.with_gold(gold), {"gold": gold}
    items, workers = {3: 2.5, 4: 0.0, 7: 0.3}, {1: 0.25, 2: 3.0}
    past = {1: np.arange(K * K).reshape(K, K) / 2, 4: np.eye(K) * 9}
    history = {w: {(k, l): counts[k, l] for k in range(K) for l in range(K)} for w, counts in past.items()}
    known = votes.with_gold(gold).with_weights(items=items, workers=workers).with_history(past)
    return known, {"gold": gold, "item_weight": items, "worker_weight": workers, "history": history}


def rows(mapping, names, classes):
    return np.array([[mapping[name][k] for k in classes] for name in names.tolist()])


@pytest.mark.parametrize("x", [1e-8, 0.01, 0.5, 1.0, 1.4616321449683622, 3.3, 10.0, 12345.6, 1e9])
def test_digamma_and_log_gamma(x):
    psi, log_gamma = psi_and_log_gamma(x)
    assert log_gamma == pytest.approx(math.lgamma(x), rel=1e-13, abs=1e-13)
    assert psi == pytest.approx(naive_bayes.digamma(x), rel=1e-11, abs=1e-11)


def test_digamma_at_the_points_where_it_is_known():
    euler = 0.57721566490153286
    assert psi_and_log_gamma(1.0)[0] == pytest.approx(-euler, rel=1e-14)
    assert psi_and_log_gamma(0.5)[0] == pytest.approx(-euler - 2 * math.log(2), rel=1e-14)


@pytest.mark.parametrize("known", ["nothing", "gold", "everything"])
@pytest.mark.parametrize(("K", "subtypes"), [(1, 1), (2, 1), (3, 1), (17, 1), (2, 3), (3, 2), (5, 4)])
def test_combination_equals_the_oracle_after_any_number_of_iterations(K, subtypes, known):
    """Up to 16 columns the pass knows their number when it is compiled."""
    triples = random_triples(K, K=K, n_items=30)
    votes, told = knowledge(known, triples, K)
    for n_iter in (1, 4):
        common = {"max_iter": n_iter, "tol": 0, "prior_right": 3.0, "prior_wrong": 0.5, "prior_class": 0.7}
        priors = {"right": 3.0, "wrong": 0.5, "prior_class": 0.7}
        method = IBCC(**common)
        if subtypes > 1:
            method = EBCC(**common, subtypes=subtypes, restarts=1, prior_subtypes=0.2, seed=5)
            priors |= {"subtypes": subtypes, "prior_subtypes": 0.2, "salt": 5 * 2**20, "as_voted": True}
        found = method.fit(votes)
        posterior, confusion, shares, objective = naive_bayes.combination(
            triples, votes.classes.tolist(), n_iter, **priors, **told
        )
        classes = votes.classes.tolist()
        matrices = [[[confusion[w][k, l] for l in classes] for k in classes] for w in votes.workers.tolist()]
        np.testing.assert_allclose(found.posterior, rows(posterior, votes.items, classes), atol=1e-9)
        np.testing.assert_allclose(found.confusion, matrices, atol=1e-9)
        np.testing.assert_allclose(found.class_prior, [shares[k] for k in classes], atol=1e-9)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-9, atol=1e-9)
        quality = np.einsum("k,wkk->w", found.class_prior, found.confusion)
        np.testing.assert_allclose(found.worker_quality, quality, atol=1e-9)
        assert found.n_iter == n_iter


@pytest.mark.parametrize("known", ["nothing", "gold", "everything"])
@pytest.mark.parametrize("K", [1, 2, 3, 17])
def test_weighted_average_equals_the_oracle_after_any_number_of_iterations(K, known):
    triples = random_triples(K, K=K, n_items=30)
    votes, told = knowledge(known, triples, K)
    classes = votes.classes.tolist()
    for n_iter in (1, 4):
        found = BWA(max_iter=n_iter, tol=0, prior_votes=6.0, shrinkage=0.5).fit(votes)
        value, precision, mean, objective = naive_bayes.weighted_average(
            triples, classes, n_iter, prior_votes=6.0, shrinkage=0.5, **told
        )
        values = rows(value, votes.items, classes)
        np.testing.assert_allclose(found.posterior, values / values.sum(axis=1, keepdims=True), atol=1e-9)
        v = rows(precision, votes.workers, classes)
        np.testing.assert_allclose(found.learned.workers["precision"], v, rtol=1e-8)
        np.testing.assert_allclose(found.worker_quality, np.maximum(0, 1 - (1 / v).sum(axis=1) / 2), atol=1e-9)
        np.testing.assert_allclose(found.learned.shared["mean"], [mean[k] for k in classes], atol=1e-9)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", ["ibcc", "ebcc", "bwa"])
def test_the_authors_own_code_gives_the_same(name):
    """The fixtures were made by the authors' programs with a fixed number of iterations."""
    peer = json.loads((DATA / "peers" / f"{name}.json").read_text(encoding="utf-8"))
    for run in peer["runs"]:
        votes = table(read(DATA / run["set"] / "answers.csv.gz"), repeats="last")
        made = {"ibcc": IBCC, "ebcc": EBCC, "bwa": BWA}[name](
            max_iter=run["iterations"], tol=0, **({"restarts": 1, "seed": run["seed"]} if name == "ebcc" else {})
        )
        found = made.fit(votes)
        expected = np.array([run["posterior"][item] for item in votes.items.tolist()])
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.posterior, expected, atol=2e-8)


def test_the_bound_is_the_authors_one_with_the_constants_they_leave_out():
    """They leave out the priors' constants, and combine old counts with new posteriors, which agree in the end."""
    peer = json.loads((DATA / "peers" / "ebcc.json").read_text(encoding="utf-8"))
    for run in peer["converged"]:
        votes = table(read(DATA / run["set"] / "answers.csv.gz"), repeats="last")
        found = EBCC(max_iter=run["iterations"], tol=0, restarts=1, seed=run["seed"]).fit(votes)
        K, W = votes.n_classes, votes.n_workers
        start = np.zeros(K)
        for i in range(votes.n_items):
            labels = votes.label_of_vote[votes.indptr[i] : votes.indptr[i + 1]]
            start += np.bincount(labels, minlength=K) / labels.size
        constant = math.lgamma(start.sum()) - sum(math.lgamma(n) for n in start)
        constant += K * (math.lgamma(0.1) - 10 * math.lgamma(0.01))
        constant += W * K * 10 * (math.lgamma(3 + K) - math.lgamma(4))
        assert found.objective[-1] == pytest.approx(run["bound"] + constant, abs=1e-3)


def test_figures_of_the_authors_on_textual_entailment():
    """Published with their code: .9275, .93125 and .9275; EBCC with 40 random starts of its own."""
    votes = table(read(DATA / "snow_rte" / "answers.csv.gz"))
    gold = dict(read(DATA / "snow_rte" / "truth.csv.gz"))
    right = {}
    for method in (IBCC(), EBCC(), BWA()):
        result = method.fit(votes)
        right[method.name] = np.mean(result.label_codes == result.gold_codes(gold))
    assert right["ibcc"] == pytest.approx(0.9275, abs=1e-9)
    assert right["bwa"] == pytest.approx(0.9275, abs=1e-9)
    assert right["ebcc"] == pytest.approx(0.93125, abs=0.0026)


def test_subtypes_see_through_workers_who_copy_each_other():
    """Three workers repeat one poor source. Taken for independent, their agreement makes them look right."""
    accuracy = {"ibcc": [], "ebcc": []}
    for seed in range(3):
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, 2, 600)
        source = np.where(generator.random(600) < 0.6, truth, generator.integers(0, 2, 600))
        said = [
            np.where(generator.random(600) < follows, origin, generator.integers(0, 2, 600))
            for origin, follows in [(source, 0.95)] * 3 + [(truth, 0.8)] * 4
        ]
        votes = Votes.from_columns(np.tile(np.arange(600), 7), np.repeat(np.arange(7), 600), np.concatenate(said))
        for method in (IBCC(), EBCC()):
            accuracy[method.name].append(np.mean(method.fit(votes).labels == truth))
    assert np.mean(accuracy["ebcc"]) > np.mean(accuracy["ibcc"]) + 0.08


def test_of_several_starts_the_highest_bound_counts():
    votes = table(random_triples(8, K=3, n_items=80, per_item=5))
    single = [EBCC(restarts=1, seed=0, subtypes=4)]
    bounds = [single[0].fit(votes).objective[-1]]
    several = EBCC(restarts=12, seed=0, subtypes=4).fit(votes)
    assert several.objective[-1] > bounds[0]
    assert EBCC(restarts=12, seed=0, subtypes=4).fit(votes).posterior.tobytes() == several.posterior.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_what_the_learned_says(method):
    votes, _ = knowledge("everything", random_triples(3), 3)
    result = method.fit(votes)
    again = method.label(votes, result.learned)
    assert again.posterior.tobytes() == result.posterior.tobytes()
    assert again.worker_quality.tobytes() == result.worker_quality.tobytes()
    assert result.posterior[0].tolist() == [float(k == votes.gold[0]) for k in range(3)]


@pytest.mark.parametrize("method", [IBCC(max_iter=6), EBCC(max_iter=6, restarts=1, subtypes=2), BWA(max_iter=6)])
def test_any_number_of_threads_gives_the_same_bytes(method):
    generator = np.random.default_rng(0)
    items = generator.integers(0, 60_000, 250_000)
    votes = Votes.from_columns(
        items, generator.integers(0, 600, 250_000), (items + generator.integers(0, 2, 250_000)) % 3
    )
    votes = votes.with_weights(items=dict.fromkeys(range(50), 0.3), workers={7: 1.7})
    results = [type(method)(**{**vars(method), "threads": threads}).fit(votes) for threads in (1, 2, 3)]
    for result in results[1:]:
        assert result.posterior.tobytes() == results[0].posterior.tobytes()
        assert result.objective.tobytes() == results[0].objective.tobytes()


@pytest.mark.parametrize("method", [IBCC(max_iter=8, tol=0), BWA(max_iter=8, tol=0)])
def test_a_worker_of_weight_2_votes_twice_and_one_of_weight_0_not_at_all(method):
    triples = random_triples(4, per_item=5)
    expected = method.fit(table([t for t in triples if t[1] != 1] + [t for t in triples if t[1] == 2]))
    found = method.fit(table(triples).with_weights(workers={1: 0, 2: 2}))
    np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-9)


@pytest.mark.parametrize("method", [IBCC(max_iter=8, tol=0), BWA(max_iter=8, tol=0)])
def test_an_item_of_weight_2_teaches_twice_and_one_of_weight_0_nothing(method):
    triples = random_triples(5, per_item=3)
    twin = [("twin", worker, label) for item, worker, label in triples if item == 6]
    expected = method.fit(table([t for t in triples if t[0] != 9] + twin))
    found = method.fit(table(triples).with_weights(items={6: 2, 9: 0}))
    np.testing.assert_allclose(np.delete(found.posterior, 9, axis=0), expected.posterior[:-1], atol=1e-9)
    np.testing.assert_allclose(found.worker_quality, expected.worker_quality, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_history_tells_who_is_right(method):
    """Two workers always disagree; the votes cannot tell whom to believe."""
    triples = [(i, w, "ab"[(i % 2) ^ (w == "liar")]) for i in range(40) for w in ("liar", "honest")]
    result = method.fit(table(triples).with_history({"honest": (18, 2), "liar": (2, 18)}))
    assert result.labels.tolist() == ["ab"[i % 2] for i in range(40)]
    assert result.worker_quality[0] > result.worker_quality[1]


@pytest.mark.parametrize("method", METHODS)
def test_items_and_workers_without_votes_change_nothing(method):
    """Such an item gets the class prior; such a worker is as the prior has them."""
    triples = random_triples(6)
    columns = np.array(triples).T
    alone = method.fit(table(triples, classes=range(3)))
    names = {"items": [*range(50), "idle"], "workers": [*range(8), "idle"], "classes": range(3)}
    result = method.fit(Votes.from_coded(*columns, **names))
    assert result.posterior[:-1].tobytes() == alone.posterior.tobytes()
    np.testing.assert_allclose(result.posterior[-1], result.class_prior)
    assert np.isfinite(result.worker_quality).all()
    if result.confusion is not None:
        np.testing.assert_allclose(result.confusion[-1], (np.ones((3, 3)) + 3 * np.eye(3)) / 6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "triples",
    [
        [("i", "w", "a")],
        [("i", "w", "a"), ("j", "w", "a")],
        [("i", "w", "a"), ("j", "w", "b")],
        [("i", "w", str(k)) for k in range(50)],
        [(i, w, "a") for i in range(30) for w in range(3)],
        [("i", w, "ab"[w % 2]) for w in range(5000)],
    ],
    ids=["one vote", "one class", "one worker", "50 classes", "all equal", "5000 votes on an item"],
)
def test_the_least_and_the_oddest_that_can_be_asked(method, triples):
    with np.errstate(all="raise"):
        result = method.fit(table(triples))
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert np.isfinite(result.objective).all()
    assert ((result.worker_quality >= 0) & (result.worker_quality <= 1)).all()
    if len({label for _, _, label in triples}) == 1:
        assert result.labels.tolist() == ["a"] * len(result.items)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_all_0_leave_the_priors(method):
    votes = table(random_triples(1))
    for weights in ({"items": dict.fromkeys(range(50), 0)}, {"workers": dict.fromkeys(range(8), 0)}):
        result = method.fit(votes.with_weights(**weights))
        np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
        assert np.isfinite(result.objective).all()


@pytest.mark.parametrize("method", [IBCC(prior_wrong=1e-5), EBCC(subtypes=3, restarts=2, prior_subtypes=1e-5), BWA()])
def test_votes_worth_hundreds_neither_underflow_nor_leave_the_bound(method):
    triples = random_triples(2, n_items=40, per_item=8)
    votes = table(triples).with_weights(workers={1: 300.0, 2: 150.0}).with_gold({0: (triples[0][2] + 1) % 3})
    result = method.fit(votes)
    assert np.isfinite(result.posterior).all()
    assert np.isfinite(result.objective).all()
    assert result.posterior[0].max() == 1


@pytest.mark.parametrize("method", METHODS)
def test_streams_agree_with_the_batch_and_know_the_average_worker(method):
    triples = random_triples(7, n_items=120)
    state = method.state()
    assert isinstance(method, Method)
    assert isinstance(state, State)
    for start in range(0, len(triples), 37):
        state.add(table(triples[start : start + 37], classes=range(3)))
    batch = method.fit(table(triples, classes=range(3)))
    streamed = state.refit()
    assert streamed.items.tolist() == batch.items.tolist()
    assert streamed.posterior.tobytes() == batch.posterior.tobytes()
    loaded = type(state).load(state.save())
    for stream in (state, loaded):
        stream.add(Votes.from_columns([0, "new"], [0, "late"], [0, 1], classes=range(3)))
        result = stream.posterior(["new", 5])
        assert result.labels[0] == 1
        assert stream.posterior([]).labels.size == 0
        late = result.workers.tolist().index("late")
        if result.confusion is not None:
            counts = batch.learned.workers["counts"]
            np.testing.assert_allclose(result.learned.workers["counts"][late], counts.mean(axis=0))


@pytest.mark.parametrize(
    ("method", "name", "value", "expected"),
    [
        (IBCC, "max_iter", 0, "at least 1"),
        (IBCC, "prior_wrong", 0, "a number above 0"),
        (IBCC, "prior_right", float("nan"), "a number above 0"),
        (EBCC, "prior_subtypes", -1, "a number above 0"),
        (EBCC, "subtypes", 0, "at least 1"),
        (EBCC, "restarts", 0, "at least 1"),
        (BWA, "prior_votes", 0, "a number above 0"),
        (BWA, "shrinkage", float("inf"), "a number above 0"),
        (BWA, "tol", -1, "0 or more"),
        (BWA, "threads", 0, "at least 1, or None for all"),
        (BWA, "refit_growth", 0.5, "at least 1"),
    ],
)
def test_parameters_out_of_range(method, name, value, expected):
    with pytest.raises(ValueError, match=f"{name} is .*; expected {expected}"):
        method(**{name: value})


def test_matrices_that_do_not_fit_are_refused_before_they_are_made():
    votes = Votes.from_coded([0, 0], [0, 1], [0, 1], items=["i"], workers=range(2000), classes=range(200))
    with pytest.raises(VotesError, match="2000 workers x 200 x 200 classes x 10 subtypes need 13 GB a thread"):
        EBCC().fit(votes)
