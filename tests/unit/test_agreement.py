"""Agreement against published examples, an oracle, and the properties that every coefficient has."""

import json
import math

import naive_agreement as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxpop.cli.main import main
from voxpop.consolidation import Votes
from voxpop.consolidation.agreement import (
    LEVELS,
    AgreementError,
    agreement,
    class_alpha,
    cohen_kappa,
    item_agreement,
    worker_agreement,
    worker_pairs,
)

# Four observers, twelve units, values missing: example C of Krippendorff, "Computing Krippendorff's
# Alpha-Reliability" (2011).
OBSERVERS = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}
# 14 raters, ten subjects, five categories: Fleiss' kappa as usually explained, .210.
FOURTEEN = [
    "0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1",
    "7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7",
]  # fmt: skip

triples = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=50)


def table(votes, **options):
    return Votes.from_columns(*zip(*votes, strict=True), **options)


def krippendorff_example():
    return [
        (unit, observer, int(value))
        for observer, row in OBSERVERS.items()
        for unit, value in enumerate(row.split())
        if value != "."
    ]


def values(votes, level="nominal"):
    return {one.name: one.value for one in agreement(votes, level, resamples=0)}


def distance_of(level, votes):
    if level == "ordinal":
        return naive.ordinal_distance(votes, sorted({label for _, _, label in votes}))
    return {
        "nominal": lambda c, k: c != k,
        "interval": lambda c, k: (c - k) ** 2,
        "ratio": lambda c, k: ((c - k) / (c + k)) ** 2 if c + k else 0,
    }[level]


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_of_the_published_example(level, alpha):
    assert values(table(krippendorff_example()), level)["krippendorff_alpha"] == pytest.approx(alpha, abs=5e-4)


def test_the_other_coefficients_of_the_same_example():
    """The figures of Gwet's handbook for these data."""
    found = values(table(krippendorff_example()))
    assert found["gwet_ac1"] == pytest.approx(0.77544, abs=5e-6)
    assert found["fleiss_kappa"] == pytest.approx(0.76117, abs=5e-6)
    assert found["percent_agreement"] == pytest.approx(0.81818, abs=5e-6)


def test_fleiss_kappa_of_fourteen_raters():
    votes = []
    for subject, row in enumerate(FOURTEEN):
        labels = [category for category, count in enumerate(map(int, row.split())) for _ in range(count)]
        votes += [(subject, rater, label) for rater, label in enumerate(labels)]
    assert values(table(votes))["fleiss_kappa"] == pytest.approx(0.210, abs=5e-4)


