"""Crowds without a broker: what they say is what the seed or the recording says, in any order."""

from __future__ import annotations

import csv
import gzip
import random
from collections import Counter
from importlib.resources import files

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.formats.model import FormatError
from voxpop.simulator.annotators.category import CategoryCrowd, CategorySpec
from voxpop.simulator.behaviour import address_in, parse_network
from voxpop.simulator.counter import lognormal, uniform
from voxpop.simulator.crowd import Abandon, Answer, Crowd, CrowdError, Decline
from voxpop.simulator.faults import FaultyCrowd
from voxpop.simulator.recorded import RecordedCrowd, bluebirds
from voxpop.simulator.spec import PRESETS, Replay, parse_crowd, parse_spec, spec_schema

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
COORDINATE = st.integers(0, 2**62)


def naive_uniform(*coordinates):
    """SplitMix64 in plain whole numbers, as in the paper."""

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    seed, *rest = coordinates
    x = mix((seed + GOLDEN) & MASK)
    for coordinate in rest:
        x = mix((x + (coordinate + 1) * GOLDEN) & MASK)
    return (x >> 11) * 2.0**-53


@settings(deadline=None)  # the first call compiles
@given(COORDINATE, COORDINATE, COORDINATE, st.integers(0, 20))
def test_uniform_is_splitmix(seed, worker, item, draw):
    assert uniform(seed, worker, item, draw) == naive_uniform(seed, worker, item, draw)


