"""Numbers and ordered classes: estimates, intervals, and what is learned of workers."""

import naive_scales
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.numeric import BiasAndNoise, Mean, Median, NumericVotes, Ordinal
from voxpop.consolidation.numeric.bias_and_noise import BiasAndNoiseState
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.snapshot import SnapshotError

NUMERIC = [Mean(), Median(), BiasAndNoise()]


def random_answers(seed, n_items=60, n_workers=9, per_item=4, bias=1.0):
    """Values about 20; workers with biases of about ``bias`` and noise between .3 and 5."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(20, 10, n_items)
    biases, noises = generator.normal(0, bias, n_workers), np.geomspace(0.3, 5, n_workers)
    answers = [
        (f"i{i}", f"w{w}", float(truth[i] + biases[w] + noises[w] * generator.normal()))
        for i in range(n_items)
        for w in generator.choice(n_workers, per_item, replace=False)
    ]
    return answers, truth, biases, noises


def table(answers, **options):
    return NumericVotes.from_columns(*zip(*answers, strict=True), **options)


def test_mean_and_median_equal_the_oracle():
    answers, *_ = random_answers(0, per_item=5)
    weight = {"w1": 2.0, "w2": 0.5, "w3": 0.0}
    gold = {"i3": 7.5}
    votes = table(answers).with_weights(workers=weight).with_gold(gold)
    mean, median = Mean().fit(votes), Median().fit(votes)
    for at, item in enumerate(votes.items.tolist()):
        said = [(v, weight.get(w, 1.0)) for i, w, v in answers if i == item]
        total = sum(p for _, p in said)
        assert mean.estimate[at] == pytest.approx(gold.get(item, sum(v * p for v, p in said) / total))
        assert median.estimate[at] == pytest.approx(gold.get(item, naive_scales.weighted_median(said)))


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([3], [1], 3),
        ([3, 5], [1, 1], 4),
        ([3, 5], [1, 1.01], 5),
        ([5, 1, 3], [1, 1, 1], 3),
        ([1, 2, 3, 10], [1, 1, 1, 1], 2.5),
        ([1, 2, 2, 10], [1, 1, 1, 1], 2),
        ([1, 2, 3], [1, 0, 1], 2),
        ([1, 100], [3, 1], 1),
    ],
)
def test_the_middle_of_the_weight(values, weights, expected):
    votes = NumericVotes.from_columns([0] * len(values), range(len(values)), values)
    assert Median().fit(votes.with_weights(workers=dict(enumerate(weights)))).estimate.tolist() == [expected]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n_iter", [1, 7])
def test_bias_and_noise_equals_the_oracle(known, n_iter):
    answers, *_ = random_answers(1)
    votes, extra = table(answers), {}
    if known:
        extra = {
            "gold": {"i0": 18.0, "i7": 25.0},
            "history": {"w2": (5, 0.5, 2.0)},
            "worker_weight": {"w1": 0.5, "w4": 2.0},
            "item_weight": {"i5": 3.0, "i6": 0.0},
        }
        votes = votes.with_gold(extra["gold"]).with_history(extra["history"])
        votes = votes.with_weights(items=extra["item_weight"], workers=extra["worker_weight"])
    found = BiasAndNoise(max_iter=n_iter, tol=0).fit(votes)
    value, doubt, bias, variance, objective = naive_scales.bias_and_noise(answers, n_iter, 4.0, **extra)
    np.testing.assert_allclose(found.estimate, [value[i] for i in found.items.tolist()], rtol=1e-9)
    np.testing.assert_allclose(found.worker_bias, [bias[w] for w in found.workers.tolist()], rtol=1e-8)
    deviation = [variance[w] ** 0.5 for w in found.workers.tolist()]
    np.testing.assert_allclose(found.worker_deviation, deviation, rtol=1e-8)
    reach = [1.959963984540054 * doubt[i] ** 0.5 for i in found.items.tolist()]
    np.testing.assert_allclose(found.high - found.low, 2 * np.array(reach), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-9)


def test_learning_whom_to_believe_is_nearer_to_the_truth():
    errors = {method.name: [] for method in NUMERIC}
    for seed in range(8):
        answers, truth, *_ = random_answers(seed, n_items=200, n_workers=12, per_item=5)
        for method in NUMERIC:
            result = method.fit(table(answers))
            errors[method.name].append(np.sqrt(np.mean((result.estimate - truth) ** 2)))
    error = {name: np.mean(values) for name, values in errors.items()}
    assert error["numeric_median"] < error["numeric_mean"]
    assert error["bias_and_noise"] < 0.6 * error["numeric_median"]


def test_bias_and_noise_are_recovered_and_a_common_bias_needs_gold():
    answers, truth, biases, noises = random_answers(5, n_items=500, n_workers=8, per_item=4)
    result = BiasAndNoise().fit(table(answers))
    relative = biases - biases.mean()
    assert np.abs((result.worker_bias - result.worker_bias.mean()) - relative).max() < 0.5
    np.testing.assert_allclose(result.worker_deviation, noises, rtol=0.25, atol=0.15)
    shifted = [(i, w, v + 3) for i, w, v in answers]
    told = BiasAndNoise().fit(table(shifted).with_gold({f"i{i}": truth[i] for i in range(60)}))
    assert abs(np.mean(told.estimate[60:] - truth[60:])) < 0.3 < np.mean(result.estimate + 3 - truth)


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("method_type", [Mean, Median, BiasAndNoise])
def test_intervals_hold_the_truth_about_as_often_as_they_say(method_type, level):
    """Workers without bias, all alike for mean and median, which take them to be."""
    held, n = 0.0, 40
    for seed in range(n):
        generator = np.random.default_rng(seed)
        items = np.repeat(np.arange(80), 5)
        workers = np.concatenate([generator.choice(10, 5, replace=False) for _ in range(80)])
        alike = method_type in {Mean, Median}
        noise = np.full(10, 2.0) if alike else np.geomspace(0.5, 4, 10)
        values = items + generator.normal(size=400) * noise[workers]
        result = method_type(level=level).fit(NumericVotes.from_columns(items, workers, values))
        truth = result.items.astype(float)
        held += np.mean((result.low <= truth) & (truth <= result.high)) / n
    assert abs(held - level) < 0.03


@pytest.mark.parametrize("method", NUMERIC)
def test_edges(method):
    one = method.fit(table([("i", "w", 4.0)]))
    assert one.estimate.tolist() == [4.0]
    assert (one.low[0], one.high[0]) == (-np.inf, np.inf)  # nothing tells how far off workers are
    same = method.fit(table([("i", "v", 4.0), ("i", "w", 4.0), ("j", "w", 5.0)]))
    np.testing.assert_allclose(same.estimate, [4, 5])
    np.testing.assert_allclose(same.high - same.low, 0, atol=1e-4)
    kept = method.fit(table([("i", "v", 4.0), ("i", "w", 6.0), ("j", "x", "?")], abstain="?"))
    assert kept.workers.tolist() == ["v", "w", "x"]
    assert np.isnan(kept.estimate).tolist() == [False, True]
    weightless = table([("i", "v", 4.0), ("i", "w", 6.0), ("j", "v", 1.0), ("j", "w", 1.5)])
    result = method.fit(weightless.with_weights(workers={"v": 0.0}))
    np.testing.assert_allclose(result.estimate, [6, 1.5], atol=1e-6)
    unseen = method.fit(weightless.with_weights(workers={"v": 0.0, "w": 0.0}))
    assert np.isnan(unseen.estimate).all()


@pytest.mark.parametrize("method", NUMERIC)
def test_large_numbers_with_small_differences_keep_their_digits(method):
    answers, *_ = random_answers(6)
    plain = method.fit(table(answers))
    moved = method.fit(table([(i, w, v + 2.0**30) for i, w, v in answers]))
    np.testing.assert_allclose(moved.estimate - 2.0**30, plain.estimate, atol=1e-5)
    np.testing.assert_allclose(moved.high - moved.low, plain.high - plain.low, rtol=1e-4)


def test_history_tells_of_workers():
    answers = [("i", "good", 10.0), ("i", "bad", 20.0)]
    result = BiasAndNoise().fit(table(answers).with_history({"good": (50, 0.0, 1.0), "bad": (50, 0.0, 400.0)}))
    assert abs(result.estimate[0] - 10) < 1.5
    biased = BiasAndNoise().fit(table(answers).with_history({"good": (50, 0.0, 1.0), "bad": (50, 10.0, 101.0)}))
    assert abs(biased.estimate[0] - 10) < 0.5
    assert biased.worker_bias[0] > 8


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (([], [], []), {}, "there are no answers"),
        ((["a"], ["v", "w"], [1]), {}, "1, 2 and 1 entries"),
        ((["a", "a"], ["v", "w"], [1, float("nan")]), {}, r"row 1: value is nan; expected a finite number"),
        ((["a", "a"], ["v", "w"], [1, float("inf")]), {}, "row 1: value is inf"),
        ((["a", "a"], ["v", "w"], [1, None]), {}, "row 1: value is None; expected a number"),
        ((["a", "a"], ["v", "w"], [1, "2"]), {}, "row 1: value is '2'; expected a number"),
        ((["a", None], ["v", "w"], [1, 2]), {}, "row 1: item is missing"),
        ((["a"], ["v"], [1]), {"repeats": "first"}, "repeats is 'first'"),
    ],
)
def test_what_is_no_number_is_refused_by_row(columns, options, message):
    with pytest.raises(VotesError, match=message):
        NumericVotes.from_columns(*columns, **options)


def test_what_cannot_be_known_is_refused():
    votes = table([("a", "v", 1.0)])
    for change, message in (
        (lambda: votes.with_gold({"a": "x"}), "gold of item 'a' is 'x'"),
        (lambda: votes.with_gold({"b": 1}), "none of the 1 gold items"),
        (lambda: votes.with_history({"v": (1, 2)}), "history of worker 'v'"),
        (lambda: votes.with_history({"v": (1, 2, 3)}), "history of worker 'v'"),  # a mean square below the mean's
        (lambda: votes.with_history({"u": (1, 0, 1)}), "none of the 1 workers"),
        (lambda: votes.with_weights(workers={"v": -1}), "weight of worker 'v'"),
    ):
        with pytest.raises(VotesError, match=message):
            change()


def test_what_a_worker_said_twice():
    answers = [("a", "v", 1.0), ("a", "w", 5.0), ("a", "v", 3.0)]
    assert Mean().fit(table(answers)).estimate.tolist() == [3.0]
    assert Mean().fit(table(answers, repeats="last")).estimate.tolist() == [4.0]


@pytest.mark.parametrize("method_type", [Mean, Median, BiasAndNoise])
def test_wrong_parameters_are_refused_by_name(method_type):
    with pytest.raises(ValueError, match=r"level is 1\.0"):
        method_type(level=1.0)
    for parameter, value in {"max_iter": 0, "tol": -1, "smoothing": 0}.items():
        if hasattr(method_type(), parameter):
            with pytest.raises(ValueError, match=f"{parameter} is {value}"):
                method_type(**{parameter: value})


@pytest.mark.parametrize("method", NUMERIC)
def test_a_stream_is_the_batch_and_survives_saving_and_merging(method):
    answers, *_ = random_answers(7)
    known = {"gold": {"i3": 12.0}, "weight": {"w2": 2.0}, "history": {"w1": (3, 0.1, 1.0)}}
    first, second = method.state(), method.state()
    for start in range(0, 120, 40):
        first.add(table(answers[start : start + 40]))
    second.add(table(answers[120:]).with_weights(workers=known["weight"]).with_history(known["history"]))
    first.add(table(answers[12:16]).with_gold(known["gold"]))
    first.merge(second)
    loaded = type(first).load(first.save())
    loaded.merge(method.state())
    said = answers[:120] + answers[12:16] + answers[120:]
    batch = table(said).with_gold(known["gold"]).with_weights(workers=known["weight"]).with_history(known["history"])
    expected = method.fit(batch)
    for state in (first, loaded):
        assert len(state) == len(said)
        result = state.posterior()
        assert result.items.tolist() == expected.items.tolist()
        assert result.estimate.tobytes() == expected.estimate.tobytes()
        assert result.low.tobytes() == expected.low.tobytes()
    some = first.posterior(["i9", "i2"])
    assert some.estimate.tolist() == expected.estimate[[9, 2]].tolist()
    assert first.save() == loaded.save()


def test_what_no_stream_can_do_is_refused():
    state = BiasAndNoise().state()
    with pytest.raises(VotesError, match="no answers yet"):
        state.posterior()
    assert len(BiasAndNoiseState.load(state.save())) == 0
    state.add(table([("a", "v", 1.0)]))
    with pytest.raises(KeyError, match="'b'"):
        state.posterior(["b"])
    with pytest.raises(ValueError, match="cannot merge"):
        state.merge(BiasAndNoise(smoothing=1).state())
    with pytest.raises(SnapshotError, match="expected 'bias_and_noise'"):
        BiasAndNoiseState.load(Mean().state().save())
    odd = Mean().state()
    odd.add(table([((1, 2), "v", 1.0)]))
    with pytest.raises(TypeError, match="only text and numbers"):
        odd.save()


def test_many_small_additions_are_one_table():
    state = Median().state()
    for at in range(200):
        state.add(table([("i", f"w{at}", float(at))]))
    assert state.posterior().estimate.tolist() == [99.5]


def random_grades(seed, n_items=120, n_workers=20, K=5, per_item=3):
    """Graders with biases of half a class and noise of about .7 classes."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    noise, bias = generator.gamma(2, 0.35, n_workers) + 0.1, generator.normal(0, 0.5, n_workers)
    votes = [
        (i, int(w), int(np.clip(np.rint(truth[i] + bias[w] + noise[w] * generator.normal()), 0, K - 1)))
        for i in range(n_items)
        for w in generator.choice(n_workers, per_item, replace=False)
    ]
    return votes, truth


