"""GLAD and MACE against their oracles, against crowd-kit, and at the edges of what can be asked of them."""

import csv
import dataclasses
import gzip
import json
import math
import warnings
from pathlib import Path

import naive_glad_mace as naive
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.votes import glad as glad_module
from voxpop.consolidation.votes import mace as mace_module
from voxpop.consolidation.votes.bayes import Blocks
from voxpop.consolidation.votes.glad import GLAD
from voxpop.consolidation.votes.mace import MACE
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.result import Learned

DATA = Path(__file__).parents[1] / "data" / "votes"
METHODS = [GLAD(), MACE(), MACE(inference="em")]


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def table(triples, **options):
    return Votes.from_columns(*zip(*triples, strict=True), **options)


def random_triples(seed, n_items=14, n_workers=6, K=3, per_item=4, accuracy=0.7):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    triples = []
    for item in range(n_items):
        for worker in generator.choice(n_workers, per_item, replace=False):
            right = generator.random() < accuracy
            triples.append((item, int(worker), int(truth[item] if right else generator.integers(0, K))))
    return triples


def extras(triples, K):
    """What can be known besides votes, for the oracle."""
    return {
        "gold": {0: triples[0][2], 3: triples[-1][2]},
        "item_weight": {1: 0.0, 2: 2.5, 3: 0.5},
        "worker_weight": {0: 2.0, 1: 0.25, 2: 0.0},
        "history": {
            3: {(k, l): 2.0 + 3.0 * (k == l) for k in range(K) for l in range(K)},
            4: {(k, l): 1.5 * (k != l) for k in range(K) for l in range(K)},
        },
    }


def with_extras(votes, known):
    K = votes.n_classes
    matrices = {w: [[pairs[k, l] for l in range(K)] for k in range(K)] for w, pairs in known["history"].items()}
    weighted = votes.with_gold(known["gold"]).with_weights(items=known["item_weight"], workers=known["worker_weight"])
    return weighted.with_history(matrices)


def cases(K, *, special):
    triples = random_triples(K, K=K)
    votes = table(triples, classes=range(K))
    known = extras(triples, K) if special else {}
    return triples, with_extras(votes, known) if special else votes, known


def matrix(shares, rows, classes):
    return np.array([[shares[i][k] for k in classes] for i in rows])


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("K", [1, 2, 3, 5])
def test_glad_equals_the_oracle_after_any_number_of_iterations(K, special):
    """Both climb the same hill in their own way, so M-steps are run until they rest."""
    triples, votes, known = cases(K, special=special)
    for n_iter in (1, 3):
        posterior, ability, easiness, objective = naive.glad(triples, range(K), n_iter, 60, **known)
        with Blocks(votes, None) as blocks:
            fit = glad_module._Fit(blocks, 1500)
            found = [fit.step() for _ in range(n_iter)]
        np.testing.assert_allclose(fit.ability, [ability[w] for w in votes.workers.tolist()], atol=1e-7)
        np.testing.assert_allclose(fit.easiness, [easiness[i] for i in votes.items.tolist()], atol=1e-7)
        np.testing.assert_allclose(fit.posterior, matrix(posterior, votes.items.tolist(), range(K)), atol=1e-7)
        constant = objective[0] - found[0]
        np.testing.assert_allclose(np.array(found) + constant, objective, atol=1e-7)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("K", [1, 2, 4])
def test_glad_labels_are_the_best_of_all_difficulties(K, special):
    triples, votes, known = cases(K, special=special)
    result = GLAD().fit(votes)
    ability = dict(zip(votes.workers.tolist(), result.ability.tolist(), strict=True))
    for i, item in enumerate(votes.items.tolist()):
        said = [(worker, label) for other, worker, label in triples if other == item]
        gold, weight = known.get("gold", {}).get(item), known.get("worker_weight")
        posterior, easiness = naive.glad_label(said, ability, range(K), gold, weight)
        np.testing.assert_allclose(result.posterior[i], [posterior[k] for k in range(K)], atol=1e-6)
        assert math.log(result.difficulty[i]) == pytest.approx(-easiness, abs=1e-5)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("inference", ["vb", "em"])