def test_neighbouring_coordinates_are_independent():
    """Means and correlations of neighbours along each coordinate lie within five standard errors."""
    n = 40_000
    base = np.array([uniform(7, 0, i, 0) for i in range(n)])
    assert abs(base.mean() - 0.5) < 5 / np.sqrt(12 * n)
    for other in ((8, 0, 0), (7, 1, 0), (7, 0, 1)):
        neighbour = np.array([uniform(other[0], other[1], i, other[2]) for i in range(n)])
        assert abs(np.corrcoef(base, neighbour)[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(base[1:], base[:-1])[0, 1]) < 5 / np.sqrt(n)


def test_think_times_are_log_normal():
    logs = np.log([lognormal(3, 1, i, 0, 6.0, 0.5) for i in range(20_000)])
    assert abs(logs.mean() - np.log(6.0)) < 5 * 0.5 / np.sqrt(20_000)
    assert abs(logs.std() - 0.5) < 0.02


def everything(crowd, items):
    return {(worker, item): crowd.answer(worker, item) for worker in crowd.workers for item in range(items)}


@pytest.mark.parametrize("preset", PRESETS)
def test_answers_do_not_depend_on_order_or_process(preset):
    """The same seed says the same whoever is asked first; another seed says something else."""
    spec = msgspec.structs.replace(PRESETS[preset], seed=11)
    categories = ["-1", "0", "1"]
    expected = everything(CategoryCrowd(spec, categories), 30)
    shuffled = list(expected)
    random.Random(5).shuffle(shuffled)
    crowd = CategoryCrowd(spec, categories)
    assert {pair: crowd.answer(*pair) for pair in shuffled} == expected
    assert everything(CategoryCrowd(msgspec.structs.replace(spec, seed=12), categories), 30) != expected


@pytest.mark.parametrize("preset", PRESETS)
def test_visits_are_ordered_and_everybody_comes_once(preset):
    spec = PRESETS[preset]
    crowd = CategoryCrowd(spec, ["a", "b"])
    visits = list(iter(lambda: crowd.next(0.0), None))
    assert sorted(visit.worker for visit in visits) == sorted(crowd.workers)
    assert [visit.at_seconds for visit in visits] == sorted(visit.at_seconds for visit in visits)
    assert all(0 <= visit.at_seconds < spec.arrive_seconds and visit.k == spec.k for visit in visits)
    assert len({visit.address for visit in visits}) == spec.workers
    again = CategoryCrowd(spec, ["a", "b"])
    assert list(iter(lambda: again.next(0.0), None)) == visits


def test_one_coin_workers_have_the_accuracy_they_were_drawn_with():
    """Measured accuracy of each worker against known truth; wrong answers fall on all other categories alike."""
    truth = ["a", "b", "c", "d"] * 2500
    crowd = CategoryCrowd(CategorySpec(workers=5, accuracy=0.7, seed=2), ["a", "b", "c", "d"], truth=truth)
    wrong = Counter()
    for index in range(5):
        codes = crowd.codes(np.full(10_000, index), np.arange(10_000))
        right = np.mean(codes == np.arange(10_000) % 4)
        assert abs(right - crowd.accuracies[index]) < 5 * np.sqrt(0.25 / 10_000)
        wrong.update(((codes - np.arange(10_000) % 4) % 4).tolist())
    del wrong[0]
    assert sorted(wrong) == [1, 2, 3]
    assert max(wrong.values()) / min(wrong.values()) < 1.1


def test_accuracies_have_the_mean_and_spread_of_the_spec():
    crowd = CategoryCrowd(CategorySpec(workers=20_000, accuracy=0.8, accuracy_spread=0.1), ["a", "b"])
    assert abs(crowd.accuracies.mean() - 0.8) < 0.005
    assert abs(crowd.accuracies.std() - 0.1) < 0.005
    assert set(CategoryCrowd(CategorySpec(accuracy=1.0), ["a", "b"]).accuracies) == {1.0}


def test_many_at_once_are_the_same_as_one_by_one():
    spec = CategorySpec(
        workers=12, accuracy=0.6, spammers=0.5, spam="constant", decline_rate=0.2, prior=(5, 3, 2), seed=9
    )
    crowd = CategoryCrowd(spec, ["x", "y", "z"], truth=["x", None, "z"])
    workers, items = (grid.ravel() for grid in np.mgrid[0:12, 0:50])
    codes = crowd.codes(workers, items)
    for worker, item, code in zip(workers.tolist(), items.tolist(), codes.tolist(), strict=True):
        action = crowd.answer(crowd.workers[worker], item)
        said = -1 if isinstance(action, Decline) else crowd.categories.index(action.content["label"])
        assert said == code


def test_truth_is_known_or_drawn_by_the_prior():
    crowd = CategoryCrowd(CategorySpec(prior=(0.7, 0.3), seed=1), ["a", "b"], truth=["b", None])
    assert crowd.true_category(0) == "b"
    drawn = Counter(crowd.true_category(item) for item in range(1, 20_001))
    assert abs(drawn["a"] / 20_000 - 0.7) < 0.02


def test_spammers_are_the_exact_share_and_do_not_look():
    spec = CategorySpec(workers=10, accuracy=1.0, spammers=0.3, spam="constant", seed=4)
    crowd = CategoryCrowd(spec, ["a", "b", "c"])
    items = np.arange(300)
    truth = [crowd.true_category(item) for item in range(300)]
    said = [[crowd.categories[c] for c in crowd.codes(np.full(300, w), items)] for w in range(10)]
    assert sum(len(set(one)) == 1 for one in said) == 3
    assert sum(one == truth for one in said) == 7


def test_items_with_their_own_categories():
    crowd = CategoryCrowd(
        CategorySpec(workers=20, accuracy=0.5, prior=(0, 0, 1, 1)),
        ["a", "b", "c", "d"],
        truth=["b", "b"],
        choices={0: ["b", "c"], 2: ["a", "b"]},
    )
    for worker in crowd.workers:
        assert crowd.answer(worker, 0).content["label"] in ("b", "c")
        assert crowd.answer(worker, 2).content["label"] in ("a", "b")
    assert crowd.true_category(2) in ("a", "b")
    with pytest.raises(CrowdError, match="choices: 2 items have their own"):
        crowd.codes(np.zeros(1, np.int64), np.zeros(1, np.int64))


def test_who_walked_away_answers_when_they_come_back():
    crowd = CategoryCrowd(CategorySpec(workers=1, abandon_rate=1.0, return_seconds=30.0), ["a", "b"])
    first = crowd.answer("sim-1", 0)
    assert isinstance(first, Abandon)
    assert first.back_after_seconds == 30.0
    assert isinstance(crowd.answer("sim-1", 0), Answer)
    assert isinstance(crowd.answer("sim-1", 1), Abandon)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("accuracy=1.7", "accuracy is 1.7: expected a number <= 1.0"),
        ("accuracy=nan", "accuracy is nan: expected a number >= 0.0"),
        ("workers=0", "workers is 0: expected a whole number >= 1"),
        ("workers=1.5", "workers is 1.5: expected a whole number"),
        ("workers=many", "workers is 'many': expected a whole number"),
        ("think_seconds=-1", "think_seconds is -1: expected a number >= 0.0"),
        ("k=100000", "k is 100000: expected a whole number <= 1000"),
        ("spam=sometimes", "spam is 'sometimes': expected constant or uniform"),
        ("worker=3", "unknown field 'worker' (did you mean 'workers'?)"),
        ("vendr", "simulated crowd 'vendr' is not known (did you mean 'vendor'?)"),
        ("workers=3,workers=4", "workers is given twice"),
        ("workers=", "'workers=' is not name=value"),
        ("accuracy=0.9,accuracy_spread=0.4", "accuracy_spread is 0.4; with an accuracy of 0.9 it must be below 0.3"),
        ("prior=0/0", "prior is (0.0, 0.0); expected weights"),
        ("network=10.0.0.1/8", "network: 10.0.0.1/8 has host bits set"),
        ("there-is-no.toml", "there-is-no.toml: No such file"),
    ],
)
def test_a_wrong_specification_names_its_field(text, complaint):
    with pytest.raises(CrowdError) as raised:
        parse_spec(text)
    assert complaint in str(raised.value)