@pytest.mark.parametrize(("K", "known"), [(1, False), (2, False), (4, False), (4, True)])
def test_ordinal_equals_the_oracle(K, known):
    triples, _ = random_grades(K, n_items=25, n_workers=6, K=K)
    votes = Votes.from_columns(*zip(*triples, strict=True), classes=range(K))
    extra = {}
    if known:
        counts = np.arange(16.0).reshape(4, 4) % 5
        extra = {
            "gold": {0: 0, 3: K - 1},
            "history": {2: {(k, l): counts[k, l] for k in range(K) for l in range(K)}},
            "worker_weight": {1: 0.5, 4: 2.0},
            "item_weight": {5: 3.0, 6: 0.0},
        }
        votes = votes.with_gold(extra["gold"]).with_history({2: counts})
        votes = votes.with_weights(items=extra["item_weight"], workers=extra["worker_weight"])
    for n_iter in (1, 4):
        found = Ordinal(max_iter=n_iter, tol=0).fit(votes)
        posterior, prior, bounds = naive_scales.ordinal(triples, K, n_iter, **extra)
        np.testing.assert_allclose(found.posterior, [posterior[i] for i in votes.items.tolist()], atol=1e-8)
        np.testing.assert_allclose(found.class_prior, prior, atol=1e-9)
        np.testing.assert_allclose(found.objective, bounds, rtol=1e-9)