@pytest.mark.parametrize("K", [1, 2, 3, 5])
def test_mace_equals_the_oracle_after_any_number_of_iterations(K, inference, special):
    triples, votes, known = cases(K, special=special)
    start = dict.fromkeys(votes.workers.tolist(), 0.5)
    for n_iter in (1, 4):
        method = MACE(max_iter=n_iter, tol=0, restarts=1, inference=inference)
        found = method.fit(votes)
        posterior, trust, strategy, objective = naive.mace(triples, range(K), n_iter, start, inference, **known)
        np.testing.assert_allclose(found.posterior, matrix(posterior, votes.items.tolist(), range(K)), atol=1e-9)
        np.testing.assert_allclose(found.worker_quality, [trust[w] for w in votes.workers.tolist()], atol=1e-9)
        np.testing.assert_allclose(found.objective, objective, rtol=1e-10, atol=1e-9)
        expected = [
            [[trust[w] * (k == l) + (1 - trust[w]) * strategy[w][l] for l in range(K)] for k in range(K)]
            for w in votes.workers.tolist()
        ]
        np.testing.assert_allclose(found.confusion, expected, atol=1e-9)
        assert found.n_iter == n_iter


@pytest.mark.parametrize("inference", ["vb", "em"])
@pytest.mark.parametrize("special", [False, True])
def test_mace_says_the_same_in_logarithms_as_in_products(monkeypatch, inference, special):
    """Forced: products hold for ordinary votes, so that both ways can be compared, bits of rounding apart."""
    _, votes, _ = cases(4, special=special)
    method = MACE(max_iter=6, tol=0, restarts=2, inference=inference)
    products = method.fit(votes)
    monkeypatch.setattr(mace_module, "MAX_LOG", -1.0)
    logarithms = method.fit(votes)
    np.testing.assert_allclose(logarithms.posterior, products.posterior, atol=1e-11)
    np.testing.assert_allclose(logarithms.objective, products.objective, rtol=1e-12)


@pytest.mark.parametrize("known", [{}, {"items": {0: 0.5}}])
def test_mace_scales_long_products_down_and_counts_it(monkeypatch, known):
    """A thousand votes on one item exceed any float in a product; the objective must not lose what was divided out."""
    triples = [(0, w, 0 if w % 10 else 1) for w in range(1000)] + [
        (i, w, i % 3) for i in range(1, 7) for w in range(1000)
    ]
    votes = table(triples).with_weights(**known)
    method = MACE(max_iter=4, tol=0, restarts=1)
    products = method.fit(votes)
    monkeypatch.setattr(mace_module, "MAX_LOG", -1.0)
    logarithms = method.fit(votes)
    np.testing.assert_allclose(products.objective, logarithms.objective, rtol=1e-10)
    np.testing.assert_allclose(products.posterior, logarithms.posterior, atol=1e-11)


@pytest.mark.parametrize("parameters", [{"trust_prior": 1e-3, "strategy_prior": 1e-3}, {"inference": "em"}])
def test_mace_weighs_ratios_that_no_number_can_hold(parameters):
    """Two votes of weight 300 against one of 500: the two win, though each ratio alone is beyond any float."""
    triples = [(i, w, i % 2) for i in range(30) for w in "abc"] + [("x", "a", 0), ("x", "b", 0), ("x", "c", 1)]
    heavy = table(triples).with_weights(workers={"a": 300.0, "b": 300.0, "c": 500.0})
    result = MACE(restarts=1, **parameters).fit(heavy)
    assert result.labels[-1] == 0
    assert np.isfinite(result.objective).all()
    flipped = table(triples).with_weights(workers={"a": 200.0, "b": 200.0, "c": 500.0})
    assert MACE(restarts=1, **parameters).fit(flipped).labels[-1] == 1


def test_mace_takes_the_start_with_the_most_evidence():
    """Here the first start ends on a lower hill than some of the others."""
    votes = table(random_triples(1, n_items=20, n_workers=7, K=3, accuracy=0.3))
    single = MACE(max_iter=500, restarts=1).fit(votes)
    many = MACE(max_iter=500, restarts=30).fit(votes)
    assert many.objective[-1] > single.objective[-1] + 0.1
    again = MACE(max_iter=500, restarts=30).fit(votes)
    assert again.posterior.tobytes() == many.posterior.tobytes()
    ends = {round(float(MACE(max_iter=500, restarts=2, seed=s).fit(votes).objective[-1]), 3) for s in range(10)}
    assert len(ends) > 1


def peer(name):
    with (DATA / "peers" / f"{name}.json").open(encoding="utf-8") as file:
        return json.load(file)["sets"]


