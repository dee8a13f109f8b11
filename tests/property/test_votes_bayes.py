"""What must hold of the Bayesian methods for any votes: order and names do not matter, objectives never fall."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.bwa import BWA
from voxpop.consolidation.votes.ebcc import EBCC
from voxpop.consolidation.votes.ibcc import IBCC

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)
methods = st.sampled_from(
    [IBCC(max_iter=12, tol=0), EBCC(max_iter=12, tol=0, subtypes=2, restarts=2), BWA(max_iter=12, tol=0)]
)
weights = st.dictionaries(st.integers(0, 5), st.sampled_from([0.0, 0.3, 1.0, 2.5, 40.0]), max_size=4)


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), **options)


def by_item(result):
    return dict(
        zip(result.items.tolist(), zip(result.labels.tolist(), result.posterior.tolist(), strict=True), strict=True)
    )


def with_knowledge(votes, gold, items, workers, past):
    known = table(votes, classes=range(4))
    if set(gold) & set(known.items.tolist()):
        known = known.with_gold(gold)
    if set(items) & set(known.items.tolist()):
        known = known.with_weights(items=items)
    if set(workers) & set(known.workers.tolist()):
        known = known.with_weights(workers=workers)
    if set(past) & set(known.workers.tolist()):
        known = known.with_history({worker: (5 * right, 3) for worker, right in past.items()})
    return known


knowledge = st.tuples(st.dictionaries(st.integers(0, 9), st.integers(0, 3), max_size=4), weights, weights, weights)


@given(votes=triples, known=knowledge, method=methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_votes_changes_no_bit(votes, known, method, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    ours, theirs = (method.fit(with_knowledge(list_of, *known)) for list_of in (votes, shuffled))
    assert by_item(ours) == by_item(theirs)


@given(votes=triples, method=methods, order=st.permutations(range(6)))
@settings(deadline=None)
def test_renaming_workers_changes_no_label(votes, method, order):
    renamed = method.fit(table([(item, order[worker], label) for item, worker, label in votes]))
    np.testing.assert_allclose(renamed.posterior, method.fit(table(votes)).posterior, atol=1e-6)


@given(votes=triples, method=methods, order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_answer(votes, method, order):
    original = method.fit(table(votes, classes=range(4)))
    renamed = method.fit(table([(item, worker, order[label]) for item, worker, label in votes], classes=range(4)))
    np.testing.assert_allclose(renamed.posterior[:, order], original.posterior, atol=1e-6)
    np.testing.assert_allclose(renamed.worker_quality, original.worker_quality, atol=1e-6)


@given(votes=triples, known=knowledge, method=methods)
@settings(deadline=None, max_examples=300)
def test_the_objective_never_falls(votes, known, method):
    objective = method.fit(with_knowledge(votes, *known)).objective
    assert np.isfinite(objective).all()
    assert (np.diff(objective) >= -1e-9 * (1 + np.abs(objective[1:]))).all()


@given(votes=triples, known=knowledge, method=methods)
@settings(deadline=None)
def test_rows_are_probabilities_and_gold_is_certain(votes, known, method):
    with np.errstate(all="raise"):
        result = method.fit(with_knowledge(votes, *known))
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert ((result.posterior >= 0) & (result.posterior <= 1)).all()
    assert ((result.worker_quality >= 0) & (result.worker_quality <= 1)).all()
    for item, label in known[0].items():
        if item in result.items.tolist():
            assert result.posterior[result.items.tolist().index(item), label] == 1


@given(votes=triples, method=st.sampled_from([IBCC(max_iter=12, tol=0), BWA(max_iter=12, tol=0)]))
@settings(deadline=None)
def test_every_item_twice_is_every_item_of_weight_2(votes, method):
    """EBCC starts from random numbers of the items' own, which a twin does not share."""
    twice = method.fit(table(votes + [(item + 10, worker, label) for item, worker, label in votes]))
    weighted = method.fit(table(votes).with_weights(items={item: 2.0 for item, _, _ in votes}))
    n = weighted.items.size
    np.testing.assert_allclose(twice.posterior[:n], weighted.posterior, atol=1e-6)
    np.testing.assert_allclose(twice.posterior[n:], weighted.posterior, atol=1e-6)


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
    assert by_item(merged.refit()) == by_item(method.fit(table(votes)))