def test_few_grades_of_many_graders_are_better_used_than_without_the_order():
    away = {"majority": [], "dawid_skene": [], "ordinal": []}
    for seed in range(8):
        triples, truth = random_grades(seed, n_items=300, n_workers=30)
        votes = Votes.from_columns(*zip(*triples, strict=True))
        for method in (Majority(), DawidSkene(), Ordinal()):
            result = method.fit(votes)
            away[method.name].append(np.mean(np.abs(result.labels - truth[result.items])))
    mean = {name: np.mean(values) for name, values in away.items()}
    assert mean["ordinal"] < 0.85 * mean["dawid_skene"]
    assert mean["ordinal"] < 0.75 * mean["majority"]


def test_the_objective_of_ordinal_never_falls_and_rows_are_probabilities():
    for seed, K in ((0, 3), (1, 7), (2, 50)):
        triples, _ = random_grades(seed, K=K)
        result = Ordinal(max_iter=30, tol=0).fit(Votes.from_columns(*zip(*triples, strict=True), classes=range(K)))
        assert (np.diff(result.objective) >= -1e-9 * np.abs(result.objective[1:])).all()
        np.testing.assert_allclose(result.confusion.sum(axis=2), 1)
        np.testing.assert_allclose(result.posterior.sum(axis=1), 1)


