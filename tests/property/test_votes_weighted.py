"""What must hold for any weighted vote: order and names do not matter, weights are repetition."""

import itertools

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.kos import KOS
from voxpop.consolidation.votes.mmsr import MMSR
from voxpop.consolidation.votes.wawa import Wawa
from voxpop.consolidation.votes.weighted_majority import WeightedMajority
from voxpop.consolidation.votes.zbs import ZeroBasedSkill

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)
odds = [WeightedMajority(), WeightedMajority(smoothing=0.5), MMSR(max_iter=5, tol=0)]
exact = [Wawa(), ZeroBasedSkill(), *odds]
messages = [KOS(max_iter=3, tol=0), KOS(max_iter=3, tol=0, average=False)]
methods = st.sampled_from(exact + messages)


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), **options)


def by_item(result):
    return dict(
        zip(result.items.tolist(), zip(result.labels.tolist(), result.posterior.tolist(), strict=True), strict=True)
    )


def assert_same(ours, theirs, atol=1e-9):
    """The same posteriors; the same labels, unless sums in another order decide."""
    ours, theirs = by_item(ours), by_item(theirs)
    assert ours.keys() == theirs.keys()
    for item, (label, posterior) in ours.items():
        np.testing.assert_allclose(posterior, theirs[item][1], atol=atol)
        best = sorted(posterior)[-2:]
        assert label == theirs[item][0] or len(best) == 1 or best[1] - best[0] < atol


@given(votes=triples, method=st.sampled_from(exact), random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_votes_changes_no_bit(votes, method, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert by_item(method.fit(table(shuffled))) == by_item(method.fit(table(votes)))


@given(votes=triples, method=st.sampled_from(messages), random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_votes_changes_no_message(votes, method, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert_same(method.fit(table(shuffled)), method.fit(table(votes)))


@given(votes=triples, method=st.sampled_from(exact), order=st.permutations(range(6)))
@settings(deadline=None)
def test_renaming_workers_changes_no_label(votes, method, order):
    renamed = method.fit(table([(item, order[worker], label) for item, worker, label in votes]))
    assert_same(renamed, method.fit(table(votes)))


@given(votes=triples, method=st.sampled_from(odds + messages), order=st.permutations(range(4)))
@settings(deadline=None)
def test_renaming_classes_renames_the_answer(votes, method, order):
    """Not where labels teach: ties are broken by the classes' names."""
    original = method.fit(table(votes, classes=range(4)))
    renamed = method.fit(table([(item, worker, order[label]) for item, worker, label in votes], classes=range(4)))
    np.testing.assert_allclose(renamed.posterior[:, order], original.posterior, atol=1e-9)
    if not isinstance(method, KOS):
        np.testing.assert_allclose(renamed.worker_quality, original.worker_quality, atol=1e-9)


@given(votes=triples, method=methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_classes_changes_no_label(votes, method, random):
    order = list(range(4))
    random.shuffle(order)
    ours, theirs = method.fit(table(votes, classes=range(4))), method.fit(table(votes, classes=order))
    np.testing.assert_allclose(theirs.posterior[:, [order.index(k) for k in range(4)]], ours.posterior, atol=1e-9)
    gap = np.diff(np.sort(ours.posterior, axis=1)[:, -2:])[:, 0]
    assert ((ours.labels == theirs.labels) | (gap < 1e-6)).all()


weights = st.lists(st.integers(0, 3), min_size=10, max_size=10)


@given(votes=triples, method=methods, weights=weights)
@settings(deadline=None)
def test_a_worker_s_weight_is_how_often_they_gave_each_vote(votes, method, weights):
    weight = {worker: weights[worker] or 1 for _, worker, _ in votes}
    repeated = [vote for vote in votes for _ in range(weight[vote[1]])]
    assert_same(method.fit(table(votes).with_weights(workers=weight)), method.fit(table(repeated)))


@given(votes=triples, method=st.sampled_from(odds), weights=weights)
@settings(deadline=None)
def test_an_item_s_weight_is_how_many_such_items_teach(votes, method, weights):
    """Not where labels teach: copies have names of their own, by which ties are broken."""
    weight = {item: weights[item] or 1 for item, _, _ in votes}
    copied = [((item, copy), worker, label) for item, worker, label in votes for copy in range(weight[item])]
    ours, theirs = method.fit(table(votes).with_weights(items=weight)), method.fit(table(copied))
    np.testing.assert_allclose(theirs.worker_quality, ours.worker_quality, atol=1e-9)


@given(votes=triples, method=st.sampled_from(exact), lost=st.integers(0, 9), gone=st.integers(0, 5))
@settings(deadline=None)
def test_what_has_weight_0_teaches_nothing(votes, method, lost, gone):
    kept = [vote for vote in votes if vote[0] != lost]
    assume(kept and len(kept) < len(votes))
    classes, workers = range(4), {worker for _, worker, _ in votes}
    known = table(kept, classes=classes)
    quality = dict(zip(known.workers.tolist(), method.fit(known).worker_quality, strict=True))
    ours = method.fit(table(votes, classes=classes).with_weights(items={lost: 0}))
    for worker, found in zip(ours.workers.tolist(), ours.worker_quality, strict=True):
        assert worker not in quality or abs(found - quality[worker]) < 1e-9
    assume(gone in workers and workers != {gone})
    unheard = table(votes, classes=classes).with_weights(workers={gone: 0})
    others = table([vote for vote in votes if vote[1] != gone], classes=classes)
    left, alone = by_item(method.fit(unheard)), by_item(method.fit(others))
    if not isinstance(method, MMSR):  # counts the items, also those that only the unheard one knows
        assert all(np.allclose(alone[item][1], left[item][1], atol=1e-9) for item in alone)


gold_labels = st.dictionaries(st.integers(0, 9), st.integers(0, 3), max_size=4)


@given(votes=triples, gold=gold_labels, weights=weights, seed=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_the_objective_of_zero_based_skill_never_falls_and_its_labels_settle(votes, gold, weights, seed):
    known = table(votes, classes=range(4)).with_weights(
        items={i: weights[i] / 2 for i, _, _ in votes}, workers={w: weights[-w - 1] for _, w, _ in votes}
    )
    if set(gold) & set(known.items.tolist()):
        known = known.with_gold(gold)
    method = ZeroBasedSkill(seed=seed)
    result = method.fit(known)
    assert np.isfinite(result.objective).all()
    assert (np.diff(result.objective) >= -1e-9).all()
    assert result.n_iter < method.max_iter


@given(votes=triples, method=methods, gold=gold_labels)
@settings(deadline=None)
def test_rows_are_probabilities_labels_have_the_highest_and_gold_stands(votes, method, gold):
    known = table(votes, classes=range(4))
    if set(gold) & set(known.items.tolist()):
        known = known.with_gold(gold)
    result = method.fit(known)
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert ((result.posterior >= 0) & (result.posterior <= 1)).all()
    assert ((result.worker_quality >= 0) & (result.worker_quality <= 1)).all()
    assert (result.confidence >= result.posterior.max(axis=1) * (1 - 1e-8)).all()
    assert all(gold.get(item, label) == label for item, label in zip(result.items, result.labels, strict=True))


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


@given(votes=triples)
@settings(deadline=None)
def test_everything_twice_changes_no_share(votes):
    """Shares of agreement stay, so Wawa and zero-based skill do; methods that shrink, or take odds, rightly do not."""
    for method in (Wawa(), ZeroBasedSkill()):
        assert_same(method.fit(table(votes)), method.fit(table(votes * 2)))
