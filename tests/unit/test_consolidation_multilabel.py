"""Sets of labels: how they are read, and that each class is consolidated by itself."""

import naive_scales
import numpy as np
import pytest

from voxpop.consolidation.method import Method, State
from voxpop.consolidation.multilabel import MultiLabel, MultiLabelState, MultiLabelVotes
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.ground_truth import GroundTruth
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.snapshot import SnapshotError, pack

CLASSES = ["cat", "dog", "fox", "owl"]


def random_answers(seed, n_items=40, n_workers=8, per_item=4, classes=CLASSES):
    """Workers who overlook a third of what applies and see a tenth of what does not; often nothing applies."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n_items, len(classes))) < np.linspace(0.1, 0.5, len(classes))
    answers = []
    for item in range(n_items):
        for worker in generator.choice(n_workers, per_item, replace=False):
            ticked = generator.random(len(classes)) < np.where(truth[item], 0.67, 0.1)
            answers.append((f"i{item}", f"w{worker}", {c for c, t in zip(classes, ticked, strict=True) if t}))
    return answers, truth


def table(answers, **options):
    return MultiLabelVotes.from_columns(*zip(*answers, strict=True), **options)


def as_answers(votes):
    """Read the table back: the multiset of (item, worker, classes)."""
    ticked = [set() for _ in range(votes.n_answers)]
    for c, label in enumerate(votes.classes.tolist()):
        for answer in votes.ticked_in[votes.indptr[c] : votes.indptr[c + 1]]:
            ticked[answer].add(label)
    names = zip(votes.items[votes.item].tolist(), votes.workers[votes.worker].tolist(), ticked, strict=True)
    return sorted((item, worker, sorted(labels)) for item, worker, labels in names)


def test_majority_by_class_equals_the_oracle():
    answers, _ = random_answers(0)
    gold = {"i3": {"cat", "owl"}, "i4": set()}
    votes = table(answers, classes=CLASSES).with_gold(gold)
    result = MultiLabel(Majority()).fit(votes)
    shares = naive_scales.tick_shares(answers, CLASSES, gold)
    expected = [[shares[i][c] for c in CLASSES] for i in result.items.tolist()]
    np.testing.assert_allclose(result.probability, expected, atol=1e-12)
    for item, labels in zip(result.items.tolist(), result.labels, strict=True):
        assert labels == {c for c in CLASSES if shares[item][c] >= 0.5}
    assert result.labels[3] == {"cat", "owl"}
    assert result.labels[4] == frozenset()


@pytest.mark.parametrize("known", [False, True])
def test_a_learning_method_by_class_equals_the_oracle(known):
    answers, _ = random_answers(1)
    votes = table(answers, classes=CLASSES)
    extra = [{} for _ in CLASSES]
    if known:
        gold, counts = {"i0": {"dog"}, "i9": {"cat", "dog"}}, np.arange(16.0).reshape(4, 2, 2)
        votes = votes.with_gold(gold).with_history({"w2": counts})
        votes = votes.with_weights(items={"i5": 2.0}, workers={"w1": 0.5})
        extra = [
            {
                "gold": {item: c in labels for item, labels in gold.items()},
                "history": {"w2": {(k, l): counts[at, int(k), int(l)] for k in (False, True) for l in (False, True)}},
                "worker_weight": {"w1": 0.5},
                "item_weight": {"i5": 2.0},
            }
            for at, c in enumerate(CLASSES)
        ]
    result = MultiLabel(GroundTruth(max_iter=3)).fit(votes)
    for c, label in enumerate(CLASSES):
        triples = naive_scales.ticks_as_votes(answers, label)
        posterior, *_ = naive_scales.ground_truth(triples, [False, True], 3, 0.95, **extra[c])
        expected = [posterior[item][True] for item in result.items.tolist()]
        np.testing.assert_allclose(result.probability[:, c], expected, atol=1e-9)


def test_learning_whom_to_believe_finds_more_than_counting():
    """Half of the workers overlook most of what is there: two ticks of four are then enough."""
    generator = np.random.default_rng(5)
    truth = generator.random((400, 4)) < 0.4
    sees = np.where(np.arange(10) % 2 == 0, 0.95, 0.3)
    answers = [
        (i, int(w), {c for c in range(4) if generator.random() < (sees[w] if truth[i, c] else 0.03)})
        for i in range(400)
        for w in generator.choice(10, 4, replace=False)
    ]
    wrong = {}
    for method in (Majority(), DawidSkene()):
        result = MultiLabel(method).fit(table(answers, classes=range(4)))
        wrong[method.name] = np.mean(result.applies != truth)
    assert wrong["dawid_skene"] < 0.6 * wrong["majority"]


def test_an_item_of_which_nothing_was_ticked_is_an_answer():
    votes = table([("a", "v", ["cat"]), ("a", "w", []), ("a", "x", []), ("b", "v", [])])
    assert votes.n_answers == 4
    assert votes.n_ticks == 1
    result = MultiLabel(Majority()).fit(votes)
    np.testing.assert_allclose(result.probability, [[1 / 3], [0]])
    assert result.labels == [frozenset(), frozenset()]
    np.testing.assert_allclose(result.confidence, [[2 / 3], [1]])


def test_the_threshold_says_how_sure_a_label_must_be():
    votes = table([("a", "v", ["cat"]), ("a", "w", ["cat", "dog"]), ("a", "x", ["cat"]), ("a", "y", ["dog"])])
    for threshold, labels in (
        (0.2, {"cat", "dog"}),
        (0.5, {"cat", "dog"}),
        (0.51, {"cat"}),
        (0.75, {"cat"}),
        (0.8, set()),
    ):
        assert MultiLabel(Majority(), threshold=threshold).fit(votes).labels == [labels]


def test_collections_and_rows_of_ticks_are_the_same_answers():
    answers, _ = random_answers(2)
    rows = [(i, w, label) for i, w, ticked in answers for label in (sorted(ticked) or [None])]
    generator = np.random.default_rng(0)
    generator.shuffle(rows)
    rows.append(rows[0])  # the same tick twice is one tick
    assert as_answers(table(rows)) == as_answers(table(answers))
    named = [(i, w, label or "none") for i, w, label in rows]
    assert as_answers(table(named, nothing="none")) == as_answers(table(answers))
    arrays = [np.array(sorted(ticked), dtype=object) for _, _, ticked in answers]
    items, workers, _ = zip(*answers, strict=True)
    assert as_answers(MultiLabelVotes.from_columns(items, workers, arrays)) == as_answers(table(answers))


def test_columns_of_other_libraries():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"item": ["a", "a"], "worker": ["v", "w"], "labels": [["cat"], []]})
    votes = MultiLabelVotes.from_columns(frame["item"], frame["worker"], frame["labels"])
    assert as_answers(votes) == [("a", "v", ["cat"]), ("a", "w", [])]


def test_nothing_beside_labels_says_nothing():
    votes = table([("a", "v", ["cat", "none"]), ("a", "w", ["none"])], nothing="none")
    assert as_answers(votes) == [("a", "v", ["cat"]), ("a", "w", [])]


def test_who_abstains_says_nothing_of_any_class():
    answers = [("a", "v", ["cat"]), ("a", "w", ["dog", "?"]), ("b", "w", ["?"]), ("c", "v", ["dog"])]
    votes = table(answers, abstain="?")
    assert as_answers(votes) == [("a", "v", ["cat"]), ("c", "v", ["dog"])]
    assert votes.items.tolist() == ["a", "b", "c"]
    assert votes.workers.tolist() == ["v", "w"]
    assert votes.classes.tolist() == ["cat", "dog"]
    rows = [("a", "v", "cat"), ("a", "w", "dog"), ("a", "w", "?"), ("b", "w", "?"), ("c", "v", "dog")]
    assert as_answers(table(rows, abstain="?")) == as_answers(votes)
    np.testing.assert_allclose(MultiLabel(Majority()).fit(votes).probability[1], [0.5, 0.5])


def test_what_a_worker_said_twice():
    answers = [("a", "v", ["cat"]), ("a", "w", []), ("a", "v", ["dog"])]
    assert as_answers(table(answers)) == [("a", "v", ["cat"]), ("a", "v", ["dog"]), ("a", "w", [])]
    last = table(answers, repeats="last")
    assert as_answers(last) == [("a", "v", ["dog"]), ("a", "w", [])]
    assert last.classes.tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (([], [], []), {}, "there are no answers"),
        ((["a"], ["v", "w"], [["x"]]), {}, "1, 2 and 1 entries"),
        ((["a", "a"], ["v", "w"], [["x"], "y"]), {}, r"row 1: labels is 'y', but \['x'\] at row 0"),
        ((["a", "a"], ["v", "w"], ["y", ["x"]]), {}, r"row 1: labels is \['x'\], but 'y' at row 0"),
        ((["a", "a"], ["v", "w"], [["x"], None]), {}, r"row 1: labels is None"),
        ((["a", "a"], ["v", "w"], [["x"], ["x", None]]), {"nothing": "-"}, r"row 1: label is missing \(None\)"),
        ((["a", "a"], ["v", "w"], [["x"], [["y"]]]), {}, r"row 1: label is \['y'\], which cannot be a name"),
        ((["a", None], ["v", "w"], [["x"], []]), {}, "row 1: item is missing"),
        ((["a"], ["v"], [[]]), {}, "nobody ticked anything"),
        ((["a", "b"], ["v", "v"], [["x"], ["y", "z"]]), {"classes": ["x", "y"]}, "row 1: label 'z' is not among the 2"),
        ((["a"], ["v"], [["x", 1]]), {}, "mixed types"),
        ((["a"], ["v"], [["x"]]), {"classes": ["x", "x"]}, "stands twice"),
        ((["a"], ["v"], [["x"]]), {"repeats": "first"}, "repeats is 'first'"),
        (("a", ["v"], [["x"]]), {}, "items is the single value"),
    ],
)
def test_what_cannot_be_answers_is_refused_by_row(columns, options, message):
    with pytest.raises(VotesError, match=message):
        MultiLabelVotes.from_columns(*columns, **options)


def test_what_cannot_be_known_is_refused():
    votes = table([("a", "v", ["cat"])])
    for change, message in (
        (lambda: votes.with_gold({"a": ["cow"]}), "gold label 'cow' of item 'a'"),
        (lambda: votes.with_gold({"a": "cat"}), "expected a set of labels"),
        (lambda: votes.with_gold({"b": ["cat"]}), "none of the 1 gold items"),
        (lambda: votes.with_history({"v": [[1, 2], [3, 4]]}), r"expected counts of shape \(1, 2, 2\)"),
        (lambda: votes.with_history({"v": [[[1, -2], [3, 4]]]}), "history of worker 'v'"),
        (lambda: votes.with_history({"u": [[[1, 2], [3, 4]]]}), "none of the 1 workers"),
        (lambda: votes.with_weights(items={"a": -1}), "weight of item 'a'"),
    ):
        with pytest.raises(VotesError, match=message):
            change()
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        MultiLabel(threshold=1.5)


def test_one_answer_in_all():
    for method in (Majority(), DawidSkene(), GroundTruth()):
        result = MultiLabel(method).fit(table([("a", "v", ["cat"])], classes=["cat", "dog"]))
        assert result.labels == [{"cat"}]
        assert np.isfinite(result.probability).all()
        assert result.worker_quality.shape == (1, 2)


def test_results_become_columns():
    result = MultiLabel(Majority()).fit(table([("a", "v", ["x", "y"]), ("b", "v", []), ("c", "v", ["y"])]))
    columns = {name: column.tolist() for name, column in result.to_columns().items()}
    assert columns == {"item": ["a", "a", "c"], "label": ["x", "y", "y"], "confidence": [1, 1, 1]}


METHODS = [MultiLabel(Majority()), MultiLabel(DawidSkene(refit_growth=1)), MultiLabel(GroundTruth(refit_growth=1), 0.7)]


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_in_pieces_is_the_batch_though_classes_appear_late(method):
    answers, _ = random_answers(4)
    late = [(i, w, ticked - {"fox", "owl"} if n < 90 else ticked) for n, (i, w, ticked) in enumerate(answers)]
    state = method.state()
    for start in range(0, len(late), 30):
        state.add(table(late[start : start + 30], nothing="cow"))
    streamed, batch = state.posterior(), method.fit(table(late))
    assert streamed.classes.tolist() == batch.classes.tolist() == CLASSES
    assert streamed.items.tolist() == batch.items.tolist()
    assert streamed.probability.tobytes() == batch.probability.tobytes()
    assert streamed.worker_quality.tobytes() == batch.worker_quality.tobytes()
    some = ["i7", "i2"]
    row = {item: i for i, item in enumerate(batch.items.tolist())}
    assert state.posterior(iter(some)).labels == [batch.labels[row[item]] for item in some]


def test_streams_merge_save_and_load():
    answers, _ = random_answers(5)
    method = MultiLabel(DawidSkene(refit_growth=1), threshold=0.6)
    parts = []
    for start, classes in ((0, ["cat", "dog"]), (80, ["fox", "owl"])):
        part = method.state()
        part.add(table([(i, w, t & set(classes)) for i, w, t in answers[start : start + 80]], classes=classes))
        parts.append(MultiLabelState.load(part.save()))
    first, second = parts
    first.merge(second)
    first.merge(method.state())
    together = [(i, w, t & ({"cat", "dog"} if n < 80 else {"fox", "owl"})) for n, (i, w, t) in enumerate(answers)]
    batch = method.fit(table(together, classes=CLASSES))
    loaded = MultiLabelState.load(first.save())
    assert first.n_answers == loaded.n_answers == 160
    assert loaded.method == method
    for state in (first, loaded):
        assert state.posterior().probability.tobytes() == batch.probability.tobytes()
    assert first.save() == loaded.save()


def test_what_no_stream_can_do_is_refused():
    state = MultiLabel(Majority()).state()
    with pytest.raises(VotesError, match="no answers yet"):
        state.posterior()
    state.add(table([("a", "v", ["cat"])]))
    with pytest.raises(KeyError, match="'b'"):
        state.posterior(["b"])
    with pytest.raises(ValueError, match="cannot merge"):
        state.merge(MultiLabel(Majority(seed=1)).state())
    with pytest.raises(SnapshotError, match="expected 'multi_label'"):
        MultiLabelState.load(Majority().state().save())
    with pytest.raises(SnapshotError, match="does not fit"):
        MultiLabelState.load(pack({"method": "multi_label"}, {}))
    odd = MultiLabel(Majority()).state()
    odd.add(table([("a", "v", [b"cat"])]))
    with pytest.raises(TypeError, match="only text and numbers"):
        odd.save()


def test_it_keeps_the_protocols():
    assert MultiLabel().name == "multi_label"
    assert isinstance(MultiLabel(), Method)
    assert isinstance(MultiLabel().state(), State)