def test_ordinal_streams_and_keeps_its_edges():
    triples, _ = random_grades(3)
    names = {"items": ["a", "b", "c"], "workers": ["v", "w", "idle"], "classes": [1, 2, 3]}
    sparse = Ordinal().fit(Votes.from_coded([0, 0, 1], [0, 1, 0], [1, 1, 2], **names))
    np.testing.assert_allclose(sparse.posterior[2], sparse.class_prior)
    state = Ordinal().state()
    for start in range(0, len(triples), 100):
        state.add(Votes.from_columns(*zip(*triples[start : start + 100], strict=True), classes=range(5)))
    batch = Ordinal().fit(Votes.from_columns(*zip(*triples, strict=True), classes=range(5)))
    assert state.refit().posterior.tobytes() == batch.posterior.tobytes()
    again = type(state).load(state.save())
    np.testing.assert_allclose(again.posterior().posterior, batch.posterior, atol=1e-12)
    with pytest.raises(VotesError, match="129 ordered classes"):
        Ordinal().fit(Votes.from_coded([0], [0], [0], items=[0], workers=[0], classes=range(129)))
    with pytest.raises(VotesError, match="consolidate them as numbers"):
        Ordinal().fit(Votes.from_coded([0], [0], [0], items=[0], workers=range(100_000), classes=range(100)))
    for parameter, value in (("max_iter", 0), ("tol", -1), ("refit_growth", 0)):
        with pytest.raises(ValueError, match=f"{parameter} is {value}"):
            Ordinal(**{parameter: value})


def test_they_keep_the_protocols():
    names = [method.name for method in (*NUMERIC, Ordinal())]
    assert names == ["numeric_mean", "numeric_median", "bias_and_noise", "ordinal"]
    for method in (*NUMERIC, Ordinal()):
        assert isinstance(method, Method)
        assert isinstance(method.state(), State)


def test_results_become_columns():
    columns = Mean().fit(table([("i", "v", 1.0), ("i", "w", 3.0)])).to_columns()
    assert list(columns) == ["item", "estimate", "low", "high"]
    assert columns["estimate"].tolist() == [2.0]