def test_a_specification_in_python_is_checked_too():
    with pytest.raises(CrowdError, match=r"spammers is 1\.5; expected 0 to 1"):
        CategorySpec(spammers=1.5)


@pytest.mark.parametrize(
    ("categories", "options", "complaint"),
    [
        (["a"], {}, "at least 2"),
        (["a", "b"], {"truth": ["c"]}, "truth of item 0 is 'c'"),
        (["a", "b"], {"choices": {3: ["a", "x"]}}, "'x' is not among the job's 2 categories"),
        (["a", "b"], {"choices": {3: []}}, "an item has no categories at all"),
    ],
)
def test_a_crowd_that_does_not_fit_its_job_is_refused(categories, options, complaint):
    with pytest.raises(CrowdError, match=complaint):
        CategoryCrowd(CategorySpec(), categories, **options)
    with pytest.raises(CrowdError, match="prior has 2 weights; the job has 3"):
        CategoryCrowd(CategorySpec(prior=(1, 1)), ["a", "b", "c"])


def test_specifications_that_mean_something(tmp_path):
    assert parse_spec("") == CategorySpec()
    assert parse_spec("vendor,workers=20") == msgspec.structs.replace(PRESETS["vendor"], workers=20)
    assert parse_spec("accuracy=.9, prior=0.7/0.3") == CategorySpec(accuracy=0.9, prior=(0.7, 0.3))
    path = tmp_path / "crowd.toml"
    path.write_text('workers = 3\naccuracy = 1\nspam = "constant"\nprior = [2, 1]\n')
    assert parse_crowd(f"simulated:{path}") == CategorySpec(workers=3, accuracy=1.0, spam="constant", prior=(2, 1))
    assert parse_crowd("replay:votes/answers.csv.gz") == Replay("votes/answers.csv.gz")
    assert parse_crowd("simulated") == CategorySpec()
    path.write_text("workers = ")
    with pytest.raises(CrowdError, match="is not TOML"):
        parse_spec(str(path))
    path.write_text("workers = -1")
    with pytest.raises(CrowdError, match=r"crowd\.toml: workers is -1"):
        parse_spec(str(path))
    for text in ("replay:", "people", ""):
        with pytest.raises(CrowdError, match="expected replay:FILE"):
            parse_crowd(text)


def test_the_schema_has_every_field_with_its_bounds():
    schema = spec_schema()
    fields = schema["$defs"]["CategorySpec"]["properties"]
    assert set(fields) == set(CategorySpec.__struct_fields__)
    assert (fields["accuracy"]["minimum"], fields["accuracy"]["maximum"]) == (0, 1)


def test_addresses_lie_in_the_network_and_repeat_only_when_it_is_full():
    small = parse_network("10.1.2.0/30")
    assert [address_in(small, index) for index in range(3)] == ["10.1.2.1", "10.1.2.2", "10.1.2.1"]
    assert address_in(parse_network("192.0.2.7/32"), 5) == "192.0.2.7"
    assert address_in(parse_network("2001:db8::/64"), 0) == "2001:db8::1"


# -- recorded people ---------------------------------------------------------------------------------------------------


