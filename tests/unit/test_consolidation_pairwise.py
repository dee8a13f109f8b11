"""Comparisons of two items: scores, rankings, whom to believe, and graphs in pieces."""

import json
import math
from pathlib import Path

import naive_scales
import numpy as np
import pytest

from voxpop.consolidation.method import Method, State
from voxpop.consolidation.pairwise import BradleyTerry, NoisyBradleyTerry, PairwiseVotes
from voxpop.consolidation.pairwise.bradley_terry import BradleyTerryState
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.snapshot import SnapshotError

PEER = Path(__file__).parents[1] / "data" / "votes" / "peers" / "bradley_terry.json"
METHODS = [BradleyTerry(), BradleyTerry(ties="rao_kupper"), NoisyBradleyTerry()]


def random_comparisons(seed, n_items=8, n_workers=4, per_worker=30, spammers=0, share_of_ties=0.0):
    """Items i0 (worst) to the last (best); spammers choose the left item."""
    generator = np.random.default_rng(seed)
    score = np.linspace(-2, 2, n_items)
    rows = []
    for w in range(n_workers + spammers):
        for _ in range(per_worker):
            a, b = generator.choice(n_items, 2, replace=False).tolist()
            left = w >= n_workers or generator.random() < 1 / (1 + math.exp(score[b] - score[a]))
            tied = generator.random() < share_of_ties
            rows.append((f"w{w}", f"i{a}", f"i{b}", "=" if tied else f"i{a if left else b}"))
    return rows, score


def table(rows, **options):
    return PairwiseVotes.from_columns(*zip(*rows, strict=True), **options)


def by_item(result):
    return dict(zip(result.items.tolist(), result.score.tolist(), strict=True))


def tau(result, score):
    """Return Kendall's rank correlation of the scores found with the true ones."""
    found = np.array([by_item(result)[f"i{i}"] for i in range(len(score))])
    pairs = [(i, j) for i in range(len(score)) for j in range(i)]
    return np.mean([np.sign((found[i] - found[j]) * (score[i] - score[j])) for i, j in pairs])


@pytest.mark.parametrize("prior", [0, 0.5, 3.0])
@pytest.mark.parametrize("share_of_ties", [0.0, 0.3])
def test_bradley_terry_equals_the_oracle(prior, share_of_ties):
    rows, _ = random_comparisons(1, share_of_ties=share_of_ties)
    result = BradleyTerry(prior=prior, tol=1e-11).fit(table(rows, tie="="))
    expected = naive_scales.bradley_terry(rows, prior)
    assert by_item(result) == pytest.approx(expected, abs=1e-6)
    objective = naive_scales.pairwise_objective(rows, by_item(result), prior)
    assert result.objective[-1] == pytest.approx(objective, rel=1e-9)


def test_ties_of_rao_and_kupper_are_at_the_top_of_their_objective():
    rows, _ = random_comparisons(2, share_of_ties=0.3)
    result = BradleyTerry(tol=1e-11, ties="rao_kupper").fit(table(rows, tie="="))
    score, prior = by_item(result), 1.0

    def objective(scores, threshold):
        return naive_scales.pairwise_objective(rows, scores, prior, threshold, "rao_kupper")

    best = objective(score, result.threshold)
    assert result.objective[-1] == pytest.approx(best, rel=1e-9)
    step = 1e-4
    for threshold in (result.threshold - step, result.threshold + step):
        assert objective(score, threshold) < best
    for item in score:
        for moved in (-step, step):
            assert objective(score | {item: score[item] + moved}, result.threshold) < best
    assert result.threshold > 1.2
    assert result.probability("i7", "i0") < 1 / (1 + math.exp(score["i0"] - score["i7"]))
    untied, _ = random_comparisons(2)
    plain, tied = (BradleyTerry(ties=ties).fit(table(untied)) for ties in ("half", "rao_kupper"))
    assert tied.threshold == 1
    assert tied.score.tobytes() == plain.score.tobytes()


