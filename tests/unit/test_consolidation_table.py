"""The vote table: what it reads, in which order it keeps names, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation import Votes
from voxpop.consolidation.votes import interning
from voxpop.consolidation.votes.columns import VotesError, intern

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


class FrameLike:
    """A column as pandas and polars offer it, and Arrow without its dictionaries."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.array(self.values)


def arrow(values):
    return pytest.importorskip("pyarrow").array(values)


def arrow_chunks(values):
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.chunked_array([values[:1], values[1:]], type=pyarrow.array(values).type)


def arrow_dictionary(values):
    return arrow_chunks(values).dictionary_encode()


def pandas_series(values):
    return pytest.importorskip("pandas").Series(values)


def pandas_categories(values):
    pandas = pytest.importorskip("pandas")
    categories = sorted({"w0", "0", *(value for value in values if value is not None)}, reverse=True)  # some are unused
    return pandas.Series(pandas.Categorical(values, categories))


def polars_series(values):
    return pytest.importorskip("polars").Series(values)


def polars_categories(values):
    polars = pytest.importorskip("polars")
    return polars.Series(values, dtype=polars.Categorical)


FRAMES = [arrow, arrow_chunks, arrow_dictionary, pandas_series, pandas_categories, polars_series, polars_categories]


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, FrameLike, *FRAMES])
def test_every_kind_of_column_gives_the_same_table(make):
    expected = Votes.from_columns(ITEMS, WORKERS, LABELS)
    votes = Votes.from_columns(make(ITEMS), make(WORKERS), make(LABELS))
    assert rows(votes) == rows(expected)
    for ours, theirs in ((votes.items, expected.items), (votes.workers, expected.workers)):
        assert ours.tolist() == theirs.tolist()
    assert {type(name) for name in votes.items.tolist()} == {str}


@pytest.mark.parametrize("make", FRAMES)
def test_missing_entries_of_frames_are_found(make):
    with pytest.raises(VotesError, match="row 2: worker is missing"):
        Votes.from_columns(ITEMS, make(["w2", "w1", None, "w2"]), LABELS)


@pytest.mark.parametrize("make", [arrow, pandas_series, polars_series])
def test_numbers_of_frames_are_names(make):
    votes = Votes.from_columns(make([7, 7, 3, 7]), WORKERS, make([1.5, 2.5, 1.5, 2.5]))
    assert votes.items.tolist() == [7, 3]
    assert votes.classes.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("make", [arrow, polars_series])
def test_lists_in_frames_are_no_names(make):
    with pytest.raises(VotesError, match=r"row 0: label is .*x.*, which cannot be a name"):
        Votes.from_columns(ITEMS, WORKERS, make([["x"], ["x"], ["y"], ["y"]]))


def interned(names):
    """What a dictionary of Python's says."""
    place = {}
    codes = [place.setdefault(name, len(place)) for name in names]
    return list(place), codes


AWKWARD = [
    "", "a", "\x01", "a" * 7, "a" * 8, "a" * 9, "a" * 15, "a" * 16, "a" * 17, "a" * 300, "aaaaaaab", "aaaaaaaab",
    "é", "e\u0301", "😀", "\ud83d\ude00", "\ud800", "名前", " a", "a ", "A",
]  # fmt: skip


@pytest.mark.parametrize("extra", [[], ["a\0b", "a", "a\0b"], [1, 2.5, ("a", 1)]])
def test_names_are_the_same_only_if_every_byte_is(extra):
    """Text is interned by its bytes; with a zero byte or anything that is no text, by a dictionary."""
    generator = np.random.default_rng(0)
    names = [(AWKWARD + extra)[i] for i in generator.integers(0, len(AWKWARD + extra), 500)] + extra
    for dtype in (np.int64, np.uint32):
        found, codes = intern(names, "item", dtype)
        assert (found, codes.tolist()) == interned(names)
        assert codes.dtype == dtype


