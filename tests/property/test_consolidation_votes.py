"""What must hold for any votes: order does not matter, names do not matter, the objective never falls."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.one_coin import OneCoin

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)
methods = st.sampled_from(
    [
        Majority(),
        DawidSkene(max_iter=12, tol=0),
        DawidSkene(max_iter=12, tol=0, smoothing=0),
        DawidSkene(max_iter=12, tol=0, smoothing=0.01),
        OneCoin(max_iter=12, tol=0),
        OneCoin(max_iter=12, tol=0, smoothing=0.01),
    ]
)


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), **options)


def by_item(result):
    return dict(
        zip(result.items.tolist(), zip(result.labels.tolist(), result.posterior.tolist(), strict=True), strict=True)
    )


@given(votes=triples, method=methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_votes_changes_no_bit(votes, method, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert by_item(method.fit(table(shuffled))) == by_item(method.fit(table(votes)))


@given(votes=triples, method=methods, order=st.permutations(range(6)))
@settings(deadline=None)
def test_renaming_workers_changes_no_label(votes, method, order):
    renamed = method.fit(table([(item, order[worker], label) for item, worker, label in votes]))
    original = method.fit(table(votes))
    np.testing.assert_allclose(renamed.posterior, original.posterior, atol=1e-9)


@given(votes=triples, method=methods, order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_answer(votes, method, order):
    original = method.fit(table(votes, classes=range(4)))
    renamed = method.fit(table([(item, worker, order[label]) for item, worker, label in votes], classes=range(4)))
    np.testing.assert_allclose(renamed.posterior[:, order], original.posterior, atol=1e-9)
    if not isinstance(method, Majority):  # majority breaks ties by the classes' names
        np.testing.assert_allclose(renamed.worker_quality, original.worker_quality, atol=1e-9)


@given(votes=triples, method=methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_classes_changes_no_label(votes, method, random):
    order = list(range(4))
    random.shuffle(order)
    ours, theirs = by_item(method.fit(table(votes, classes=range(4)))), by_item(method.fit(table(votes, classes=order)))
    gaps = {i: np.diff(np.sort(ours[i][1])[-2:])[0] for i in ours}
    assert all(ours[i][0] == theirs[i][0] for i in ours if gaps[i] > 1e-6 or isinstance(method, Majority))


@given(
    votes=triples,
    learner=st.sampled_from([DawidSkene, OneCoin]),
    smoothing=st.sampled_from([0.0, 1e-3, 0.5, 4.0, 100.0]),
    gold=st.dictionaries(st.integers(0, 9), st.integers(0, 3), max_size=4),
    item_weight=st.dictionaries(st.integers(0, 9), st.sampled_from([0.1, 2.0]), max_size=4),
    worker_weight=st.dictionaries(st.integers(0, 5), st.sampled_from([0.0, 0.5, 3.0]), max_size=4),
    history=st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4),
)
@settings(deadline=None, max_examples=300)
def test_the_objective_never_falls(votes, learner, smoothing, gold, item_weight, worker_weight, history):
    known = table(votes, classes=range(4))
    items, workers = set(known.items.tolist()), set(known.workers.tolist())
    if set(gold) & items:
        known = known.with_gold(gold)
    if set(item_weight) & items:
        known = known.with_weights(items=item_weight)
    if set(worker_weight) & workers:
        known = known.with_weights(workers=worker_weight)
    if set(history) & workers:
        known = known.with_history(history)
    objective = learner(max_iter=40, tol=0, smoothing=smoothing).fit(known).objective
    assert np.isfinite(objective).all()
    assert (np.diff(objective) >= -1e-9 * (1 + np.abs(objective[1:]))).all()


@given(votes=triples, method=methods)
@settings(deadline=None)
def test_rows_are_probabilities_and_labels_have_the_highest(votes, method):
    result = method.fit(table(votes))
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert ((result.posterior >= 0) & (result.posterior <= 1)).all()
    assert (result.confidence >= result.posterior.max(axis=1) * (1 - 1e-8)).all()
    if result.confusion is not None:
        np.testing.assert_allclose(result.confusion.sum(axis=2), 1)


@given(votes=triples)
@settings(deadline=None)
def test_everything_twice_changes_no_majority(votes):
    once, twice = by_item(Majority().fit(table(votes))), by_item(Majority().fit(table(votes * 2)))
    assert once == twice


@given(votes=triples, method=methods, cuts=st.lists(st.integers(0, 60), max_size=4))
@settings(deadline=None)
def test_splitting_into_streams_and_merging_is_the_batch(votes, method, cuts):
    bounds = [0, *sorted(min(cut, len(votes)) for cut in cuts), len(votes)]
    merged = method.state()
    for start, stop in itertools.pairwise(bounds):
        part = method.state()
        if stop > start:
            part.add(table(votes[start:stop]))
        merged.merge(type(part).load(part.save()))
    batch = table(votes)
    assert by_item(method.fit(merged.votes())) == by_item(method.fit(batch))