def test_the_scores_of_crowd_kit_are_those_of_the_second_iteration():
    """It compares an array with itself and always stops there; see the note in the fixture."""
    peer = json.loads(PEER.read_text(encoding="utf-8"))
    result = BradleyTerry(prior=0, max_iter=2, tol=0).fit(table(peer["comparisons"]))
    share = np.exp(result.score) / np.exp(result.score).sum()
    theirs = [peer["bradley_terry"][item] for item in result.items.tolist()]
    np.testing.assert_allclose(share, theirs, rtol=1e-9)
    converged = BradleyTerry(prior=0).fit(table(peer["comparisons"]))
    assert converged.objective[-1] > result.objective[-1] + 1


def test_the_noisy_model_is_likelier_than_where_crowd_kit_ends():
    """Same model, another optimiser: ours also finds the two who choose the left item."""
    peer = json.loads(PEER.read_text(encoding="utf-8"))
    rows = peer["comparisons"]
    result = NoisyBradleyTerry(prior=0.01, smoothing=0.01).fit(table(rows))
    workers = result.workers.tolist()
    skill = dict(zip(workers, (2 * result.worker_quality - 1).tolist(), strict=True))
    bias = dict(zip(workers, result.worker_bias.tolist(), strict=True))
    ours = naive_scales.noisy_likelihood(rows, by_item(result), skill, bias)
    theirs = naive_scales.noisy_likelihood(rows, **peer["noisy"])
    assert ours > theirs + 5
    believed = NoisyBradleyTerry().fit(table(rows)).worker_quality
    assert set(np.argsort(believed)[:2]) == {6, 7}


@pytest.mark.parametrize("share_of_ties", [0.0, 0.2])
def test_the_noisy_model_is_at_the_top_of_its_objective(share_of_ties):
    rows, _ = random_comparisons(3, spammers=2, share_of_ties=share_of_ties)
    votes = table(rows, tie="=").with_history({"w1": (9, 2)}).with_weights({"w2": 2.0})
    result = NoisyBradleyTerry(tol=1e-10).fit(votes)
    pseudo = dict.fromkeys(result.workers.tolist(), (3.2, 0.8)) | {"w1": (3.2 + 7, 0.8 + 4)}
    weighed = [(row, (2.0 if row[0] == "w2" else 1.0)) for row in rows]

    def objective(score, skill, bias):
        total = naive_scales.pairwise_objective([], score, 1.0)
        for (worker, left, right, winner), weight in weighed:
            for won in (left, right) if winner == "=" else (winner,):
                one = naive_scales.noisy_likelihood([(worker, left, right, won)], score, skill, bias)
                total += weight * one * (0.5 if winner == "=" else 1.0)
        for w, (looked, not_looked) in pseudo.items():
            total += looked * math.log(skill[w]) + not_looked * math.log(1 - skill[w])
            total += 2.0 * (math.log(bias[w]) + math.log(1 - bias[w]))
        return total

    found = [
        by_item(result),
        dict(zip(result.workers.tolist(), (2 * result.worker_quality - 1).tolist(), strict=True)),
        dict(zip(result.workers.tolist(), result.worker_bias.tolist(), strict=True)),
    ]
    best = objective(*found)
    assert result.objective[-1] == pytest.approx(best, rel=1e-9)
    for at, parameters in enumerate(found):
        for name, value in parameters.items():
            for moved in (-1e-3, 1e-3):
                other = [*found[:at], parameters | {name: value + moved}, *found[at + 1 :]]
                assert objective(*other) < best


def test_learning_whom_to_believe_ranks_better_among_spammers():
    found = {"bradley_terry": [], "noisy_bradley_terry": []}
    for seed in range(12):
        rows, score = random_comparisons(seed, n_items=12, n_workers=5, spammers=7, per_worker=60)
        for method in (BradleyTerry(), NoisyBradleyTerry()):
            result = method.fit(table(rows))
            found[method.name].append(tau(result, score))
        spammer = np.array([int(name[1:]) >= 5 for name in result.workers])
        assert result.worker_quality[~spammer].min() > result.worker_quality[spammer].max()
        assert (result.worker_bias[spammer] > 0.9).all()
    assert np.mean(found["noisy_bradley_terry"]) > np.mean(found["bradley_terry"]) + 0.03


