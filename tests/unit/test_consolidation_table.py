"""The vote table: what it reads, in which order it keeps names, and what it refuses."""

import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.votes.columns import VotesError

ITEMS = ["b", "b", "a", "b"]
WORKERS = ["w2", "w1", "w1", "w2"]
LABELS = ["x", "y", "x", "y"]


def rows(votes):
    return [
        (votes.items[i], votes.workers[w], votes.classes[k])
        for i, w, k in zip(votes.item_of_vote, votes.worker_of_vote, votes.label_of_vote, strict=True)
    ]


def test_items_come_in_order_of_appearance_workers_and_classes_sorted():
    votes = Votes.from_columns(ITEMS, WORKERS, LABELS)
    assert votes.items.tolist() == ["b", "a"]
    assert votes.workers.tolist() == ["w1", "w2"]
    assert votes.classes.tolist() == ["x", "y"]
    assert sorted(rows(votes)) == sorted(zip(ITEMS, WORKERS, LABELS, strict=True))
    assert (len(votes), votes.n_items, votes.n_workers, votes.n_classes) == (4, 2, 2, 2)


class ArrowLike:
    """A column as Arrow offers it."""

    def __init__(self, values):
        self.values = values

    def to_pylist(self):
        return list(self.values)


class FrameLike:
    """A column as pandas and polars offer it."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.array(self.values)


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, ArrowLike, FrameLike])
def test_every_kind_of_column_gives_the_same_table(make):
    expected = Votes.from_columns(ITEMS, WORKERS, LABELS)
    votes = Votes.from_columns(make(ITEMS), make(WORKERS), make(LABELS))
    assert rows(votes) == rows(expected)


@pytest.mark.parametrize("numbers", [[7, 7, 3, 7], [-5, -5, 2**60, -5], [2**63, 2**63, 1, 2**63]])
@pytest.mark.parametrize("make", [list, lambda values: np.array(values, dtype=object), np.array])
def test_numbers_are_names_too_dense_or_not(numbers, make):
    votes = Votes.from_columns(make(numbers), WORKERS, make(numbers))
    assert votes.items.tolist() == [numbers[0], numbers[2]]
    assert votes.classes.tolist() == sorted(set(numbers))


def test_named_classes_keep_their_order_and_may_be_unused():
    votes = Votes.from_columns(ITEMS, WORKERS, LABELS, classes=["z", "y", "x"])
    assert votes.classes.tolist() == ["z", "y", "x"]


def test_repeated_votes_all_count_or_the_last_one_does():
    every = Votes.from_columns(ITEMS, WORKERS, LABELS)
    last = Votes.from_columns(ITEMS, WORKERS, LABELS, repeats="last")
    assert ("b", "w2", "x") in rows(every)
    assert sorted(rows(last)) == [("a", "w1", "x"), ("b", "w1", "y"), ("b", "w2", "y")]


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_missing_entry_is_refused_with_its_row(missing, column):
    columns = [list(ITEMS), list(WORKERS), list(LABELS)]
    columns[column][2] = missing
    name = ["item", "worker", "label"][column]
    with pytest.raises(VotesError, match=f"row 2: {name} is missing"):
        Votes.from_columns(*columns)


def test_missing_entries_of_arrays_are_found():
    with pytest.raises(VotesError, match="row 1: label is missing"):
        Votes.from_columns([1, 2], [1, 2], np.array([1.0, np.nan]))
    with pytest.raises(VotesError, match="row 0: label is missing"):
        Votes.from_columns([1, 2], [1, 2], np.ma.masked_array([1, 2], [True, False]))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], [], []), {}, "there are no votes"),
        (([1], [1, 2], [1]), {}, "1, 2 and 1 entries"),
        (("abc", [1], [1]), {}, "items is the single value 'abc'"),
        ((np.zeros((2, 2)), [1], [1]), {}, r"items has shape \(2, 2\)"),
        (([1], [1], [[1]]), {}, r"row 0: label is \[1\], which cannot be a name"),
        (([1, 2], [1, 2], ["a", 3]), {}, r"mixed types: 'a' \(str\) at row 0, 3 \(int\) at row 1"),
        (([1, 2], [1, 2], ["a", "b"]), {"classes": ["a", "c"]}, "row 1: label 'b' is not among the 2 classes"),
        (([1], [1], ["a"]), {"classes": ["a", "a"]}, "twice in the list of class names"),
        (([1], [1], ["a"]), {"repeats": "first"}, "expected 'all' or 'last'"),
    ],
)
def test_what_cannot_be_votes_is_refused_with_its_place(arguments, options, message):
    with pytest.raises(VotesError, match=message):
        Votes.from_columns(*arguments, **options)


def test_codes_outside_their_names_are_refused():
    names = {"items": ["a"], "workers": ["w"], "classes": ["x", "y"]}
    with pytest.raises(VotesError, match=r"row 1: label code 2 is outside 0\.\.1"):
        Votes.from_coded([0, 0], [0, 0], [1, 2], **names)
    with pytest.raises(VotesError, match="item codes are float64"):
        Votes.from_coded([0.5], [0], [1], **names)
    with pytest.raises(VotesError, match="exceed 4294967296"):
        Votes.from_coded([0], [0], [0], items=["a"], workers=range(70_000), classes=range(65_535))


def test_many_votes_on_one_item_are_sorted_too():
    generator = np.random.default_rng(0)
    workers, labels = generator.integers(0, 50, 1000), generator.integers(0, 3, 1000)
    votes = Votes.from_columns([0] * 1000, workers, labels)
    assert (np.diff(votes.codes.astype(np.int64)) >= 0).all()
    assert sorted(rows(votes)) == sorted(zip([0] * 1000, workers.tolist(), labels.tolist(), strict=True))


def test_gold_is_a_mapping_or_two_columns_and_may_cover_other_items():
    votes = Votes.from_columns(ITEMS, WORKERS, LABELS)
    assert votes.with_gold({"a": "y", "elsewhere": "x"}).gold.tolist() == [-1, 1]
    assert votes.with_gold(["b", "b"], ["x", "x"]).gold.tolist() == [0, -1]
    assert votes.gold.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        (({"a": "q"},), "gold label 'q' of item 'a'"),
        (({1: "x"},), r"none of the 1 gold items has votes; the first gold item is 1 \(int\)"),
        ((["a", "a"], ["x", "y"]), "row 1: gold item 'a' is 'y' here and 'x' before"),
        ((["a"], ["x", "y"]), "1 and 2 entries"),
        ((["a"], [None]), "row 0: gold label is missing"),
        ((["a"],), "neither a mapping"),
    ],
)
def test_wrong_gold_is_refused(gold, message):
    with pytest.raises(VotesError, match=message):
        Votes.from_columns(ITEMS, WORKERS, LABELS).with_gold(*gold)


def test_a_table_cannot_be_changed():
    votes = Votes.from_columns(ITEMS, WORKERS, LABELS)
    for array in (votes.items, votes.workers, votes.classes, votes.indptr, votes.codes, votes.gold):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]
