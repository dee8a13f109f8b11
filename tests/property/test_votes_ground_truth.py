"""What must hold of the service's consolidation for any votes."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.ground_truth import GroundTruth

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)
methods = st.sampled_from([GroundTruth(), GroundTruth(max_iter=12, cap=1.0)])


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


@given(votes=triples, method=methods, order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_answer(votes, method, order):
    original = method.fit(table(votes, classes=range(4)))
    renamed = method.fit(table([(item, worker, order[label]) for item, worker, label in votes], classes=range(4)))
    free = np.sort(original.posterior, axis=1)
    clear = free[:, -1] - free[:, -2] > 1e-6  # the cap cuts the first of two that are tied
    np.testing.assert_allclose(renamed.posterior[clear][:, order], original.posterior[clear], atol=1e-9)
    np.testing.assert_allclose(renamed.worker_quality, original.worker_quality, atol=1e-9)


@given(votes=triples, method=methods, order=st.permutations(range(6)))
@settings(deadline=None)
def test_renaming_workers_changes_no_posterior(votes, method, order):
    renamed = method.fit(table([(item, order[worker], label) for item, worker, label in votes]))
    np.testing.assert_allclose(renamed.posterior, method.fit(table(votes)).posterior, atol=1e-9)


@given(votes=triples, method=methods)
@settings(deadline=None)
def test_a_second_crowd_of_items_with_the_same_votes_gets_the_same_labels(votes, method):
    """Every count doubles, and so do the priors that are made of them."""
    twice = votes + [(item + 100, worker, label) for item, worker, label in votes]
    once, both = by_item(method.fit(table(votes))), by_item(method.fit(table(twice)))
    for item, (_, posterior) in once.items():
        np.testing.assert_allclose(both[item][1], posterior, atol=1e-9)
        np.testing.assert_allclose(both[item + 100][1], posterior, atol=1e-9)


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
    assert by_item(merged.posterior()) == by_item(merged.refit())


@given(votes=triples, method=methods)
@settings(deadline=None)
def test_rows_are_probabilities_and_labels_have_the_highest(votes, method):
    result = method.fit(table(votes))
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert (result.confidence >= result.posterior.max(axis=1) * (1 - 1e-8)).all()
    if result.classes.size > 1:
        assert result.posterior.max() <= method.cap
    np.testing.assert_allclose(result.confusion.sum(axis=2), 1)