@pytest.mark.parametrize("method", METHODS)
def test_the_objective_never_falls(method):
    for seed in range(5):
        rows, _ = random_comparisons(seed, spammers=2, share_of_ties=0.2)
        objective = method.fit(table(rows, tie="=")).objective
        assert (np.diff(objective) >= -1e-9 * np.abs(objective[1:])).all()


@pytest.mark.parametrize("method", METHODS)
def test_who_won_every_game_has_a_finite_score(method):
    result = method.fit(table([("w", "a", "b", "a"), ("w", "b", "c", "b"), ("v", "a", "c", "a")]))
    assert np.isfinite(result.score).all()
    assert result.ranking == ["a", "b", "c"]
    assert result.rank.tolist() == [1, 2, 3]
    assert result.probability("a", "c") > 0.6
    with pytest.raises(VotesError, match="some items never won, or never lost"):
        BradleyTerry(prior=0).fit(table([("w", "a", "b", "a"), ("w", "b", "c", "b"), ("v", "a", "c", "a")]))


@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_a_graph_are_reported_and_centred_by_the_prior(method):
    rows = [("w", "a", "b", "a")] * 3 + [("w", "x", "y", "x")] * 3 + [("w", "y", "z", "z"), ("w", "b", "c", "b")]
    result = method.fit(table(rows))
    assert result.items.tolist() == ["a", "b", "x", "y", "z", "c"]
    assert result.component.tolist() == [0, 0, 1, 1, 1, 0]
    assert result.n_components == 2
    score = by_item(result)
    assert score["a"] > score["b"] > score["c"]
    assert abs(score["a"] + score["b"] + score["c"]) < 0.3
    assert abs(score["x"] + score["y"] + score["z"]) < 0.6
    with pytest.raises(VotesError, match="set prior above 0"):
        BradleyTerry(prior=0).fit(table(rows))


def test_a_long_chain_is_one_piece():
    n = 3000
    votes = PairwiseVotes.from_columns(["w"] * n, range(n), range(1, n + 1), range(n))
    result = BradleyTerry(max_iter=3).fit(votes)
    assert result.n_components == 1
    backwards = PairwiseVotes.from_columns(["w"] * n, range(n, 0, -1), range(n - 1, -1, -1), range(n, 0, -1))
    assert BradleyTerry(max_iter=3).fit(backwards).n_components == 1


def test_equal_scores_share_a_rank_and_are_listed_by_name():
    result = BradleyTerry().fit(
        table([("w", "b", "a", "b"), ("w", "a", "b", "a"), ("w", "c", "a", "c"), ("w", "d", "b", "d")])
    )
    assert result.ranking == ["c", "d", "a", "b"]
    assert dict(zip(result.items.tolist(), result.rank.tolist(), strict=True)) == {"b": 3, "a": 3, "c": 1, "d": 1}


def test_weights_abstentions_and_repeats():
    rows = [("v", "a", "b", "a"), ("w", "a", "b", "b"), ("w", "b", "a", "?"), ("x", "c", "d", "?")]
    votes = table(rows, abstain="?")
    assert len(votes) == 2
    assert votes.workers.tolist() == ["v", "w", "x"]
    assert votes.items.tolist() == ["a", "b", "c", "d"]
    even = BradleyTerry().fit(votes)
    np.testing.assert_allclose(even.score, 0, atol=1e-9)
    assert np.isnan(even.worker_quality[2])
    assert even.n_components == 3
    assert BradleyTerry().fit(votes.with_weights({"v": 3.0})).ranking[0] == "a"
    three = table([rows[0]] * 3 + rows[1:], abstain="?")
    assert by_item(BradleyTerry().fit(votes.with_weights({"v": 3.0}))) == pytest.approx(
        by_item(BradleyTerry().fit(three))
    )
    again = [("v", "a", "b", "a"), ("v", "b", "a", "b")]
    assert len(table(again)) == 2
    assert BradleyTerry().fit(table(again, repeats="last")).ranking == ["b", "a"]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (([], [], [], []), {}, "there are no comparisons"),
        ((["w"], ["a"], ["b"], []), {}, "1, 1, 1 and 0 entries"),
        ((["w", "w"], ["a", "b"], ["b", "b"], ["a", "b"]), {}, "row 1: 'b' is compared with itself"),
        ((["w", "w"], ["a", "b"], ["b", "a"], ["a", "c"]), {}, "row 1: the winner is 'c'; expected 'b' or 'a'$"),
        ((["w"], ["a"], ["b"], ["c"]), {"tie": "="}, "expected 'a' or 'b', or '=' for a tie"),
        ((["w"], ["a"], ["b"], [None]), {}, "the winner is None"),
        ((["w", None], ["a", "a"], ["b", "b"], ["a", "a"]), {}, "row 1: worker is missing"),
        ((["w"], ["a"], [None], ["a"]), {}, "row 0: right is missing"),
        ((["w"], ["a"], ["b"], ["a"]), {"repeats": "first"}, "repeats is 'first'"),
    ],
)
def test_what_is_no_comparison_is_refused_by_row(columns, options, message):
    with pytest.raises(VotesError, match=message):
        PairwiseVotes.from_columns(*columns, **options)


