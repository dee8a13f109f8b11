"""``voxpop consolidate votes``: its options, its scores, and what wrong ones are told."""

import csv
import json
from importlib.resources import files

import numpy as np
import pytest

from voxpop.cli.main import main

BLUEBIRDS = files("voxpop.simulator.data") / "bluebirds"
ANSWERS, TRUTH = str(BLUEBIRDS / "answers.csv.gz"), str(BLUEBIRDS / "truth.csv.gz")


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["consolidate", "votes", *map(str, words)])
    return ended.value.code, capsys.readouterr()


def document(capsys, *words):
    code, said = run(capsys, *words, "--json")
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.csv"
    rows = ["i,a,x", "i,b,?", "i,c,y", "i,c,x", "j,a,y", "j,b,?", "k,b,?"]
    path.write_text("item,worker,label\n" + "\n".join(rows) + "\n")
    return path


def test_abstentions_and_repeats(capsys, answers, tmp_path):
    out = tmp_path / "labels.csv"
    found = document(capsys, answers, "--method", "majority", "--abstain", "?", "--repeats", "last", "--out", out)
    assert (found["n_items"], found["n_classes"], found["n_answers"]) == (3, 2, 3)
    with out.open() as file:
        rows = {row["item"]: (row["label"], float(row["confidence"])) for row in csv.DictReader(file)}
    assert rows["i"] == ("x", 1.0)
    assert rows["j"] == ("y", 1.0)
    assert rows["k"][1] == 0.5


def test_parameters_of_the_method(capsys):
    found = document(capsys, ANSWERS, "--method", "dawid_skene", "--param", "max_iter=1", "--gold", TRUTH)
    more = document(capsys, ANSWERS, "--method", "dawid_skene", "--param", "max_iter=50", "--gold", TRUTH)
    assert found["log_loss"] != more["log_loss"]


def test_known_labels_teach_and_keep_their_class(capsys, answers, tmp_path):
    known, out = tmp_path / "known.csv", tmp_path / "labels.csv"
    known.write_text("item,label\ni,y\n")
    document(capsys, answers, "--method", "majority", "--abstain", "?", "--known", known, "--out", out)
    assert "i,y,1.0" in out.read_text().splitlines()


@pytest.mark.parametrize("how", ["temperature", "isotonic"])
def test_corrected_confidences_are_scored_on_items_they_did_not_learn_from(capsys, tmp_path, how):
    raw = document(capsys, ANSWERS, "--method", "majority", "--gold", TRUTH)
    out = tmp_path / "labels.csv"
    found = document(capsys, ANSWERS, "--method", "majority", "--gold", TRUTH, "--calibrate", how, "--out", out)
    assert found["calibrated"] == how
    assert found["accuracy"] == raw["accuracy"], "confidences change, labels do not"
    assert found["log_loss"] != raw["log_loss"]
    with out.open() as file:
        confidence = np.array([float(row["confidence"]) for row in csv.DictReader(file)])
    assert ((confidence >= 0.5 - 1e-9) & (confidence <= 1)).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--param", "seed"], "--param seed: found no '='; expected NAME=VALUE"),
        (["--param", "speed=3"], "--param: found 'speed'; majority takes seed"),
        (["--calibrate", "temperature"], "it learns from gold labels; name their file with --gold"),
        (["--calibrate", "magic"], "--calibrate magic: expected one of temperature, isotonic"),
        (["--repeats", "first"], "--repeats first: expected all or last"),
        (["--known", "KNOWN"], "known.csv: gold label 'z' of item 'i' is not among the classes"),
        (["--gold", "FEW", "--calibrate", "isotonic"], "few.csv: 1 gold items cannot make 5 folds"),
    ],
)
def test_wrong_options_are_told_what_to_do(capsys, answers, tmp_path, words, message):
    places = {"KNOWN": tmp_path / "known.csv", "FEW": tmp_path / "few.csv"}
    places["KNOWN"].write_text("item,label\ni,z\n")
    places["FEW"].write_text("item,label\ni,x\n")
    code, said = run(capsys, answers, "--method", "majority", *[places.get(word, word) for word in words])
    assert (code, said.out) == (2, "")
    assert message in said.err


def test_everybody_abstained(capsys, tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("item,worker,label\ni,a,?\n")
    code, said = run(capsys, path, "--abstain", "?")
    assert code == 2
    assert "there are no votes" in said.err
