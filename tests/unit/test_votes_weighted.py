"""Weighted votes against their oracles, crowd-kit, and the edges of what can be asked of them."""

import csv
import gzip
import json
import math
from importlib import resources
from pathlib import Path

import naive_weighted as naive
import numpy as np
import pytest

from voxpop.consolidation import Votes
from voxpop.consolidation.method import Method, State
from voxpop.consolidation.votes import mmsr
from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.kos import KOS
from voxpop.consolidation.votes.majority import Majority
from voxpop.consolidation.votes.mmsr import MMSR
from voxpop.consolidation.votes.ties import choose_labels
from voxpop.consolidation.votes.wawa import Wawa
from voxpop.consolidation.votes.weighted_majority import WeightedMajority
from voxpop.consolidation.votes.zbs import ZeroBasedSkill

DATA = Path(__file__).parents[1] / "data" / "votes"
METHODS = [WeightedMajority(), Wawa(), ZeroBasedSkill(), KOS(), KOS(average=False), MMSR()]
NOTHING = naive.Known({}, {}, {}, {})


def table(triples, **options):
    return Votes.from_columns(*zip(*triples, strict=True), **options)


def random_case(seed, n_items=25, n_workers=7, K=3, accuracy=0.7):
    """Return triples, some of a worker twice on an item, and what is known besides the votes."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    triples = []
    for item in range(n_items):
        for worker in generator.choice(n_workers, generator.integers(1, 5)):
            right = generator.random() < (1 - accuracy if worker == 0 else accuracy)
            triples.append((item, int(worker), int(truth[item] if right else generator.integers(0, K))))
    said = sorted({worker for _, worker, _ in triples})
    known = naive.Known(
        gold={i: int(truth[i]) for i in (0, 3, 4)},
        items={1: 0.5, 2: 3.0, 5: 0.0},
        workers={said[0]: 2.5, said[-1]: 0.0, said[1]: 0.5},
        history={said[1]: {(k, (k + m) % K): 2.0 + k + m for k in range(K) for m in range(2)}},
    )
    return triples, known


CASES = {
    "votes alone": lambda known: NOTHING,
    "gold": lambda known: NOTHING._replace(gold=known.gold),
    "weights": lambda known: NOTHING._replace(items=known.items, workers=known.workers),
    "history": lambda known: NOTHING._replace(history=known.history),
    "everything": lambda known: known,
}


def votes_of(triples, known, K):
    votes = table(triples, classes=range(K))
    if known.gold:
        votes = votes.with_gold(known.gold)
    if known.history:
        counts = {w: [[of.get((t, l), 0) for l in range(K)] for t in range(K)] for w, of in known.history.items()}
        votes = votes.with_history(counts)
    return votes.with_weights(items=known.items, workers=known.workers) if known.items else votes


def tie(item, score):
    """Break ties as the library does; ``choose_labels`` has tests of its own."""
    classes = list(score)
    code = choose_labels(np.array([list(score.values())]), np.array([item]), np.array(classes), 0)
    return classes[int(code[0])]


def check(result, posterior, quality=None, atol=1e-9):
    expected = [[posterior[i][k] for k in result.classes.tolist()] for i in result.items.tolist()]
    np.testing.assert_allclose(result.posterior, expected, atol=atol)
    if quality is not None:
        np.testing.assert_allclose(result.worker_quality, [quality[w] for w in result.workers.tolist()], atol=atol)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("K", [2, 3, 5])
def test_every_method_equals_its_oracle(K, case):
    for seed in range(12):
        triples, known = random_case(seed, K=K)
        known = CASES[case](known)
        votes, classes = votes_of(triples, known, K), list(range(K))
        check(Wawa().fit(votes), *naive.wawa(triples, classes, known, tie))
        for max_iter in (1, 100):
            found = ZeroBasedSkill(max_iter=max_iter).fit(votes)
            posterior, skill, objective = naive.zero_based_skill(triples, classes, known, tie, max_iter)
            check(found, posterior, skill)
            np.testing.assert_allclose(found.objective, objective)
            assert found.n_iter == len(objective)
        for smoothing in (0.5, 4.0):
            found = WeightedMajority(smoothing=smoothing).fit(votes)
            check(found, *naive.weighted_majority(triples, classes, known, smoothing))
        for n_iter, average in ((1, True), (4, True), (4, False)):
            found = KOS(max_iter=n_iter, tol=0, average=average, seed=seed).fit(votes)
            check(found, naive.kos(triples, classes, known, n_iter, average, seed))
        for n_iter in (1, 6):
            found = MMSR(max_iter=n_iter, tol=0).fit(votes)
            check(found, *naive.mmsr(triples, classes, known, n_iter))


@pytest.mark.parametrize("method", METHODS)
def test_the_posterior_is_the_label_under_what_was_learned(method):
    triples, known = random_case(1)
    votes = votes_of(triples, known, 3)
    result = method.fit(votes)
    again = method.label(votes, result.learned)
    assert again.posterior.tobytes() == result.posterior.tobytes()
    assert again.worker_quality.tobytes() == result.worker_quality.tobytes()
    assert again.n_iter == result.n_iter


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def peer_votes(name):
    """Return the votes that crowd-kit was given: odd numbers of two classes, so that no majority is a tie."""
    if name == "bluebirds":
        with resources.as_file(resources.files("voxpop.simulator.data")) as folder:
            return table(read(folder / "bluebirds" / "answers.csv.gz"))
    if name == "anaesthesia1979_last":
        return table(read(DATA / "anaesthesia1979" / "answers.csv.gz"), repeats="last")
    assert name == "snow_rte_first_9"
    count, triples = {}, []
    for item, worker, label in read(DATA / "snow_rte" / "answers.csv.gz"):
        count[item] = count.get(item, 0) + 1
        if count[item] <= 9:
            triples.append((item, worker, label))
    return table(triples)


def peer(name):
    return json.loads((DATA / "peers" / f"{name}.json").read_text(encoding="utf-8"))["sets"]


@pytest.mark.parametrize("method", [Wawa(), ZeroBasedSkill()])
@pytest.mark.parametrize("name", ["bluebirds", "snow_rte_first_9"])
def test_skills_and_shares_are_those_of_crowd_kit(method, name):
    expected = peer(method.name)[name]
    result = method.fit(peer_votes(name))
    np.testing.assert_allclose(result.worker_quality, [expected["workers"][w] for w in result.workers], atol=1e-10)
    share = dict(zip(result.items, result.posterior[:, result.classes.tolist().index(expected["class"])], strict=True))
    found = [share[item] for item in expected["items"]]
    np.testing.assert_allclose(found, list(expected["items"].values()), atol=1e-10)


@pytest.mark.parametrize("name", ["bluebirds", "snow_rte_first_9"])
def test_kos_with_sums_gives_the_labels_of_crowd_kit(name):
    expected = peer("kos")[name]["labels"]
    result = KOS(average=False, tol=0).fit(peer_votes(name))
    assert dict(zip(result.items, result.labels, strict=True)) == expected


def test_kos_means_and_sums_agree_where_all_workers_are_equally_busy_and_only_there():
    """Sums follow the busiest workers of this crowd, who do not know better than a coin."""
    agreed = {}
    for name in ("bluebirds", "snow_rte_first_9"):
        votes = peer_votes(name)
        agreed[name] = np.mean(KOS().fit(votes).label_codes == KOS(average=False).fit(votes).label_codes)
    assert agreed["bluebirds"] == 1
    gold = dict(read(DATA / "snow_rte" / "truth.csv.gz"))
    means, sums = (method.fit(votes) for method in (KOS(), KOS(average=False)))
    assert np.mean(means.label_codes == means.gold_codes(gold)) > 0.88
    assert np.mean(sums.label_codes == sums.gold_codes(gold)) < 0.6


def test_mmsr_finds_the_skills_of_crowd_kit_where_its_program_is_right():
    """All pairs of these workers share items, so its global F is ours, and no missing pair counts as disagreement.

    With five workers and F = 1 the completion stands still in many places; crowd-kit's own differ by seed.
    """
    for name, atol in (("bluebirds", 1e-8), ("anaesthesia1979_last", 0.15)):
        expected = peer("mmsr")[name]
        result = MMSR(max_iter=2000, tol=1e-12).fit(peer_votes(name))
        p, others = result.worker_quality, result.classes.size - 1
        log_odds = np.log(others * p / (1 - p))
        np.testing.assert_allclose(log_odds, [expected["workers"][w] for w in result.workers], atol=atol)
        assert dict(zip(result.items, result.labels, strict=True)) == expected["labels"]


def accuracy_of(method, votes, truth):
    return np.mean(method.fit(votes).labels == truth)


def uneven_crowd(seed, n_items=400, n_workers=40, K=3):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, n_items)
    items = np.repeat(np.arange(n_items), 5)
    workers = generator.integers(0, n_workers, items.size)
    p = np.where(np.arange(n_workers) % 4 == 0, 0.9, 0.45)
    right = generator.random(items.size) < p[workers]
    labels = np.where(right, truth[items], (truth[items] + generator.integers(1, K, items.size)) % K)
    return Votes.from_columns(items, workers, labels), truth


@pytest.mark.parametrize("method", [m for m in METHODS if m != KOS(average=False)])
def test_every_method_beats_majority_when_few_are_good(method):
    ours, plain = [], []
    for seed in range(5):
        votes, truth = uneven_crowd(seed)
        ours.append(accuracy_of(method, votes, truth))
        plain.append(accuracy_of(Majority(), votes, truth))
    assert np.mean(ours) > np.mean(plain) + 0.02


def test_mmsr_withstands_colluding_adversaries_that_wawa_follows():
    """Of thirteen votes on each item five are of a gang that agreed on a wrong class."""
    found = {"mmsr": [], "wawa": []}
    for seed in range(3):
        generator = np.random.default_rng(seed)
        n_items, K = 300, 4
        truth = generator.integers(0, K, n_items)
        decoy = (truth + generator.integers(1, K, n_items)) % K
        triples = []
        for item in range(n_items):
            for worker in generator.choice(20, 8, replace=False):
                right = generator.random() < 0.65
                triples.append((item, int(worker), int(truth[item] if right else generator.integers(0, K))))
            triples += [(item, 100 + worker, int(decoy[item])) for worker in generator.choice(9, 5, replace=False)]
        votes = table(triples)
        for method in (MMSR(), Wawa()):
            found[method.name].append(accuracy_of(method, votes, truth))
    assert np.mean(found["mmsr"]) > 0.98
    assert np.mean(found["wawa"]) < 0.85


@pytest.mark.parametrize("method", [WeightedMajority(), KOS(), MMSR()])
def test_gold_teaches_who_is_right(method):
    """One who is always wrong cannot be told from one who is always right, until gold tells."""
    triples = [(i, w, "a" if (i % 2 == 0) == (w == "liar") else "b") for i in range(40) for w in ("liar", "honest")]
    truth = ["b" if i % 2 == 0 else "a" for i in range(40)]
    result = method.fit(table(triples).with_gold({i: truth[i] for i in range(6)}))
    assert result.labels.tolist() == truth
    quality = dict(zip(result.workers, result.worker_quality, strict=True))
    assert quality["honest"] > 0.7 > 0.3 > quality["liar"]


@pytest.mark.parametrize("method", [WeightedMajority(), Wawa(), ZeroBasedSkill(), KOS(), MMSR()])
def test_history_teaches_like_gold(method):
    """Each of two who disagree is believed as far as they were right before."""
    triples = [(i, w, "a" if (i % 2 == 0) == (w == "new") else "b") for i in range(6) for w in ("new", "old")]
    past = {"old": [[20, 0], [0, 20]], "new": [[0, 20], [20, 0]]}
    result = method.fit(table(triples).with_history(past))
    assert result.labels.tolist() == ["b" if i % 2 == 0 else "a" for i in range(6)]


def test_own_votes_do_not_count_as_agreement():
    """Two who always differ agree with nobody: Wawa lets ties say who was right, weighted majority does not."""
    votes = table([(i, w, "ab"[(i + (w == "v")) % 2]) for i in range(30) for w in ("v", "w")])
    alone = WeightedMajority().fit(votes)
    assert alone.worker_quality.tolist() == [alone.worker_quality[0]] * 2
    assert alone.worker_quality[0] < 0.1
    assert Wawa().fit(votes).worker_quality.sum() == pytest.approx(1)


def test_votes_nobody_can_be_compared_with_leave_the_average():
    result = WeightedMajority().fit(table([("i", "v", "a"), ("j", "w", "b"), ("j", "w", "b")]))
    assert result.worker_quality.tolist() == [0.5, 0.5]
    assert result.posterior.tolist() == [[0.5, 0.5], [0.5, 0.5]]


EDGES = {
    "one vote": [("i", "w", "a")],
    "one vote of two classes": [("i", "w", "a"), ("j", "w", "b")],
    "two to one": [("i", "v", "a"), ("i", "w", "a"), ("i", "x", "b")],
    "one worker": [(i, "w", "ab"[i % 2]) for i in range(5)],
    "one class": [(i, w, "a") for i in range(3) for w in "vwx"],
    "all votes equal": [(i, w, "a") for i in range(3) for w in "vwx"] + [(9, "v", "b")],
    "fifty classes": [(i, w, i % 50) for i in range(100) for w in range(i % 3 + 1)],
    "one worker often": [("i", "w", "a")] * 3 + [("j", "v", "b")] * 2,
    "opposites": [(i, w, (i + w) % 2) for i in range(4) for w in range(2)],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("edge", EDGES)
def test_small_and_lopsided_tables_have_sound_answers(method, edge):
    result = method.fit(table(EDGES[edge]))
    assert np.isfinite(result.posterior).all()
    np.testing.assert_allclose(result.posterior.sum(axis=1), 1)
    assert ((result.posterior >= 0) & (result.posterior <= 1)).all()
    assert ((result.worker_quality >= 0) & (result.worker_quality <= 1)).all()
    if edge == "two to one":
        assert result.labels.tolist() == ["a"]
    if edge in {"fifty classes", "one class", "one vote"}:
        said = {item: label for item, _, label in EDGES[edge]}
        assert result.labels.tolist() == list(said.values())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
def test_items_without_votes_have_equal_shares_and_idle_workers_are_average(method):
    names = {"items": ["a", "b", "c", "d"], "workers": ["u", "v", "w", "idle"], "classes": ["x", "y"]}
    votes = Votes.from_coded([0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2, 0, 1], [1, 1, 0, 0, 0, 0, 1, 1], **names)
    result = method.fit(votes)
    assert result.posterior[3].tolist() == [0.5, 0.5]
    quality = result.worker_quality
    assert quality[:3].min() <= quality[3] <= quality[:3].max()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
def test_weights_of_0_everywhere_leave_shares_or_nothing(method):
    """Nobody teaches, or nobody counts: no answer may be invalid."""
    votes = table([("i", "v", "a"), ("i", "w", "a"), ("i", "x", "b"), ("j", "v", "a"), ("j", "w", "b")])
    unlearned = method.fit(votes.with_weights(items={"i": 0, "j": 0}))
    assert np.isfinite(unlearned.posterior).all()
    assert np.isfinite(unlearned.worker_quality).all()
    unheard = method.fit(votes.with_weights(workers={"v": 0, "w": 0, "x": 0}))
    assert unheard.posterior.tolist() == [[0.5, 0.5]] * 2


@pytest.mark.parametrize("method", METHODS)
def test_all_items_gold(method):
    triples, _ = random_case(3)
    truth = {i: 1 for i, _, _ in triples}
    result = method.fit(table(triples, classes=range(3)).with_gold(truth))
    assert result.labels.tolist() == [1] * result.items.size
    assert result.confidence.tolist() == [1.0] * result.items.size


def test_a_million_right_answers_before_are_no_certainty():
    votes = table([("i", "v", "a"), ("i", "w", "b")]).with_history({"v": (1e17, 0)})
    for method in (WeightedMajority(), MMSR()):
        result = method.fit(votes)
        assert np.isfinite(result.posterior).all()
        assert result.labels.tolist() == ["a"]


def test_kos_draws_its_first_messages_by_seed_and_names():
    """One round shows the draw; the order of rows does not matter, the seed does. Many rounds forget it."""
    triples, _ = random_case(0, n_items=60, n_workers=8)
    first = [KOS(max_iter=1, tol=0, seed=seed).fit(table(rows)) for seed, rows in ((0, triples), (1, triples))]
    assert first[0].posterior.tolist() != first[1].posterior.tolist()
    backwards = KOS(max_iter=1, tol=0).fit(table(triples[::-1]))
    np.testing.assert_allclose(backwards.posterior[::-1], first[0].posterior, atol=1e-12)
    votes = peer_votes("bluebirds")
    late = [KOS(seed=seed).fit(votes) for seed in (0, 1)]
    np.testing.assert_allclose(late[0].posterior, late[1].posterior, atol=1e-5)


def test_first_messages_have_mean_and_variance_1():
    draws = np.array([naive.first_message(i, w, 5) for i in range(200) for w in range(50)])
    assert abs(draws.mean() - 1) < 4 / math.sqrt(draws.size)
    assert abs(draws.var() - 1) < 8 / math.sqrt(draws.size)


def test_mmsr_has_the_same_bytes_with_any_number_of_threads():
    generator = np.random.default_rng(1)
    n = 60_000
    items, workers = generator.integers(0, 12_000, n), generator.integers(0, 600, n)
    votes = Votes.from_columns(items, workers, (items + (generator.random(n) < 0.4) * generator.integers(0, 3, n)) % 3)
    assert mmsr._pairs_of(votes, np.ones(votes.n_items)).other.size > 4 * mmsr._PAIRS_PER_BLOCK
    results = [MMSR(threads=threads, max_iter=5).fit(votes) for threads in (1, 2, 3)]
    assert len({result.posterior.tobytes() for result in results}) == 1
    assert len({result.worker_quality.tobytes() for result in results}) == 1


def test_mmsr_refuses_more_pairs_than_memory_holds(monkeypatch):
    votes = table([(i, w, i % 2) for i in range(2) for w in range(40)])
    monkeypatch.setattr(mmsr, "_MAX_PAIRS", 1559)
    with pytest.raises(
        VotesError, match=r"780 pairs of 40 workers share an item; expected at most 779, .*weighted_maj"
    ):
        MMSR().fit(votes)
    monkeypatch.setattr(mmsr, "_MAX_PAIRS", 1560)
    MMSR().fit(votes)


def test_mmsr_takes_many_workers_without_a_dense_matrix():
    """30,000 workers squared would take 7 GB; they met 4 others each."""
    n = 30_000
    items = np.repeat(np.arange(n // 5), 5)
    votes = Votes.from_coded(
        items, np.arange(n), (items + (np.arange(n) % 5 == 0)) % 2, items=range(n // 5), workers=range(n), classes="ab"
    )
    result = MMSR().fit(votes)
    assert result.label_codes.tolist() == [i % 2 for i in range(n // 5)]


@pytest.mark.parametrize("method", METHODS)
def test_methods_keep_the_protocols(method):
    assert isinstance(method, Method)
    assert isinstance(method.state(), State)
    assert (
        method.name
        == {
            WeightedMajority: "weighted_majority",
            Wawa: "wawa",
            ZeroBasedSkill: "zero_based_skill",
            KOS: "kos",
            MMSR: "mmsr",
        }[type(method)]
    )


@pytest.mark.parametrize(
    ("method", "parameter", "value"),
    [
        (WeightedMajority, "smoothing", 0),
        (WeightedMajority, "smoothing", math.inf),
        (WeightedMajority, "smoothing", math.nan),
        (ZeroBasedSkill, "max_iter", 0),
        (KOS, "max_iter", 0),
        (KOS, "tol", -1),
        (MMSR, "max_iter", 0),
        (MMSR, "tol", math.nan),
        (MMSR, "threads", 0),
        *((type(method), "refit_growth", 0.5) for method in METHODS),
    ],
)
def test_wrong_parameters_are_refused_by_name(method, parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} is {value!r}; expected "):
        method(**{parameter: value})


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_labels_between_fits_and_refits_to_the_batch(method):
    triples, _ = random_case(7, n_items=40)
    state = method.state()
    state.add(table(triples[:60], classes=range(3)))
    fitted = state.refit()
    state.add(table([(0, 0, 1), ("new", 1, 2), ("new", "late", 2)], classes=range(3)))
    between = state.posterior([0, "new"])
    loaded = type(state).load(state.save())
    assert loaded.posterior([0, "new"]).posterior.tobytes() == between.posterior.tobytes()
    late = between.workers.tolist().index("late")
    np.testing.assert_allclose(between.worker_quality[late], fitted.worker_quality.mean())
    np.testing.assert_allclose(np.delete(between.worker_quality, late), fitted.worker_quality)
    state.add(table(triples[60:], classes=range(3)))
    batch = method.fit(state.votes())
    refitted = state.refit()
    assert refitted.posterior.tobytes() == batch.posterior.tobytes()
    again = state.posterior(["new", 3])
    row = {item: i for i, item in enumerate(batch.items.tolist())}
    assert again.posterior.tobytes() == batch.posterior[[row["new"], row[3]]].tobytes()