def test_what_cannot_be_known_is_refused():
    votes = table([("w", "a", "b", "a")])
    for change, message in (
        (lambda: votes.with_history({"w": (1, -1)}), "history of worker 'w'"),
        (lambda: votes.with_history({"v": (1, 1)}), "none of the 1 workers"),
        (lambda: votes.with_weights({"w": -1}), "weight of worker 'w'"),
    ):
        with pytest.raises(VotesError, match=message):
            change()
    for method_type, parameters in (
        (BradleyTerry, {"max_iter": 0, "tol": -1, "prior": -1, "ties": "none"}),
        (NoisyBradleyTerry, {"max_iter": 0, "tol": -1, "prior": 0, "smoothing": 0}),
    ):
        for parameter, value in parameters.items():
            with pytest.raises(ValueError, match=f"{parameter} is {value!r}"):
                method_type(**{parameter: value})


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_is_the_batch_and_survives_saving_and_merging(method):
    rows, _ = random_comparisons(4, share_of_ties=0.1)
    first, second = method.state(), method.state()
    for start in range(0, 80, 20):
        first.add(table(rows[start : start + 20], tie="="))
    second.add(table(rows[80:], tie="=").with_weights({"w3": 2.0}).with_history({"w2": (5, 1)}))
    first.merge(second)
    loaded = type(first).load(first.save())
    expected = method.fit(table(rows, tie="=").with_weights({"w3": 2.0}).with_history({"w2": (5, 1)}))
    for state in (first, loaded):
        assert len(state) == len(rows)
        assert state.posterior().items.tolist() == expected.items.tolist()
        assert state.posterior().score.tobytes() == expected.score.tobytes()
    some = first.posterior(iter(["i3", "i1"]))
    assert some.score.tolist() == [by_item(expected)["i3"], by_item(expected)["i1"]]
    assert first.save() == loaded.save()


def test_what_no_stream_can_do_is_refused():
    state = BradleyTerry().state()
    with pytest.raises(VotesError, match="no answers yet"):
        state.posterior()
    state.add(table([("w", "a", "b", "a")]))
    with pytest.raises(KeyError, match="'c'"):
        state.posterior(["c"])
    with pytest.raises(ValueError, match="cannot merge"):
        state.merge(BradleyTerry(prior=2).state())
    with pytest.raises(SnapshotError, match="expected 'bradley_terry'"):
        BradleyTerryState.load(NoisyBradleyTerry().state().save())


def test_they_keep_the_protocols():
    assert [method.name for method in METHODS] == ["bradley_terry", "bradley_terry", "noisy_bradley_terry"]
    for method in METHODS:
        assert isinstance(method, Method)
        assert isinstance(method.state(), State)


def test_results_become_columns():
    columns = BradleyTerry().fit(table([("w", "a", "b", "b")])).to_columns()
    assert {name: column.tolist()[:1] for name, column in columns.items() if name != "score"} == {
        "item": ["a"],
        "rank": [2],
        "component": [0],
    }
