"""Which vote next: against sums over all answers, and against what votes really gain."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.next_vote import NextVoteError, average_worker, expected_gain


def naive_gain(row, matrix, gain):
    """Go through the answers one by one, as the definition says."""
    K = len(row)

    def entropy(p):
        return -sum(x * math.log(x) for x in p if x > 0)

    before = entropy(row) if gain == "information" else -max(row)
    after = 0.0
    for l in range(K):
        joint = [row[k] * matrix[k][l] for k in range(K)]
        said = sum(joint)
        if said > 0:
            posterior = [x / said for x in joint]
            after += said * (entropy(posterior) if gain == "information" else -max(posterior))
    return before - after


def random_rows(generator, *shape):
    return generator.dirichlet(np.full(shape[-1], 0.5), shape[:-1])


@given(
    K=st.integers(1, 5),
    n_workers=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    gain=st.sampled_from(["information", "accuracy"]),
)
@settings(deadline=None)
def test_gains_are_those_of_the_definition(K, n_workers, seed, gain):
    generator = np.random.default_rng(seed)
    posterior, confusion = random_rows(generator, 4, K), random_rows(generator, n_workers, K, K)
    found = expected_gain(posterior, confusion, gain)
    assert found.shape == (4, n_workers)
    for i in range(4):
        for w in range(n_workers):
            assert found[i, w] == pytest.approx(naive_gain(posterior[i], confusion[w], gain), abs=1e-9)
    assert (found >= 0).all()
    assert expected_gain(posterior, confusion[0], gain).tolist() == found[:, 0].tolist()


def test_who_guesses_gains_nothing_and_who_knows_gains_everything():
    posterior = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    for gain in ("information", "accuracy"):
        assert expected_gain(posterior, np.full((2, 2), 0.5), gain).tolist() == pytest.approx([0, 0, 0])
    assert expected_gain(posterior, np.eye(2), "accuracy").tolist() == pytest.approx([0.5, 0.1, 0])
    assert expected_gain(posterior, np.eye(2))[0] == pytest.approx(math.log(2))


def test_asking_where_most_is_to_be_gained_beats_asking_anywhere():
    """300 items with 2 votes each, 150 votes more: by gain, or one each for the first 150 items."""
    right = {"by gain": 0, "anywhere": 0}
    matrix = np.array([[0.75, 0.25], [0.25, 0.75]])
    for seed in range(20):
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, 2, 300)

        def vote(item, truth=truth, generator=generator):
            return truth[item] if generator.random() < 0.75 else 1 - truth[item]

        start = np.zeros((300, 2))
        for item in range(300):
            for _ in range(2):
                start[item, vote(item)] += 1
        for how in right:
            count = start.copy()
            for n in range(150):
                log_odds = (count[:, 1] - count[:, 0]) * math.log(3)
                p = 1 / (1 + np.exp(-log_odds))
                gains = expected_gain(np.stack([1 - p, p], axis=1), matrix)
                item = int(gains.argmax()) if how == "by gain" else n
                count[item, vote(item)] += 1
            right[how] += (count.argmax(axis=1) == truth).sum()
    assert right["by gain"] > right["anywhere"] * 1.03


def test_the_average_worker_is_weighted_by_votes():
    votes = Votes.from_columns(["i", "j", "k", "i", "j", "k", "i"], list("aaabbbc"), list("xyxxyxy"))
    result = DawidSkene().fit(votes)
    expected = (3 * result.confusion[0] + 3 * result.confusion[1] + result.confusion[2]) / 7
    np.testing.assert_allclose(average_worker(votes, result), expected)
    majority = average_worker(votes, Majority().fit(votes))
    assert majority[0, 0] == majority[1, 1] == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    ("posterior", "confusion", "gain", "message"),
    [
        ([[0.5, 0.5]], np.eye(2), "money", "gain is 'money'"),
        ([0.5, 0.5], np.eye(2), "accuracy", r"shapes \(2,\) and \(2, 2\)"),
        ([[0.5, 0.5]], np.eye(3), "accuracy", r"shapes \(1, 2\) and \(3, 3\)"),
        ([[0.5, 0.6]], np.eye(2), "accuracy", "posterior holds rows that are no probabilities"),
        ([[0.5, 0.5]], [[2, -1], [0, 1]], "accuracy", "confusion holds rows that are no probabilities"),
        ([[math.nan, 0.5]], np.eye(2), "accuracy", "posterior holds rows"),
    ],
)
def test_what_cannot_be_computed(posterior, confusion, gain, message):
    with pytest.raises(NextVoteError, match=message):
        expected_gain(posterior, confusion, gain)


def test_nobody_is_known():
    votes = Votes.from_coded([0], [0], [0], items=["i", "j"], workers=["a"], classes=["x"])
    result = Majority().fit(votes)
    assert average_worker(votes, result).tolist() == [[1.0]]
