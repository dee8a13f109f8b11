"""Streams: the batch's answer, from votes in pieces; saved, loaded, merged."""

import threading

import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.majority import Majority, MajorityState
from voxpop.consolidation.votes.one_coin import OneCoin
from voxpop.consolidation.votes.state import SnapshotError

METHODS = [
    Majority(seed=3),
    DawidSkene(max_iter=15, tol=0),
    DawidSkene(max_iter=15, tol=0, smoothing=0),
    OneCoin(max_iter=15, tol=0),
]


def random_columns(seed, n=600, K=3):
    generator = np.random.default_rng(seed)
    items, workers = generator.integers(0, 80, n), generator.integers(0, 12, n)
    labels = (items + (generator.random(n) < 0.35) * generator.integers(0, K, n)) % K
    return [f"i{i}" for i in items], [f"w{w}" for w in workers], labels.tolist()


def pieces(columns, size, **options):
    for start in range(0, len(columns[0]), size):
        yield Votes.from_columns(*(column[start : start + size] for column in columns), **options)


def answer(state):
    return state.refit() if isinstance(state, LearningState) else state.posterior()


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_in_pieces_gives_the_bytes_of_the_batch(method):
    columns = random_columns(0)
    state = method.state()
    for votes in pieces(columns, 37):
        state.add(votes)
    streamed, batch = answer(state), method.fit(Votes.from_columns(*columns))
    assert streamed.items.tolist() == batch.items.tolist()
    assert streamed.workers.tolist() == batch.workers.tolist()
    assert streamed.posterior.tobytes() == batch.posterior.tobytes()
    assert streamed.worker_quality.tobytes() == batch.worker_quality.tobytes()
    assert streamed.labels.tolist() == batch.labels.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_labels_can_be_asked_for_at_any_time_and_for_any_items(method):
    state = method.state()
    for votes in pieces(random_columns(1), 50):
        state.add(votes)
        some = votes.items.tolist()[::-2]
        result = state.posterior(some)
        assert result.items.tolist() == some
        np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    whole = answer(state)
    row = {item: i for i, item in enumerate(whole.items.tolist())}
    again = state.posterior(some)
    assert again.posterior.tobytes() == whole.posterior[[row[item] for item in some]].tobytes()
    assert again.labels.tolist() == whole.labels[[row[item] for item in some]].tolist()
    assert state.posterior([]).labels.size == 0


@pytest.mark.parametrize("method", METHODS)
def test_workers_are_sorted_in_as_a_batch_would_sort_them(method):
    """Names that come late, text and numbers, a few at a time; every label as if all had been there from the start."""
    generator = np.random.default_rng(7)
    names = [*range(0, 400, 2), *(f"w{n}" for n in range(200)), *(n + 0.5 for n in range(50))]
    workers = [names[i] for i in generator.permutation(len(names))] * 2
    items = [f"i{n}" for n in generator.integers(0, 90, len(workers))]
    columns = [items, workers, (generator.random(len(workers)) < 0.6).astype(int).tolist()]
    state = method.state()
    for votes in pieces(columns, 11):
        state.add(votes)
        assert state.votes().workers.dtype == object
        assert state.votes().workers.tolist() == sorted(
            set(workers[: state.n_votes]), key=lambda name: (type(name).__name__, name)
        )
    batch = Votes.from_columns(*columns)
    assert state.votes().codes.tobytes() == batch.codes.tobytes()
    assert answer(state).posterior.tobytes() == method.fit(batch).posterior.tobytes()


def test_numbers_sorted_in_late_stay_numbers():
    state = Majority().state()
    for workers in (list(range(0, 100, 2)), [51, 7], ["x"], [9]):
        state.add(Votes.from_columns([0] * len(workers), workers, [1] * len(workers)))
        assert state.votes().workers.dtype == (object if "x" in state.votes().workers.tolist() else np.int64)
    assert state.votes().workers.tolist() == [*sorted([*range(0, 100, 2), 51, 7, 9]), "x"]


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("weighted", [False, True])
def test_few_labels_among_many_workers_have_the_bytes_of_all_labels(method, weighted):
    """Few votes are labeled with the matrices of those who gave them only."""
    state = method.state()
    votes = Votes.from_columns(*random_columns(8))
    if weighted:
        votes = votes.with_weights(workers={"w1": 0.5, "w4": 3, "w7": 0}, items={"i3": 2})
    state.add(votes)
    whole = state.refit()
    alone = state.posterior(["i5"])
    assert state._log.votes(["i5"]).n_votes < whole.workers.size
    row = whole.items.tolist().index("i5")
    assert alone.posterior.tobytes() == whole.posterior[[row]].tobytes()


def test_between_fits_the_last_matrices_judge_and_late_workers_are_average():
    state = DawidSkene(refit_growth=2).state()
    state.add(Votes.from_columns(*random_columns(2)))
    fitted = state.refit()
    state.add(Votes.from_columns(["i0", "new"], ["w0", "late"], [0, 1]))
    result = state.posterior(["i0", "new"])
    late = result.workers.tolist().index("late")
    assert np.delete(result.confusion, late, axis=0).tobytes() == fitted.confusion.tobytes()
    np.testing.assert_allclose(result.confusion[late], fitted.confusion.mean(axis=0))
    assert result.objective.tobytes() == fitted.objective.tobytes()
    assert result.labels[1] == 1


