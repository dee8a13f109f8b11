"""What must hold for any numbers, grades and comparisons."""

import itertools

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.numeric import BiasAndNoise, Mean, Median, NumericVotes, Ordinal
from voxpop.consolidation.pairwise import BradleyTerry, NoisyBradleyTerry, PairwiseVotes

numbers = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(-20, 20).map(float)), min_size=1, max_size=40
)
numeric_methods = st.sampled_from([Mean(), Median(), BiasAndNoise(max_iter=15, tol=0)])
comparisons = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 5), st.sampled_from("lr=")).filter(
        lambda row: row[1] != row[2]
    ),
    min_size=1,
    max_size=30,
)
pairwise_methods = st.sampled_from(
    [
        BradleyTerry(max_iter=40, tol=0),
        BradleyTerry(max_iter=40, tol=0, ties="rao_kupper"),
        NoisyBradleyTerry(max_iter=10, tol=0),
    ]
)
grades = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)
ordinal = Ordinal(max_iter=8, tol=0)


def numeric(answers):
    return NumericVotes.from_columns(*zip(*answers, strict=True))


def pairwise(rows):
    named = [(w, a, b, {"l": a, "r": b, "=": "="}[outcome]) for w, a, b, outcome in rows]
    return PairwiseVotes.from_columns(*zip(*named, strict=True), tie="=")


def votes(triples, **options):
    return Votes.from_columns(*zip(*triples, strict=True), **options)


def by_item(result, *columns):
    return {name: row for name, *row in zip(result.items.tolist(), *(c.tolist() for c in columns), strict=True)}


