"""What must hold for ``Auto`` and any votes: orders and names do not matter, streams are the batch."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.auto import Auto

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)
METHOD = Auto(max_iter=8, tol=0)


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), classes=range(4), **options)


def by_item(result):
    return dict(zip(result.items.tolist(), result.posterior.tolist(), strict=True))


@given(votes=triples, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_votes_changes_no_label(votes, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    one, other = by_item(METHOD.fit(table(shuffled))), by_item(METHOD.fit(table(votes)))
    for item, row in one.items():
        np.testing.assert_allclose(row, other[item], atol=1e-12)


@given(votes=triples, order=st.permutations(range(6)))
@settings(deadline=None)
def test_renaming_workers_changes_nothing(votes, order):
    renamed = METHOD.fit(table([(item, order[worker], label) for item, worker, label in votes]))
    np.testing.assert_allclose(renamed.posterior, METHOD.fit(table(votes)).posterior, atol=1e-9)


@given(votes=triples, order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_answer(votes, order):
    """Unless a hard kind of items is answered by two classes alike: then the first of them names it."""
    renamed = METHOD.fit(table([(item, worker, order[label]) for item, worker, label in votes]))
    original = METHOD.fit(table(votes))
    moved = np.empty(4, np.int64)
    moved[list(order)] = np.arange(4)
    named = original.learned.shared["class_of"].reshape(2, 4)[1]
    again = renamed.learned.shared["class_of"].reshape(2, 4)[1]
    if [moved[k] for k in again[list(order)]] == named.tolist():
        np.testing.assert_allclose(renamed.posterior[:, order], original.posterior, atol=1e-9)


@given(votes=triples, cuts=st.lists(st.integers(0, 60), max_size=4))
@settings(deadline=None)
def test_splitting_into_streams_and_merging_is_the_batch(votes, cuts):
    bounds = sorted({0, len(votes), *(min(cut, len(votes)) for cut in cuts)})
    state = METHOD.state()
    for start, stop in itertools.pairwise(bounds):
        piece = METHOD.state()
        piece.add(table(votes[start:stop]))
        state.merge(piece)
    batch = by_item(METHOD.fit(table(votes)))
    for item, row in by_item(state.refit()).items():
        np.testing.assert_allclose(row, batch[item], atol=1e-12)