@pytest.mark.parametrize(("growth", "more", "refits"), [(1, 1, True), (1.5, 299, False), (1.5, 300, True)])
def test_a_stream_fits_anew_when_it_has_grown_enough(growth, more, refits):
    state = DawidSkene(refit_growth=growth).state()
    state.add(Votes.from_columns(*random_columns(3)))
    before = state.posterior().objective
    items, workers, labels = (column[:more] for column in random_columns(4))
    state.add(Votes.from_columns(items, workers, labels, classes=[0, 1, 2]))
    assert (state.posterior().objective.tobytes() != before.tobytes()) == refits


@pytest.mark.parametrize("method", METHODS)
def test_merging_is_the_union_in_either_order(method):
    columns = random_columns(5)
    halves = [method.state(), method.state()]
    for i, votes in enumerate(pieces(columns, 61)):
        halves[i % 2].add(votes)
    whole = method.fit(Votes.from_columns(*columns))
    expected = dict(zip(whole.items, whole.posterior.tolist(), strict=True))
    for first, second in ((0, 1), (1, 0)):
        merged = method.state()
        merged.merge(halves[first])
        merged.merge(halves[second])
        assert merged.n_votes == 600
        result = answer(merged)
        assert dict(zip(result.items, result.posterior.tolist(), strict=True)) == expected
    assert halves[0].n_votes + halves[1].n_votes == 600


def test_streams_of_unlike_methods_do_not_merge():
    with pytest.raises(ValueError, match="cannot merge"):
        Majority(seed=1).state().merge(Majority(seed=2).state())
    with pytest.raises(ValueError, match="cannot merge"):
        Majority().state().merge(DawidSkene().state())


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
    assert loaded.save() == state.save()
    assert loaded.posterior().posterior.tobytes() == state.posterior().posterior.tobytes()


def test_an_empty_stream_is_saved_merged_and_asked_in_vain():
    for method in METHODS:
        state = type(method.state()).load(method.state().save())
        state.merge(method.state())
        assert state.n_votes == 0
        with pytest.raises(VotesError, match="no votes yet"):
            state.posterior()


def test_unknown_items_are_named():
    state = Majority().state()
    state.add(Votes.from_columns(["a"], ["w"], ["x"]))
    with pytest.raises(KeyError, match="no votes on item 'b'"):
        state.posterior(["a", "b"])


def test_a_new_class_may_come_late():
    state = DawidSkene().state()
    state.add(Votes.from_columns(["i", "j"], ["w", "w"], ["b", "c"]))
    assert state.posterior().classes.tolist() == ["b", "c"]
    state.add(Votes.from_columns(["i", "k"], ["v", "v"], ["a", "a"]))
    result = state.posterior(["k"])
    assert result.classes.tolist() == ["a", "b", "c"]
    assert result.labels.tolist() == ["a"]
    assert state.refit().posterior.shape == (3, 3)


def test_classes_named_by_a_job_keep_their_order():
    state = Majority().state()
    for item in ("i", "j"):
        state.add(Votes.from_columns([item], ["w"], ["no"], classes=["yes", "no"]))
    assert state.posterior().classes.tolist() == ["yes", "no"]


def test_gold_of_a_stream_counts_and_the_last_one_wins():
    state = Majority().state()
    votes = Votes.from_columns(["i", "i"], ["v", "w"], ["a", "b"])
    for label in ("a", "b"):
        state.add(votes.with_gold({"i": label}))
    assert state.posterior().posterior.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "not a saved stream"),
        (lambda data: b"PK" + data, "not a saved stream"),
        (lambda data: data[:15], "cut off"),
        (lambda data: data[:-5] + data[-4:], "damaged"),
        (lambda data: data[:60] + b"!" + data[61:], "damaged"),
        (lambda data: data[:7] + b"\x63" + data[8:], "has version 99"),
        (lambda data: DawidSkene().state().save(), "method 'dawid_skene'; expected 'majority'"),
    ],
)
def test_what_is_no_snapshot_is_refused(damage, message):
    state = Majority().state()
    state.add(Votes.from_columns(["a"], ["w"], ["x"]))
    with pytest.raises(SnapshotError, match=message):
        MajorityState.load(damage(state.save()))


def test_names_that_json_cannot_hold_are_refused_when_saving():
    state = Majority().state()
    state.add(Votes.from_columns([("a", 1)], ["w"], ["x"]))
    assert state.posterior().items.tolist() == [("a", 1)]
    with pytest.raises(TypeError, match="'item' has the name"):
        state.save()


def test_actors_in_threads_may_fit_at_the_same_time():
    """Threads of numba's own would abort the process here."""
    generator = np.random.default_rng(0)
    items = generator.integers(0, 50_000, 250_000)
    votes = Votes.from_columns(items, generator.integers(0, 300, 250_000), items % 3)
    expected = DawidSkene(max_iter=3, threads=2).fit(votes).posterior.tobytes()
    found = []

    def fit():
        found.append(DawidSkene(max_iter=3, threads=2).fit(votes).posterior.tobytes())

    actors = [threading.Thread(target=fit) for _ in range(4)]
    for actor in actors:
        actor.start()
    for actor in actors:
        actor.join()
    assert found == [expected] * 4
