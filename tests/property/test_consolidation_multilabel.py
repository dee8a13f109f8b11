"""What must hold for any sets of labels: order and names do not matter, streams are the batch."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation.multilabel import MultiLabel, MultiLabelVotes
from voxpop.consolidation.votes.ground_truth import GroundTruth
from voxpop.consolidation.votes.majority import Majority

answers = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 4), st.frozensets(st.integers(0, 3))), min_size=1, max_size=40
)
methods = st.sampled_from([MultiLabel(Majority()), MultiLabel(GroundTruth(refit_growth=1), threshold=0.3)])


def table(given_answers, **options):
    return MultiLabelVotes.from_columns(*zip(*given_answers, strict=True), classes=range(4), **options)


def by_item(result):
    return dict(zip(result.items.tolist(), zip(result.labels, result.probability.tolist(), strict=True), strict=True))


@given(said=answers, method=methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_answers_changes_no_bit(said, method, random):
    shuffled = list(said)
    random.shuffle(shuffled)
    assert by_item(method.fit(table(shuffled))) == by_item(method.fit(table(said)))


@given(said=answers, method=methods, order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_labels(said, method, order):
    renamed = method.fit(table([(i, w, {order[c] for c in ticked}) for i, w, ticked in said]))
    original = method.fit(table(said))
    assert renamed.probability[:, order].tobytes() == original.probability.tobytes()
    assert renamed.labels == [{order[c] for c in labels} for labels in original.labels]


@given(said=answers, method=methods)
@settings(deadline=None)
def test_classes_do_not_touch_each_other(said, method):
    whole = method.fit(table(said))
    alone = method.fit(table([(i, w, ticked & {2}) for i, w, ticked in said]))
    assert whole.probability[:, 2].tobytes() == alone.probability[:, 2].tobytes()


@given(said=answers, method=methods, cuts=st.lists(st.integers(0, 40), max_size=3))
@settings(deadline=None)
def test_splitting_into_streams_and_merging_is_the_batch(said, method, cuts):
    bounds = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    merged = method.state()
    for start, stop in itertools.pairwise(bounds):
        part = method.state()
        if stop > start:
            part.add(table(said[start:stop]))
        merged.merge(part)
    assert by_item(merged.posterior()) == by_item(method.fit(table(said)))


@given(said=answers)
@settings(deadline=None)
def test_everything_twice_changes_no_majority(said):
    method = MultiLabel(Majority())
    assert by_item(method.fit(table(said))) == by_item(method.fit(table(said * 2)))


@given(said=answers, method=methods)
@settings(deadline=None)
def test_probabilities_and_confidences_are_in_their_range(said, method):
    result = method.fit(table(said))
    assert ((result.probability >= 0) & (result.probability <= 1)).all()
    assert (result.confidence >= min(method.threshold, 1 - method.threshold) - 1e-8).all()
    np.testing.assert_array_equal(result.applies, [[c in labels for c in range(4)] for labels in result.labels])
