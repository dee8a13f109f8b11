"""What is known besides votes: abstentions, weights and history, in tables and in streams."""

import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.majority import Majority, MajorityState

ITEMS, WORKERS, LABELS = ["i", "i", "j", "j", "k"], ["v", "w", "v", "w", "w"], ["b", "?", "a", "b", "?"]


def table(**options):
    return Votes.from_columns(ITEMS, WORKERS, LABELS, **options)


def test_an_abstention_is_no_vote_and_no_class_but_item_and_worker_stay():
    votes = table(abstain="?")
    assert votes.items.tolist() == ["i", "j", "k"]
    assert votes.workers.tolist() == ["v", "w"]
    assert votes.classes.tolist() == ["a", "b"]
    assert votes.indptr.tolist() == [0, 1, 3, 3]
    assert votes.label_of_vote.tolist() == [1, 0, 1]
    assert votes.worker_of_vote.tolist() == [0, 0, 1]


def test_only_abstentions_are_no_votes():
    with pytest.raises(VotesError, match="no votes"):
        Votes.from_columns(["i"], ["v"], ["?"], abstain="?")


def test_weights_stand_where_their_names_do_and_are_1_elsewhere():
    votes = table().with_weights(items={"j": 2, "elsewhere": 9}, workers={"w": 0.5})
    assert votes.item_weight.tolist() == [1, 2, 1]
    assert votes.worker_weight.tolist() == [1, 0.5]
    assert table().item_weight is None


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_weight_that_is_none(weight):
    with pytest.raises(VotesError, match=r"weight of worker 'w' is .*; expected a number, 0 or more"):
        table().with_weights(workers={"w": weight})


def test_weights_of_nobody_who_voted():
    with pytest.raises(VotesError, match=r"none of the 1 items with weights has votes; the first is 7 \(int\)"):
        table().with_weights(items={7: 1.0})


def test_history_as_counts_and_as_right_and_wrong():
    votes = table(abstain="?").with_history({"w": [[3, 1], [0, 2]], "v": (8, 2)})
    assert votes.history.tolist() == [[[4, 1], [1, 4]], [[3, 1], [0, 2]]]


@pytest.mark.parametrize("given", [[[1, 2, 3]], (1, -1), [[1, 2], [3, float("nan")]], 5])
def test_a_history_that_is_none(given):
    with pytest.raises(VotesError, match=r"the history of worker 'v' is .*; expected 2 x 2 counts"):
        table(abstain="?").with_history({"v": given})


def test_history_of_nobody_who_voted():
    with pytest.raises(VotesError, match="none of the 1 workers with history has votes"):
        table().with_history({"nobody": (1, 1)})


def test_a_stream_keeps_weights_and_history_through_growth_merge_and_save():
    """Pieces that name other classes and workers first must not shuffle what is known."""
    state = Majority().state()
    state.add(Votes.from_columns(["z"], ["x"], ["c"]))
    state.add(table(abstain="?").with_weights(items={"j": 2}).with_history({"w": [[3, 1], [0, 2]]}))
    state.add(Votes.from_columns(["j"], ["a"], ["0"]).with_weights(workers={"a": 4}))
    other = Majority().state()
    other.merge(state)
    for stream in (state, MajorityState.load(state.save()), other):
        votes = stream.votes()
        assert dict(zip(votes.items.tolist(), votes.item_weight.tolist(), strict=True)) == {
            "z": 1,
            "i": 1,
            "j": 2,
            "k": 1,
        }
        assert votes.classes.tolist() == ["0", "a", "b", "c"]
        assert votes.workers.tolist() == ["a", "v", "w", "x"]
        assert votes.worker_weight.tolist() == [4, 1, 1, 1]
        expected = np.zeros((4, 4, 4))
        expected[2, 1:3, 1:3] = [[3, 1], [0, 2]]
        assert votes.history.tolist() == expected.tolist()
        assert stream._log.votes(["j", "z"]).item_weight.tolist() == [2, 1]


def test_later_knowledge_replaces_what_was_known_before():
    state = Majority().state()
    state.add(table(abstain="?").with_weights(items={"j": 2}).with_history({"w": (4, 0), "v": (2, 0)}))
    state.add(Votes.from_columns(["j"], ["w"], ["a"], classes=["a", "b"]).with_history({"w": (0, 4)}))
    votes = state.votes()
    assert votes.item_weight.tolist() == [1, 2, 1]
    assert votes.history.tolist() == [[[1, 0], [0, 1]], [[0, 2], [2, 0]]]


def test_majority_counts_a_worker_as_often_as_their_weight_says():
    votes = Votes.from_columns(["i", "i", "i", "j"], ["v", "w", "x", "w"], ["a", "b", "b", "a"])
    result = Majority().fit(votes.with_weights(workers={"v": 3, "w": 0}))
    assert result.posterior.tolist() == [[0.75, 0.25], [0.5, 0.5]]