def test_bluebirds_say_exactly_what_the_file_says():
    """Read the packaged file by other means and compare every single answer, and gold."""
    crowd = bluebirds(seed=3)
    folder = files("voxpop.simulator.data") / "bluebirds"
    with gzip.open(str(folder / "answers.csv.gz"), "rt") as file:
        rows = list(csv.DictReader(file))
    assert (len(crowd.items), len(crowd.workers), len(rows)) == (108, 39, 4212)
    place = {item: at for at, item in enumerate(crowd.items)}
    for row in rows:
        action = crowd.answer(row["worker"], place[row["item"]])
        assert isinstance(action, Answer)
        assert action.content == {"label": row["label"]}
        assert action.seconds > 0
    with gzip.open(str(folder / "truth.csv.gz"), "rt") as file:
        assert crowd.gold == {row["item"]: row["label"] for row in csv.DictReader(file)}
    assert crowd.categories == ("0", "1")
    assert (crowd.repeated, crowd.unused, crowd.unanswered) == (0, 0, ())
    assert isinstance(crowd, Crowd)


def test_the_last_of_several_answers_counts_and_the_others_are_told():
    rows = [("i1", "w1", "a"), ("i1", "w2", "b"), ("i1", "w1", "c"), ("i1", "w1", "b"), ("i2", "w2", "a")]
    crowd = RecordedCrowd(rows)
    assert crowd.answer("w1", 0).content == {"label": "b"}
    assert crowd.repeated == 2
    assert crowd.people_of(0) == ("w1", "w2")
    assert crowd.people_of(1) == ("w2",)
    assert isinstance(crowd.answer("w1", 1), Decline)


def test_a_job_may_have_some_of_the_recorded_items_in_its_own_order():
    rows = [("i1", "w1", "a"), ("i2", "w2", "b"), ("i2", "w1", "a"), ("i3", "w3", "c")]
    crowd = RecordedCrowd(rows, ["i2", "new", "i1"], gold={"i1": "a", "i3": "c"})
    assert crowd.workers == ("w1", "w2")  # w3 answered nothing of the job
    assert crowd.people_of(0) == ("w2", "w1")
    assert crowd.people_of(1) == ()
    assert (crowd.unused, crowd.unanswered) == (1, (1,))
    assert crowd.gold == {"i1": "a"}
    whole = RecordedCrowd(rows, ["i2", "new", "i1", "i3"])
    assert crowd.answer("w2", 0) == whole.answer("w2", 0)


def test_recorded_people_take_their_time_by_seed():
    one, same, other = (bluebirds(seed=seed, think_seconds=2.0) for seed in (1, 1, 2))
    assert one.answer("w5", 3) == same.answer("w5", 3)
    assert one.answer("w5", 3).seconds != other.answer("w5", 3).seconds
    times = np.log([one.answer(worker, item).seconds for worker in one.workers for item in range(108)])
    assert abs(times.mean() - np.log(2.0)) < 0.05


def test_recordings_that_cannot_be_used(tmp_path):
    with pytest.raises(CrowdError, match="there are no recorded answers"):
        RecordedCrowd([])
    with pytest.raises(CrowdError, match=r"nobody answered any of the 1 items of the job: answers are about 'i1'"):
        RecordedCrowd([("i1", "w1", "a")], ["x"])
    path = tmp_path / "answers.csv"
    path.write_text("item,person,label\ni1,w1,a\n")
    with pytest.raises(FormatError, match="no column worker"):
        RecordedCrowd.from_answers(str(path))


# -- people who misbehave ----------------------------------------------------------------------------------------------


def test_faults_are_laid_over_a_crowd():
    crowd = FaultyCrowd(
        bluebirds(), walks_away={"w1": 2}, outside={"stranger": "203.0.113.9", "w2": "203.0.113.7"}, sends_twice={"w3"}
    )
    visits = list(iter(lambda: crowd.next(0.0), None))
    assert [(visit.worker, visit.address) for visit in visits[:2]] == [
        ("stranger", "203.0.113.9"),
        ("w2", "203.0.113.7"),
    ]
    assert len(visits) == 41
    assert [visit.worker for visit in visits if visit.sends_twice] == ["w3"]
    actions = [crowd.answer("w1", item) for item in range(4)]
    assert [type(action) for action in actions] == [Answer, Answer, Abandon, Abandon]
    assert actions[2].back_after_seconds is None
    assert crowd.answer("w2", 0) == bluebirds().answer("w2", 0)
    with pytest.raises(CrowdError, match="walks_away: 'nobody' is not in the crowd of 39"):
        FaultyCrowd(bluebirds(), walks_away={"nobody": 1})
