"""What must hold of GLAD and MACE for any votes: order and names do not matter, the objective never falls."""

import itertools
import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.glad import GLAD
from voxpop.consolidation.votes.mace import MACE

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)
# Without random starts, which go by the workers' places, names decide nothing but ties.
METHODS = [
    GLAD(max_iter=12, tol=0),
    GLAD(max_iter=5, tol=0, m_steps=7),
    MACE(max_iter=12, tol=0, restarts=1),
    MACE(max_iter=12, tol=0, restarts=1, inference="em"),
]
methods = st.sampled_from(METHODS)
anything = st.sampled_from([*METHODS, MACE(max_iter=8, restarts=3), MACE(max_iter=8, restarts=3, inference="em")])
weights = st.sampled_from([0.0, 0.125, 1.0, 3.0, 1e4])


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), **options)


@st.composite
def known_votes(draw):
    """Votes with gold, weights and history, each in some of the examples."""
    votes = draw(triples)
    known = table(votes, classes=range(4))
    items, workers = known.items.tolist(), known.workers.tolist()
    known = known.with_gold(draw(st.dictionaries(st.sampled_from(items), st.integers(0, 3), max_size=4)))
    if draw(st.booleans()):
        known = known.with_weights(items=draw(st.dictionaries(st.sampled_from(items), weights)))
    if draw(st.booleans()):
        known = known.with_weights(workers=draw(st.dictionaries(st.sampled_from(workers), weights)))
    if draw(st.booleans()):
        pair = st.tuples(st.integers(0, 20), st.floats(0, 20))
        known = known.with_history(draw(st.dictionaries(st.sampled_from(workers), pair)))
    return known


def by_item(result):
    return dict(
        zip(result.items.tolist(), zip(result.labels.tolist(), result.posterior.tolist(), strict=True), strict=True)
    )


@given(votes=triples, method=methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_votes_changes_no_bit(votes, method, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    ours, theirs = method.fit(table(shuffled)), method.fit(table(votes))
    assert by_item(ours) == by_item(theirs)
    assert ours.worker_quality.tobytes() == theirs.worker_quality.tobytes()


@given(votes=triples, method=methods, order=st.permutations(range(6)))
@settings(deadline=None)
def test_renaming_workers_changes_nothing_else(votes, method, order):
    renamed = method.fit(table([(item, order[worker], label) for item, worker, label in votes]))
    original = method.fit(table(votes))
    np.testing.assert_allclose(renamed.posterior, original.posterior, atol=1e-7)
    quality = dict(zip(original.workers.tolist(), original.worker_quality, strict=True))
    back = {order[worker]: q for worker, q in quality.items()}
    np.testing.assert_allclose(renamed.worker_quality, [back[w] for w in renamed.workers.tolist()], atol=1e-7)


@given(votes=triples, method=methods, order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_answer(votes, method, order):
    original = method.fit(table(votes, classes=range(4)))
    renamed = method.fit(table([(item, worker, order[label]) for item, worker, label in votes], classes=range(4)))
    np.testing.assert_allclose(renamed.posterior[:, order], original.posterior, atol=1e-7)
    np.testing.assert_allclose(renamed.worker_quality, original.worker_quality, atol=1e-7)
    if original.confusion is not None:
        np.testing.assert_allclose(renamed.confusion[:, order][:, :, order], original.confusion, atol=1e-7)


@given(votes=known_votes(), method=anything)
@settings(deadline=None, max_examples=300)
def test_the_objective_never_falls_and_everything_is_a_probability(votes, method):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = method.fit(votes)
    assert np.isfinite(result.objective).all()
    assert (np.diff(result.objective) >= -1e-9 * (1 + np.abs(result.objective[1:]))).all()
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert ((result.posterior >= 0) & (result.posterior <= 1)).all()
    assert ((result.worker_quality >= 0) & (result.worker_quality <= 1)).all()
    assert (result.confidence >= result.posterior.max(axis=1) * (1 - 1e-8)).all()
    known = votes.gold >= 0
    assert (result.label_codes[known] == votes.gold[known]).all()
    assert (result.posterior[known].max(axis=1) == 1).all()
    if result.confusion is not None:
        np.testing.assert_allclose(result.confusion.sum(axis=2), 1)


@given(votes=known_votes(), method=anything)
@settings(deadline=None)
def test_a_fit_ends_with_what_label_says(votes, method):
    result = method.fit(votes)
    again = method.label(votes, result.learned)
    assert again.posterior.tobytes() == result.posterior.tobytes()
    assert again.worker_quality.tobytes() == result.worker_quality.tobytes()


@given(votes=triples, method=methods)
@settings(deadline=None)
def test_everything_twice_is_workers_of_weight_two(votes, method):
    heavy = table(votes).with_weights(workers=dict.fromkeys(range(6), 2.0) | {votes[0][1]: 2.0})
    twice, once = method.fit(table(votes * 2)), method.fit(heavy)
    np.testing.assert_allclose(twice.posterior, once.posterior, atol=1e-7)
    np.testing.assert_allclose(twice.worker_quality, once.worker_quality, atol=1e-7)


@given(votes=triples, method=anything, cuts=st.lists(st.integers(0, 60), max_size=4))
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