def test_cohens_kappa_of_fifty_applications():
    """20 yes from both, 15 no from both, 5 and 10 apart: (.7 - .5) / (1 - .5)."""
    counts = {("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}
    votes, item = [], 0
    for (one, other), count in counts.items():
        for _ in range(count):
            votes += [(item, "A", one), (item, "B", other)]
            item += 1
    assert cohen_kappa(table(votes), "A", "B") == pytest.approx(0.4)
    assert worker_pairs(table(votes)).kappa.tolist() == pytest.approx([0.4])


@given(votes=triples, level=st.sampled_from(LEVELS))
@settings(deadline=None)
def test_coefficients_are_those_of_the_oracle(votes, level):
    classes = sorted({label for _, _, label in votes})
    found = values(table(votes), level)
    shares = naive.pair_shares(votes)
    expected = {
        "krippendorff_alpha": naive.krippendorff_alpha(votes, distance_of(level, votes)),
        "fleiss_kappa": naive.fleiss_kappa(votes, classes),
        "gwet_ac1": naive.gwet_ac1(votes, classes),
        "percent_agreement": sum(shares.values()) / len(shares) if shares else math.nan,
    }
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-9)


@given(votes=triples)
@settings(deadline=None)
def test_parts_are_those_of_the_oracle(votes):
    made = table(votes)
    shares = naive.pair_shares(votes)
    expected = [shares.get(item, math.nan) for item in made.items.tolist()]
    assert item_agreement(made).tolist() == pytest.approx(expected, nan_ok=True)
    for c, alpha in zip(made.classes.tolist(), class_alpha(made).tolist(), strict=True):
        binary = [(item, worker, label == c) for item, worker, label in votes]
        wanted = naive.krippendorff_alpha(binary, lambda a, b: a != b)
        assert alpha == pytest.approx(wanted, nan_ok=True, abs=1e-9)


@given(votes=triples)
@settings(deadline=None)
def test_pairs_of_workers_are_those_of_the_oracle(votes):
    made = table(votes)
    expected = naive.pairs_of_workers(votes)
    found = worker_pairs(made)
    names = made.workers.tolist()
    assert [(names[a], names[b]) for a, b in zip(found.first, found.second, strict=True)] == sorted(expected)
    met = dict.fromkeys(names, (0, 0))
    for row, (pair, said) in enumerate(sorted(expected.items())):
        same = sum(a == b for a, b in said)
        assert found.n_items[row] == len(said)
        assert found.agreement[row] == pytest.approx(same / len(said))
        kappa = naive.cohen_kappa(said, made.classes.tolist())
        assert found.kappa[row] == pytest.approx(kappa, nan_ok=True, abs=1e-9)
        for name in pair:
            met[name] = (met[name][0] + same, met[name][1] + len(said))
    rates = [same / n if n else math.nan for same, n in met.values()]
    assert worker_agreement(made).tolist() == pytest.approx(rates, nan_ok=True)


@given(votes=triples, weights=st.sampled_from(["none", "linear", "quadratic"]))
@settings(deadline=None)
def test_weighted_kappa_is_that_of_the_oracle(votes, weights):
    power = {"none": 0, "linear": 1, "quadratic": 2}[weights]
    made = table(votes, classes=range(4))
    for (one, other), said in naive.pairs_of_workers(votes).items():
        expected = naive.cohen_kappa(said, range(4), lambda c, k: abs(c - k) ** power if c != k else 0)
        assert cohen_kappa(made, one, other, weights) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_many_pairs_are_counted_in_parts(monkeypatch):
    from voxpop.consolidation.agreement import details

    generator = np.random.default_rng(0)
    votes = Votes.from_columns(
        generator.integers(0, 40, 900), generator.integers(0, 25, 900), generator.integers(0, 3, 900)
    )
    whole = worker_pairs(votes)
    monkeypatch.setattr(details, "_PAIRS_AT_ONCE", 100)
    parts = worker_pairs(votes)
    assert all(getattr(parts, name).tobytes() == getattr(whole, name).tobytes() for name in whole.__dataclass_fields__)


def test_an_interval_holds_the_value_and_narrows_with_more_items():
    def crowd(n):
        generator = np.random.default_rng(1)
        items = np.repeat(np.arange(n), 3)
        labels = (items % 2 + (generator.random(items.size) < 0.2)) % 2
        return Votes.from_columns(items, np.tile([0, 1, 2], n), labels)

    few, many = (agreement(crowd(n), resamples=200, names=["krippendorff_alpha"])[0] for n in (50, 1000))
    for one in (few, many):
        assert one.low < one.value < one.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert agreement(crowd(50), resamples=200, names=["krippendorff_alpha"])[0] == few, (
        "the same seed, the same interval"
    )


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Binary votes of known accuracy: alpha of the whole world is known; 95% intervals of 120 samples."""
    right, covered, n_samples = 0.85, 0, 120
    disagreement = 2 * right * (1 - right)
    truth = 1 - disagreement / 0.5
    for seed in range(n_samples):
        generator = np.random.default_rng(seed)
        items = np.repeat(np.arange(150), 3)
        labels = (items % 2 + (generator.random(items.size) >= right)) % 2
        made = Votes.from_columns(items, np.tile([0, 1, 2], 150), labels)
        one = agreement(made, resamples=200, names=["krippendorff_alpha"], seed=seed)[0]
        covered += one.low <= truth <= one.high
    assert 0.88 <= covered / n_samples <= 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "cardinal"}, "unknown level 'cardinal'; known: nominal, ordinal, interval, ratio"),
        ({"names": ["kappa"]}, "unknown coefficient 'kappa'"),
        ({"resamples": -1}, "resamples is -1"),
        ({"confidence": 1.0}, "confidence 1.0"),
        ({"level": "interval"}, "class 'a' is no number; level 'interval' needs classes that are"),
    ],
)
def test_what_cannot_be_computed_is_said(options, message):
    votes = Votes.from_columns(["i", "i"], ["v", "w"], ["a", "b"])
    with pytest.raises(AgreementError, match=message):
        agreement(votes, **options)


def test_a_ratio_scale_has_no_negative_values():
    with pytest.raises(AgreementError, match="class -1 is negative"):
        agreement(Votes.from_columns([0, 0], [0, 1], [-1, 1]), "ratio")


def test_kappa_needs_two_workers_who_met():
    votes = Votes.from_columns(["i", "j"], ["v", "w"], ["a", "b"])
    with pytest.raises(AgreementError, match="no item in common"):
        cohen_kappa(votes, "v", "w")
    with pytest.raises(AgreementError, match="worker 'x' has no votes"):
        cohen_kappa(votes, "v", "x")
    with pytest.raises(AgreementError, match="weights is 'cubic'"):
        cohen_kappa(votes, "v", "w", "cubic")


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["agreement", *map(str, words)])
    return ended.value.code, capsys.readouterr()


@pytest.fixture
def ratings(tmp_path):
    path = tmp_path / "ratings.csv"
    rows = "".join(f"{unit},{observer},{value}\n" for unit, observer, value in krippendorff_example())
    path.write_text("item,worker,label\n" + rows)
    return path


def test_the_command_prints_one_document(capsys, ratings):
    code, said = run(capsys, ratings, "--level", "ordinal", "--resamples", 50, "--pairs", 2, "--json")
    document = json.loads(said.out)
    assert code == 0
    assert document["coefficients"][0]["name"] == "krippendorff_alpha"
    assert document["coefficients"][0]["value"] == pytest.approx(0.815, abs=5e-4)
    assert [one["class"] for one in document["classes"]] == [1, 2, 3, 4, 5]
    assert len(document["workers"]) == 4
    assert len(document["pairs"]) == 2


def test_the_command_prints_tables(capsys, ratings):
    code, said = run(capsys, ratings, "--resamples", 20)
    assert code == 0
    for text in ("Krippendorff's alpha", "0.743", "95% interval", "class against the rest", "agrees with others"):
        assert text in said.out


def test_ordinal_text_needs_its_order(capsys, tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_text("item,worker,label\n1,a,small\n1,b,large\n2,a,middle\n2,b,large\n")
    code, said = run(capsys, path, "--level", "ordinal")
    assert (code, said.out) == (2, "")
    assert "label 'small' is no number" in said.err
    assert "--classes low,middle,high" in said.err
    code, said = run(capsys, path, "--level", "ordinal", "--classes", "small,middle,large", "--resamples", 0, "--json")
    assert code == 0
    assert json.loads(said.out)["coefficients"][0]["low"] is None


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("item,worker,label\n1,a,x\n2,b,y\n", [], "no item has two answers"),
        ("item,worker,label\n", [], "there are no votes"),
        ("item,worker,label\n1,a,x\n1,b,y\n", ["--level", "cardinal"], "expected one of nominal, ordinal"),
        ("item,worker,label\n1,a,x\n1,b,y\n", ["--classes", "x"], "label 'y' is not among"),
        ("item,worker,label\n1,a,x\n1,b,y\n", ["--level", "interval"], "use --level ordinal"),
    ],
)
def test_wrong_input_is_said(capsys, tmp_path, content, options, message):
    path = tmp_path / "answers.csv"
    path.write_text(content)
    code, said = run(capsys, path, *options)
    assert code == 2
    assert message in said.err
    assert "answers.csv" in said.err or "--level" in said.err