def hash_of(words):
    """The hash of interning.py over words of eight bytes."""
    value = 0
    for word in words:
        value = (value ^ word) * int(interning._FACTOR) % 2**64
        value ^= value >> 32
    return value


def test_names_with_the_same_hash_are_told_apart():
    """Two names of 16 letters: the second half of one is chosen so that both come to the same number."""
    generator = np.random.default_rng(3)
    ours = [int.from_bytes(b"abcdefgh", "little"), int.from_bytes(b"ijklmnop", "little")]
    while True:
        first = bytes(generator.integers(97, 123, 8).tolist())
        word = int.from_bytes(first, "little")
        second = (hash_of(ours[:1]) ^ ours[1] ^ hash_of([word])).to_bytes(8, "little")
        if all(0 < byte < 128 for byte in second):
            break
    assert hash_of([word, int.from_bytes(second, "little")]) == hash_of(ours)
    names = ["abcdefghijklmnop", (first + second).decode(), "abcdefghijklmnop"]
    assert intern(names, "item")[1].tolist() == [0, 1, 0]


def test_names_by_the_hundred_thousand_are_all_told_apart():
    """More than one block of names, and more distinct ones than the first table holds."""
    generator = np.random.default_rng(1)
    names = [f"{'long ' * (n % 7)}name {n}" for n in generator.integers(0, 250_000, 400_000).tolist()]
    found, codes = intern(names, "item")
    assert (found, codes.tolist()) == interned(names)


@given(names=st.lists(st.text(max_size=20), max_size=60))
@settings(deadline=None)
def test_any_text_is_interned_as_by_a_dictionary(names):
    found, codes = intern(names, "item")
    assert (found, codes.tolist()) == interned(names)


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
    with pytest.raises(VotesError, match="5000000000 item names; expected fewer than 4294967296"):
        Votes.from_coded([0], [0], [0], items=range(5_000_000_000), workers=["w"], classes=["x"])
    with pytest.raises(VotesError, match="twice in the list of item names"):
        Votes.from_coded([0], [0], [0], items=np.array([3, 1, 3]), workers=["w"], classes=["x"])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint64, ">i4"])
def test_codes_may_be_of_any_whole_type_skip_places_and_lie_apart_in_memory(dtype):
    item, worker, label = (np.array(codes, dtype)[::2] for codes in ([5, 0, 2, 0, 5], [9, 0, 3, 0, 3], [1, 0, 1, 0, 4]))
    votes = Votes.from_coded(item, worker, label, items=range(6), workers=range(10), classes=range(5))
    assert rows(votes) == [(2, 3, 1), (5, 3, 4), (5, 9, 1)]
    assert votes.indptr.tolist() == [0, 0, 0, 1, 1, 1, 3]
    columns = Votes.from_columns(item, worker, label)
    assert rows(columns) == [(5, 3, 4), (5, 9, 1), (2, 3, 1)]


def test_an_abstention_does_not_shift_the_rows_of_complaints():
    with pytest.raises(VotesError, match="row 3: label 'z' is not among the 2 classes"):
        Votes.from_columns([1, 2, 3, 4], [1, 2, 3, 4], ["?", "x", "y", "z"], classes=["x", "y"], abstain="?")
    with pytest.raises(VotesError, match=r"'x' \(str\) at row 1, 3 \(int\) at row 2"):
        Votes.from_columns([1, 2, 3], [1, 2, 3], ["?", "x", 3], abstain="?")


@pytest.mark.parametrize("n", [9, 10, 36, 37, 120, 5000])
def test_many_votes_on_one_item_are_sorted_too(n):
    generator = np.random.default_rng(0)
    workers, labels = generator.integers(0, 50, n), generator.integers(0, 3, n)
    votes = Votes.from_columns([0] * n, workers, labels)
    assert (np.diff(votes.codes.astype(np.int64)) >= 0).all()
    assert sorted(rows(votes)) == sorted(zip([0] * n, workers.tolist(), labels.tolist(), strict=True))


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
