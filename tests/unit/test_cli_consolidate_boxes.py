"""``voxpop consolidate boxes``: its scores, what it writes and draws, and what wrong input is told."""

import csv
import json
from pathlib import Path

import pytest

from voxpop.cli.main import main

PEDESTRIANS = Path(__file__).parents[1] / "data" / "boxes" / "pedestrians"
ANSWERS, TRUTH = PEDESTRIANS / "answers.csv", PEDESTRIANS / "truth.csv"


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["consolidate", "boxes", *map(str, words)])
    return ended.value.code, capsys.readouterr()


def document(capsys, *words):
    code, said = run(capsys, *words, "--json")
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize(
    ("method", "least_f1"),
    [
        ("box_median", 0.85),
        ("box_weighted", 0.85),
        ("box_wbf", 0.3),
        ("box_nms", 0.3),
        ("box_soft_nms", 0.2),
        ("box_nmw", 0.3),
    ],
)
def test_every_method_is_scored(capsys, method, least_f1):
    found = document(capsys, ANSWERS, "--method", method, "--gold", TRUTH)
    assert (found["method"], found["n_items"], found["n_boxes"], found["n_gold"]) == (method, 20, 133, 21)
    assert found["f1"] > least_f1
    assert 0.5 <= found["mean_iou"] <= 1
    assert found["seconds"] >= 0
    stricter = document(capsys, ANSWERS, "--method", method, "--gold", TRUTH, "--iou", "0.95")
    assert stricter["f1"] < found["f1"]


def test_what_is_left_out_is_named(capsys):
    code, said = run(capsys, ANSWERS)
    assert code == 0
    assert "1 things in the input were left out" in said.err
    assert "line 39: a box of 0 by 0 has no area" in said.err
    assert "box_weighted" in said.out


def test_merged_boxes_and_pictures_are_written(capsys, tmp_path):
    out, folder = tmp_path / "merged.csv", tmp_path / "pictures"
    found = document(capsys, ANSWERS, "--gold", TRUTH, "--out", out, "--plot", folder, "--param", "threshold=0.9")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["n_merged"]
    assert all(0.9 <= float(row["confidence"]) <= 1 for row in rows)
    assert sorted(map(str, folder.iterdir())) == found["plots"]
    assert len(found["plots"]) == 12
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in found["plots"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "majority"], "'majority' merges votes; known methods for boxes: box_median"),
        (["--method", "box_mean"], "unknown consolidation method 'box_mean'"),
        (["--param", "iou"], "found no '='"),
        (["--param", "size=3"], "found 'size'; box_weighted takes threshold, iou"),
        (["--param", "iou=2"], "iou is 2"),
        (["--iou", "0"], "--iou 0.0: expected above 0 and at most 1"),
        (["--gold", "other.csv"], "none of its 1 items has answers; expected the same item names"),
        (["--gold", "bad.csv"], "bad.csv line 2, field 'width': is -1; expected more than 0"),
    ],
)
def test_wrong_input_is_named(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("item,left,top,width,height\nelsewhere,1,1,1,1\n")
    Path("bad.csv").write_text("item,left,top,width,height\nelsewhere,1,1,-1,1\n")
    code, said = run(capsys, ANSWERS, *words)
    assert code == 2
    assert message in said.err
