"""``Auto`` against its oracle, in worlds whose truth is known, and at the edges."""

import naive_auto
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.calibration import ece
from voxpop.consolidation.votes import auto as module
from voxpop.consolidation.votes.auto import Auto, AutoState
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.one_coin import OneCoin


def random_votes(seed, n_items=12, n_workers=5, K=3, n=50):
    generator = np.random.default_rng(seed)
    items, workers = generator.integers(0, n_items, n).tolist(), generator.integers(0, n_workers, n).tolist()
    labels = [(i + (generator.random() < 0.3) * int(generator.integers(0, K))) % K for i in items]
    return list(zip(items, workers, labels, strict=True))


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), **options)


def crowd(seed, *, n_items, votes_an_item, n_workers, K=2, accuracy=(0.6, 0.9), hard=0.0):
    """Return votes and truth: workers of different accuracy; on hard items everybody tends to the same wrong class."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    is_hard = generator.random(n_items) < hard
    skill = generator.uniform(*accuracy, n_workers)
    rows = []
    for item in range(n_items):
        for worker in generator.choice(n_workers, votes_an_item, replace=False).tolist():
            right = generator.random() < (0.35 if is_hard[item] else skill[worker])
            wrong = 1 if is_hard[item] else 1 + int(generator.integers(K - 1))
            rows.append((item, worker, int(truth[item]) if right else int(truth[item] + wrong) % K))
    return table(rows, classes=range(K)), truth


def accuracy_of(result, truth):
    return float(np.mean(result.labels.astype(int) == truth[result.items.astype(int)]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("known", ["nothing", "gold", "everything"])
def test_posteriors_are_those_of_the_oracle(seed, known):
    votes = random_votes(seed)
    made = table(votes, classes=range(3))
    more = {}
    if known != "nothing":
        more["gold"] = {made.items[0]: 2, made.items[3]: 0}
        made = made.with_gold(more["gold"])
    if known == "everything":
        more |= {"history": {1: [[4, 1, 0], [0, 3, 0], [1, 1, 2]]}, "worker_weight": {0: 2.0, 2: 0.5}}
        more |= {"item_weight": {made.items[1]: 3.0, made.items[2]: 0.0}}
        made = made.with_history(more["history"]).with_weights(items=more["item_weight"], workers=more["worker_weight"])
    result = Auto(max_iter=7, tol=0).fit(made)
    expected = naive_auto.auto(votes, made.items.tolist(), made.workers.tolist(), [0, 1, 2], 7, **more)
    rows = [[expected[i][k] for k in range(3)] for i in made.items.tolist()]
    np.testing.assert_allclose(result.posterior, rows, atol=1e-6)


def test_a_sparse_crowd_is_labeled_about_as_well_as_by_majority():
    """Three votes an item and three a worker: there is nothing to learn, and little harm is done by trying."""
    gains = []
    for seed in range(12):
        votes, truth = crowd(seed, n_items=150, votes_an_item=3, n_workers=150)
        gains.append(accuracy_of(Auto().fit(votes), truth) - accuracy_of(Majority().fit(votes), truth))
    assert np.mean(gains) > -0.015


def test_workers_who_can_be_learned_are_learned():
    gains = []
    for seed in range(6):
        votes, truth = crowd(seed, n_items=300, votes_an_item=7, n_workers=20, accuracy=(0.35, 0.95))
        gains.append(accuracy_of(Auto().fit(votes), truth) - accuracy_of(Majority().fit(votes), truth))
    assert np.mean(gains) > 0.05


def test_hard_items_make_it_less_sure_than_dawid_skene():
    errors = []
    for seed in range(6):
        votes, truth = crowd(seed, n_items=400, votes_an_item=7, n_workers=30, K=3, hard=0.25)
        for method in (Auto(), DawidSkene()):
            result = method.fit(votes)
            right = result.labels.astype(int) == truth[result.items.astype(int)]
            errors.append(ece(result.confidence, right))
    assert np.mean(errors[::2]) < 0.6 * np.mean(errors[1::2])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_byte(threads, monkeypatch):
    from voxpop.consolidation.votes import engine

    monkeypatch.setattr(engine, "_VOTES_PER_THREAD", 100)
    monkeypatch.setattr(engine, "_VOTES_PER_BLOCK", 64)
    votes, _ = crowd(0, n_items=200, votes_an_item=5, n_workers=20, K=4)
    one, many = Auto(threads=1).fit(votes), Auto(threads=threads).fit(votes)
    assert one.posterior.tobytes() == many.posterior.tobytes()
    assert one.worker_quality.tobytes() == many.worker_quality.tobytes()


def test_what_was_learned_labels_the_same_items_alike():
    votes = table(random_votes(1))
    result = Auto().fit(votes)
    assert Auto().label(votes, result.learned).posterior.tobytes() == result.posterior.tobytes()
    np.testing.assert_allclose(result.confusion.sum(axis=2), 1)


@pytest.mark.parametrize(
    "votes",
    [
        table([("i", "w", "a")]),
        table([("i", "w", "a"), ("j", "w", "a")]),
        table([("i", "v", "a"), ("i", "w", "b")]),
        table([("i", "v", "a"), ("j", "w", "?")], abstain="?"),
        Votes.from_coded([0, 0], [0, 1], [3, 3], items=["i", "j"], workers=["v", "w", "x"], classes=range(50)),
        table([("i", "v", "a"), ("j", "w", "b")]).with_weights(workers={"v": 0, "w": 0}),
    ],
)
def test_edges_give_probabilities(votes):
    result = Auto().fit(votes)
    assert np.isfinite(result.posterior).all()
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert np.isfinite(result.worker_quality).all()


def test_matrices_that_would_not_fit_are_not_made(monkeypatch):
    monkeypatch.setattr(module, "_MAX_CELLS", 10)
    votes = table(random_votes(2))
    assert Auto(seed=3).fit(votes).posterior.tobytes() == OneCoin(seed=3).fit(votes).posterior.tobytes()
    state = Auto().state()
    state.add(votes)
    assert AutoState.load(state.save()).posterior().labels.tolist() == OneCoin().fit(votes).labels.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, "max_iter is 0; expected at least 1"),
        ({"tol": -1}, "tol is -1; expected 0 or more"),
        ({"threads": 0}, "threads is 0"),
        ({"refit_growth": 0.5}, "refit_growth is 0.5"),
    ],
)
def test_parameters_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Auto(**options)