def assert_alike(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for item, row in ours.items():
        np.testing.assert_allclose(row, theirs[item], rtol=tolerance, atol=tolerance)


def pieces(rows, cuts):
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return [rows[start:stop] for start, stop in itertools.pairwise(bounds) if stop > start]


@given(answers=numbers, method=numeric_methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_numbers_changes_nothing(answers, method, random):
    shuffled = list(answers)
    random.shuffle(shuffled)
    ours, theirs = method.fit(numeric(answers)), method.fit(numeric(shuffled))
    assert_alike(by_item(ours, ours.estimate), by_item(theirs, theirs.estimate), 1e-7)


@given(answers=numbers, method=numeric_methods, unit=st.sampled_from([-2.0, 0.125, 1024.0]), zero=st.integers(-99, 99))
@settings(deadline=None)
def test_the_unit_and_the_zero_of_the_scale_change_only_the_scale(answers, method, unit, zero):
    plain = method.fit(numeric(answers))
    assume(np.isfinite(plain.low).all())
    assume(len({value for _, _, value in answers}) > 1)
    assume(any((plain.high - plain.low) > 1e-3))  # where all answers agree, deviations are rounding
    other = method.fit(numeric([(i, w, unit * v + zero) for i, w, v in answers]))
    np.testing.assert_allclose(other.estimate, unit * plain.estimate + zero, atol=1e-5 * (abs(unit) + abs(zero)))
    np.testing.assert_allclose(
        other.high - other.low, abs(unit) * (plain.high - plain.low), rtol=1e-3, atol=1e-5 * abs(unit)
    )


@given(answers=numbers, gold=st.dictionaries(st.integers(0, 6), st.integers(-9, 9), max_size=3))
@settings(deadline=None, max_examples=200)
def test_the_objective_of_numbers_never_falls(answers, gold):
    table = numeric(answers)
    if set(gold) & set(table.items.tolist()):
        table = table.with_gold(gold)
    objective = BiasAndNoise(max_iter=30, tol=0).fit(table).objective
    assert np.isfinite(objective).all()
    assert (np.diff(objective) >= -1e-7 * (1 + np.abs(objective[1:]))).all()


@given(answers=numbers, method=numeric_methods, cuts=st.lists(st.integers(0, 40), max_size=3))
@settings(deadline=None)
def test_splitting_numbers_and_merging_is_the_batch(answers, method, cuts):
    merged = method.state()
    for piece in pieces(answers, cuts):
        part = method.state()
        part.add(numeric(piece))
        merged.merge(type(part).load(part.save()))
    assert merged.posterior().estimate.tobytes() == method.fit(numeric(answers)).estimate.tobytes()


@given(answers=numbers, method=st.sampled_from([Mean(), Median()]))
@settings(deadline=None)
def test_estimates_lie_among_the_answers_and_everything_twice_changes_none(answers, method):
    once, twice = method.fit(numeric(answers)), method.fit(numeric(answers * 2))
    np.testing.assert_allclose(twice.estimate, once.estimate, atol=1e-12)
    for item, (estimate,) in by_item(once, once.estimate).items():
        said = [value for i, _, value in answers if i == item]
        assert min(said) - 1e-9 <= estimate <= max(said) + 1e-9


@given(rows=comparisons, method=pairwise_methods, random=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_comparisons_changes_nothing(rows, method, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    ours, theirs = method.fit(pairwise(rows)), method.fit(pairwise(shuffled))
    assert_alike(by_item(ours, ours.score), by_item(theirs, theirs.score), 1e-8)


@given(rows=comparisons, method=pairwise_methods)
@settings(deadline=None)
def test_swapping_sides_changes_no_score_and_swapping_winners_turns_them(rows, method):
    plain = method.fit(pairwise(rows))
    mirrored = method.fit(pairwise([(w, b, a, {"l": "r", "r": "l", "=": "="}[o]) for w, a, b, o in rows]))
    assert_alike(by_item(plain, plain.score), by_item(mirrored, mirrored.score), 1e-7)


@given(rows=comparisons, ties=st.sampled_from(["half", "rao_kupper"]))
@settings(deadline=None)
def test_asking_for_the_worse_turns_the_scores(rows, ties):
    method = BradleyTerry(tol=1e-10, ties=ties)
    plain = method.fit(pairwise(rows))
    turned = method.fit(pairwise([(w, a, b, {"l": "r", "r": "l", "=": "="}[o]) for w, a, b, o in rows]))
    assert_alike(by_item(plain, plain.score), by_item(turned, -turned.score), 1e-5)


@given(rows=comparisons, method=pairwise_methods)
@settings(deadline=None)
def test_the_objective_of_comparisons_never_falls_and_pieces_are_linked_by_comparisons(rows, method):
    result = method.fit(pairwise(rows))
    assert np.isfinite(result.score).all()
    assert (np.diff(result.objective) >= -1e-9 * (1 + np.abs(result.objective[1:]))).all()
    component = by_item(result, result.component)
    assert all(component[a] == component[b] for _, a, b, _ in rows)
    linked = {item: {item} for item in component}
    for _, a, b, _ in rows:
        both = linked[a] | linked[b]
        for item in both:
            linked[item] = both
    assert result.n_components == len({frozenset(items) for items in linked.values()})


@given(rows=comparisons, method=pairwise_methods, cuts=st.lists(st.integers(0, 30), max_size=3))
@settings(deadline=None)
def test_splitting_comparisons_and_merging_is_the_batch(rows, method, cuts):
    merged = method.state()
    for piece in pieces(rows, cuts):
        part = method.state()
        part.add(pairwise(piece))
        merged.merge(type(part).load(part.save()))
    assert merged.posterior().score.tobytes() == method.fit(pairwise(rows)).score.tobytes()


@given(triples=grades, random=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_grades_changes_no_bit(triples, random):
    shuffled = list(triples)
    random.shuffle(shuffled)
    ours, theirs = ordinal.fit(votes(triples)), ordinal.fit(votes(shuffled))
    assert by_item(ours, ours.posterior, ours.labels) == by_item(theirs, theirs.posterior, theirs.labels)


@given(triples=grades)
@settings(deadline=None, max_examples=40)
def test_turning_the_scale_turns_the_grades(triples):
    plain = ordinal.fit(votes(triples, classes=range(4)))
    turned = ordinal.fit(votes([(i, w, 3 - l) for i, w, l in triples], classes=range(4)))
    np.testing.assert_allclose(turned.posterior[:, ::-1], plain.posterior, atol=1e-8)
    np.testing.assert_allclose(turned.worker_quality, plain.worker_quality, atol=1e-8)


@given(triples=grades, gold=st.dictionaries(st.integers(0, 7), st.integers(0, 3), max_size=3))
@settings(deadline=None, max_examples=60)
def test_the_objective_of_grades_never_falls(triples, gold):
    table = votes(triples, classes=range(4))
    if set(gold) & set(table.items.tolist()):
        table = table.with_gold(gold)
    result = Ordinal(max_iter=25, tol=0).fit(table)
    assert (np.diff(result.objective) >= -1e-9 * (1 + np.abs(result.objective[1:]))).all()
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)


@given(triples=grades, cuts=st.lists(st.integers(0, 40), max_size=3))
@settings(deadline=None, max_examples=40)
def test_splitting_grades_and_merging_is_the_batch(triples, cuts):
    merged = ordinal.state()
    for piece in pieces(triples, cuts):
        part = ordinal.state()
        part.add(votes(piece, classes=range(4)))
        merged.merge(type(part).load(part.save()))
    batch = ordinal.fit(votes(triples, classes=range(4)))
    assert merged.refit().posterior.tobytes() == batch.posterior.tobytes()
