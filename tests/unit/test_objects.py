"""What all shapes share: the table of marks, and the matching against gold."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.consolidation.objects import ObjectsError, ObjectTable
from voxpop.consolidation.objects.scores import MatchScores, match_objects, scores_of

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=30)


@given(marks=rows, empty=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=6))
@settings(deadline=None)
def test_every_row_stands_where_item_worker_and_order_say(marks, empty):
    taken = {(item, worker) for item, worker, _ in marks}
    empty = [pair for pair in empty if pair not in taken]
    columns = [
        [item for item, *_ in marks] + [item for item, _ in empty],
        [worker for _, worker, _ in marks] + [worker for _, worker in empty],
        [label for *_, label in marks] + [None] * len(empty),
    ]
    present = [True] * len(marks) + [False] * len(empty)
    table, kept = ObjectTable.from_columns(*columns, present=present)
    assert table.items.tolist() == list(dict.fromkeys(columns[0]))
    assert table.workers.tolist() == sorted(set(columns[1]))
    assert table.n_objects == len(marks)
    seen = {}
    for i, item in enumerate(table.items.tolist()):
        for a in range(table.item_indptr[i], table.item_indptr[i + 1]):
            objects = range(table.answer_indptr[a], table.answer_indptr[a + 1])
            seen[item, table.workers[table.worker[a]]] = [
                (int(kept[o]), table.classes[table.label[o]]) for o in objects
            ]
    expected = {pair: [] for pair in [*taken, *empty]}
    for row, (item, worker, label) in enumerate(marks):
        expected[item, worker].append((row, label))
    assert seen == expected
    workers = table.workers[table.worker_of_object].tolist()
    assert workers == [columns[1][row] for row in kept.tolist()]


def test_without_classes_there_is_one():
    table, _ = ObjectTable.from_columns(["i"], ["w"])
    assert table.classes.tolist() == [""]
    nothing, kept = ObjectTable.from_columns(["i"], ["w"], ["x"], present=[False])
    assert (nothing.n_answers, nothing.n_objects, kept.size) == (1, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], []), {}, "there are no rows"),
        ((["i"], ["w", "v"]), {}, "items and workers have 1 and 2 entries"),
        ((["i"], ["w"], []), {}, "items and labels have 1 and 0 entries"),
        ((["i"], [None]), {}, "row 0: worker is missing"),
        ((["i"], ["w"], ["x"]), {"classes": ["y"]}, "row 0: label 'x' is not among the 1 classes"),
        ((["i"], ["w"]), {"present": [True, False]}, r"present has shape \(2,\)"),
        (
            (["i", "i", "j"], ["w", "w", "w"]),
            {"present": [True, False, True]},
            "row 1: the worker found nothing here, and marked an object of the same item in row 0",
        ),
    ],
)
def test_rows_that_cannot_be_used(arguments, options, message):
    with pytest.raises(ObjectsError, match=message):
        ObjectTable.from_columns(*arguments, **options)


def test_the_most_similar_pairs_are_matched_first():
    similarity = np.array([[0.9, 0.8, 0.0], [0.85, 0.2, 0.0]])
    assert match_objects(similarity, 0.5) == [(0, 0)]
    assert match_objects(similarity, 0.1) == [(0, 0), (1, 1)]
    assert match_objects(np.zeros((2, 2)), 0.0) == []


@given(n_found=st.integers(1, 4), n_gold=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_matching_is_one_to_one_and_leaves_no_pair_that_could_be_added(n_found, n_gold, seed):
    similarity = np.random.default_rng(seed).random((n_found, n_gold)).round(1)
    pairs = match_objects(similarity, 0.5)
    found, gold = [f for f, _ in pairs], [g for _, g in pairs]
    assert len(set(found)) == len(found)
    assert len(set(gold)) == len(gold)
    left = itertools.product(set(range(n_found)) - set(found), set(range(n_gold)) - set(gold))
    assert all(similarity[pair] < 0.5 for pair in left)


def test_scores_over_items():
    similarity = {0: np.array([[0.6], [0.9]]), 2: np.array([[0.4]])}
    scores = scores_of([(2, 1), (0, 3), (1, 1), (1, 0)], similarity.__getitem__, 0.5)
    assert scores == MatchScores(n_gold=5, n_found=4, n_matched=1, mean_similarity=0.9)
    assert (scores.precision, scores.recall, scores.f1) == (0.25, 0.2, pytest.approx(2 / 9))
    nothing = scores_of([(0, 0)], similarity.__getitem__, 0.5)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1)