@pytest.mark.parametrize(("name", "tolerance"), [("anaesthesia1979", 5e-8), ("snow_rte", 2e-6)])
def test_glad_equals_crowd_kit_at_the_same_number_of_iterations(name, tolerance):
    """crowd-kit's conjugate gradients end where they find nothing better: on the larger set that is less exact."""
    expected = peer("glad")[name]
    votes = table(read(DATA / name / "answers.csv.gz"))
    assert votes.workers.tolist() == expected["workers"]
    for case in expected["cases"]:
        with Blocks(votes, None) as blocks:
            fit = glad_module._Fit(blocks, 1500)
            for _ in range(case["n_iter"]):
                fit.step()
        np.testing.assert_allclose(fit.posterior.ravel(), case["posterior"], atol=tolerance)
        np.testing.assert_allclose(fit.ability, case["ability"], atol=2 * tolerance)
        np.testing.assert_allclose(fit.easiness, case["easiness"], atol=2 * tolerance)


@pytest.mark.parametrize("name", ["anaesthesia1979", "snow_rte"])
def test_mace_equals_crowd_kit_at_the_same_number_of_iterations(name):
    expected = peer("mace")[name]
    votes = table(read(DATA / name / "answers.csv.gz"))
    assert votes.workers.tolist() == expected["workers"]
    trust = np.column_stack([expected["knows"], expected["habit"]])
    start = mace_module._Beliefs(trust, np.reshape(expected["strategy"], (votes.n_workers, -1)))
    for case in expected["cases"]:
        method = MACE(inference=case["inference"])
        with Blocks(votes, None) as blocks:
            fit = mace_module._Fit(blocks, method)
            fit.start(start)
            for _ in range(case["n_iter"]):
                fit.step()
        learned = {"trust": fit.beliefs.trust, "strategy": fit.beliefs.strategy}
        result = method.label(votes, Learned(learned, {"objective": np.zeros(1)}))
        np.testing.assert_allclose(result.posterior.ravel(), case["posterior"], atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_real_votes_are_labeled_better_than_by_majority(method):
    votes = table(read(DATA / "snow_rte" / "answers.csv.gz"))
    gold = dict(read(DATA / "snow_rte" / "truth.csv.gz"))
    share = {}
    for name, one in (("majority", Majority()), ("method", method)):
        result = one.fit(votes)
        share[name] = np.mean(result.label_codes == result.gold_codes(gold))
    assert share["method"] > share["majority"] + 0.015


def test_glad_finds_the_difficult_items_and_the_able_workers():
    generator = np.random.default_rng(1)
    truth, hard = generator.integers(0, 3, 300), np.arange(300) % 2 == 0
    skill = np.linspace(-0.5, 2.5, 30)
    triples = []
    for item in range(300):
        for worker in generator.choice(30, 10, replace=False):
            right = generator.random() < 1 / (1 + math.exp(-skill[worker] * (0.7 if hard[item] else 5.0)))
            wrong = (truth[item] + generator.integers(1, 3)) % 3
            triples.append((item, int(worker), int(truth[item] if right else wrong)))
    result = GLAD().fit(table(triples))
    assert np.median(result.difficulty[hard]) > 2 * np.median(result.difficulty[~hard])
    assert np.corrcoef(result.ability, skill)[0, 1] > 0.9
    own = np.array([[truth[i] == l for i, w, l in triples if w == worker] for worker in range(30)], dtype=object)
    often = np.array([np.mean(np.asarray(row, float)) for row in own])
    assert np.abs(result.worker_quality - often).mean() < 0.06


def test_mace_finds_out_who_always_says_the_same():
    generator = np.random.default_rng(2)
    truth = generator.integers(0, 2, 200)
    triples = [(i, f"spam {n}", 1) for i in range(200) for n in range(3)]
    for n in range(4):
        right = generator.random(200) < 0.9
        triples += [(i, f"good {n}", int(truth[i] if right[i] else 1 - truth[i])) for i in range(200)]
    result = MACE().fit(table(triples))
    trust = dict(zip(result.workers.tolist(), result.worker_quality, strict=True))
    assert all((p < 0.05) == name.startswith("spam") for name, p in trust.items())
    assert all(p > 0.6 for name, p in trust.items() if name.startswith("good"))
    assert np.mean(result.labels == truth) > np.mean(Majority().fit(table(triples)).labels == truth) + 0.1
    spam = result.confusion[result.workers.tolist().index("spam 0")]
    np.testing.assert_allclose(spam[:, 1], 1, atol=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_gold_teaches_who_is_right(method):
    """Nobody can tell who of two is right, until gold tells."""
    triples = [(i, w, "a" if (i % 2 == 0) == (w == "bad") else "b") for i in range(40) for w in ("bad", "good")]
    gold = {i: "b" if i % 2 == 0 else "a" for i in range(12)}
    result = method.fit(table(triples).with_gold(gold))
    assert result.labels.tolist() == ["b" if i % 2 == 0 else "a" for i in range(40)]
    quality = dict(zip(result.workers.tolist(), result.worker_quality, strict=True))
    assert quality["good"] > quality["bad"] + 0.2
    assert result.posterior[:12].max(axis=1).tolist() == [1.0] * 12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("triples", "labels"),
    [
        ([("i", "w", "a")], ["a"]),
        ([("i", "w", "a"), ("j", "w", "a")], ["a", "a"]),
        ([("i", "w", "a"), ("j", "w", "b")], ["a", "b"]),
        ([("i", "v", "a"), ("i", "w", "a"), ("i", "x", "b")], ["a"]),
        ([(i, w, "a") for i in range(5) for w in range(5)], ["a"] * 5),
    ],
)
def test_one_item_one_worker_one_class(method, triples, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = method.fit(table(triples))
    assert result.labels.tolist() == labels
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert np.isfinite(result.posterior).all()
    assert np.isfinite(result.worker_quality).all()
    assert np.isfinite(result.objective).all()


@pytest.mark.parametrize("method", METHODS)
def test_items_and_workers_without_votes(method):
    """Such an item has equal shares; such a worker is as the prior."""
    names = {"items": ["a", "b", "c"], "workers": ["v", "w", "idle"], "classes": ["x", "y"]}
    result = method.fit(Votes.from_coded([0, 0, 1], [0, 1, 0], [1, 1, 1], **names))
    assert result.posterior[2].tolist() == [0.5, 0.5]
    assert np.isfinite(result.worker_quality).all()
    if isinstance(method, GLAD):
        assert (result.ability[2], result.difficulty[2]) == (1.0, math.exp(-1.0))
    else:
        assert result.worker_quality[2] == 0.5
        np.testing.assert_allclose(result.confusion[2], [[0.75, 0.25], [0.25, 0.75]])


@pytest.mark.parametrize("method", METHODS)
def test_nothing_that_counts_teaches_nothing(method):
    """All items or all workers weigh nothing."""
    triples = random_triples(7)
    items, workers = (dict.fromkeys(table(triples).items.tolist(), 0.0), dict.fromkeys(range(6), 0.0))
    no_items = method.fit(table(triples).with_weights(items=items))
    assert np.ptp(no_items.worker_quality) < 1e-12
    assert no_items.posterior.max() > 0.5
    no_workers = method.fit(table(triples).with_weights(workers=workers))
    np.testing.assert_allclose(no_workers.posterior, 1 / 3)
    assert np.isfinite(no_workers.objective).all()


@pytest.mark.parametrize("method", METHODS)
def test_history_tells_whom_to_believe(method):
    triples = [("i", "liar", "a"), ("i", "honest", "b")]
    votes = table(triples).with_history({"honest": (50, 1), "liar": (20, 31)})
    result = method.fit(votes)
    assert result.labels.tolist() == ["b"]
    assert result.worker_quality[0] > result.worker_quality[1] + 0.3


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_is_worth_as_many_votes(method):
    """A worker whose votes are repeated is one whose votes weigh two; an item twice is an item of weight two."""
    triples = random_triples(8, n_items=30)
    method = dataclasses.replace(method, tol=0, max_iter=20)
    twice = method.fit(table(triples + [vote for vote in triples if vote[1] == 2]))
    heavy = method.fit(table(triples).with_weights(workers={2: 2.0}))
    np.testing.assert_allclose(twice.posterior, heavy.posterior, atol=1e-9)
    np.testing.assert_allclose(twice.worker_quality, heavy.worker_quality, atol=1e-9)
    copied = method.fit(table(triples + [("copy", worker, label) for item, worker, label in triples if item == 3]))
    weighted = method.fit(table(triples).with_weights(items={3: 2.0}))
    np.testing.assert_allclose(copied.posterior[:-1], weighted.posterior, atol=1e-5)
    assert copied.posterior[-1].tolist() == copied.posterior[3].tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("K", [2, 50])
def test_thousands_of_votes_on_one_item_do_not_underflow(method, K):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, K, 20_000)
    votes = Votes.from_columns([0] * 20_000 + [1], [*range(20_000), 0], [*labels, 1], classes=range(K))
    for known in (votes, votes.with_weights(workers={0: 1e6})):
        result = dataclasses.replace(method, max_iter=5).fit(known)
        assert np.isfinite(result.posterior).all()
        assert np.isfinite(result.objective).all()


@pytest.mark.parametrize("method", [GLAD(max_iter=4, threads=1), MACE(max_iter=4, restarts=2, threads=1)])
def test_a_large_fit_has_the_same_bytes_with_any_number_of_threads(method):
    generator = np.random.default_rng(5)
    n = 350_000
    items, workers = generator.integers(0, 70_000, n), generator.integers(0, 1500, n)
    labels = (items + (generator.random(n) < 0.3) * generator.integers(0, 4, n)) % 4
    votes = Votes.from_columns(items, workers, labels)
    with Blocks(votes, 3) as blocks:
        assert blocks.threads == 3
        assert len(blocks.over_items(lambda *_: 0)) > 8
    results = [type(method)(max_iter=4, threads=threads).fit(votes) for threads in (1, 2, 3)]
    for name in ("posterior", "objective", "worker_quality", "label_codes"):
        assert len({getattr(result, name).tobytes() for result in results}) == 1, name


def test_confusion_matrices_of_many_classes_are_left_out():
    votes = Votes.from_coded([0, 0], [0, 1], [3, 3], items=[0], workers=range(300), classes=range(1000))
    result = MACE(max_iter=2, restarts=1).fit(votes)
    assert result.confusion is None
    assert result.labels.tolist() == [3]
    assert GLAD(max_iter=2).fit(votes).labels.tolist() == [3]


@pytest.mark.parametrize(
    ("kind", "parameter", "value"),
    [
        *((kind, parameter, value) for kind in (GLAD, MACE) for parameter, value in (
            ("max_iter", 0), ("tol", -1), ("tol", float("nan")), ("threads", 0), ("refit_growth", 0.5),
        )),
        (GLAD, "m_steps", 0),
        (MACE, "restarts", 0),
        (MACE, "inference", "bayes"),
        (MACE, "trust_prior", 0),
        (MACE, "strategy_prior", -1.0),
        (MACE, "smoothing", 0),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused_by_name(kind, parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} is "):
        kind(**{parameter: value})


@pytest.mark.parametrize("method", METHODS)
def test_the_protocols_are_kept(method):
    assert method.name in {"glad", "mace"}
    assert isinstance(method, Method)
    assert isinstance(method.state(), State)


def random_columns(seed, n=600, K=3):
    generator = np.random.default_rng(seed)
    items, workers = generator.integers(0, 80, n), generator.integers(0, 12, n)
    labels = (items + (generator.random(n) < 0.35) * generator.integers(0, K, n)) % K
    return [f"i{i}" for i in items], [f"w{w}" for w in workers], labels.tolist()


def pieces(columns, size):
    for start in range(0, len(columns[0]), size):
        yield Votes.from_columns(*(column[start : start + size] for column in columns))


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_in_pieces_gives_the_bytes_of_the_batch_for_any_items(method):
    columns = random_columns(0)
    state = method.state()
    for votes in pieces(columns, 37):
        state.add(votes)
        assert np.isfinite(state.posterior(votes.items.tolist()[::-2]).posterior).all()
    whole, batch = state.refit(), method.fit(Votes.from_columns(*columns))
    for name in ("posterior", "worker_quality", "objective"):
        assert getattr(whole, name).tobytes() == getattr(batch, name).tobytes()
    some = batch.items.tolist()[5:50:3]
    again = state.posterior(some)
    assert again.posterior.tobytes() == batch.posterior[5:50:3].tobytes()
    assert again.worker_quality.tobytes() == batch.worker_quality.tobytes()
    assert state.posterior([]).labels.size == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fitted", [False, True])
def test_saving_and_loading_changes_nothing(method, fitted):
    state = method.state()
    first, second = pieces(random_columns(6), 400)
    state.add(first.with_gold({first.items[0]: 1}))
    if fitted:
        state.posterior()
    data = state.save()
    loaded = type(state).load(data)
    assert loaded.method == method
    assert loaded.save() == data
    for s in (state, loaded):
        s.add(second)
    assert loaded.posterior().posterior.tobytes() == state.posterior().posterior.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_late_workers_are_average(method):
    state = type(method)(refit_growth=2).state()
    state.add(Votes.from_columns(*random_columns(2)))
    fitted = state.refit()
    state.add(Votes.from_columns(["i0", "new"], ["w0", "late"], [0, 1]))
    result = state.posterior(["i0", "new"])
    late = result.workers.tolist().index("late")
    assert np.delete(result.worker_quality, late).tobytes() == fitted.worker_quality.tobytes()
    assert fitted.worker_quality.min() < result.worker_quality[late] < fitted.worker_quality.max()
    assert result.labels[1] == 1
    if isinstance(method, GLAD):
        assert result.ability[late] == pytest.approx(fitted.ability.mean())
