"""Boxes in files: every format there and back, nothing lost without being named, and what bad files are told."""

import gzip
import json
import uuid
from pathlib import Path

import numpy as np
import pytest

from voxpop.consolidation.boxes import Boxes, MedianBoxes
from voxpop.formats import FormatError, StorageError, storage
from voxpop.formats.boxes import GOLD, read_boxes, read_gold_boxes, write_boxes, write_merged
from voxpop.formats.boxes_voc import write_voc
from voxpop.formats.boxes_yolo import write_yolo

PEDESTRIANS = Path(__file__).parents[1] / "data" / "boxes" / "pedestrians"
HEAD = "item,worker,left,top,width,height"
SIZES = {"a.jpg": (100.0, 50.0), "b.jpg": (64.0, 64.0)}


@pytest.fixture
def root():
    return f"memory://{uuid.uuid4().hex}"


def put(root, name, data):
    uri = f"{root}/{name}"
    storage.write_atomic(uri, data if isinstance(data, bytes) else data.encode())
    return uri


def some_boxes(**options):
    """Two pictures, two workers; one found nothing in b.jpg."""
    return Boxes.from_columns(
        ["a.jpg", "a.jpg", "a.jpg", "b.jpg", "b.jpg"],
        ["w1", "w1", "w2", "w1", "w2"],
        [1.5, 30, 1, 8, None],
        [2, 4, 2.25, 8, None],
        [20, 10, 21, 16, None],
        [30, 10, 30, 32, None],
        ["car", "dog, wet", "car", "car", None],
        **options,
    )


def described(boxes, *, stem=False):
    """Return {(item, worker): [(sides, label, score, angle)]}."""
    found = {}
    names = boxes.items[boxes.item_of_answer].tolist()
    for answer, item in enumerate(names):
        objects = range(boxes.answer_indptr[answer], boxes.answer_indptr[answer + 1])
        found[item.removesuffix(".jpg") if stem else item, boxes.workers[boxes.worker[answer]]] = [
            (
                np.round(boxes.geometry[o], 9).tolist(),
                boxes.classes[boxes.label[o]],
                None if boxes.score is None else round(float(boxes.score[o]), 9),
                None if boxes.angle is None else float(boxes.angle[o]),
            )
            for o in objects
        ]
    return found


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl", "x.jsonl.gz", "x.json", "x.json.gz"])
@pytest.mark.parametrize(
    "options",
    [{}, {"score": [0.5, 1, 0.25, 1 / 3, None]}, {"angle": [30, 0, -12.5, 0, None]}],
    ids=["plain", "score", "angle"],
)
def test_tables_come_back_whole(root, name, options):
    boxes = some_boxes(**options)
    write_boxes(f"{root}/{name}", boxes, SIZES)
    read = read_boxes(f"{root}/{name}")
    assert described(read.boxes) == described(boxes)
    assert read.boxes.items.tolist() == boxes.items.tolist()
    assert read.left_out == []
    assert read.image_sizes == (SIZES if ".json" in name and ".jsonl" not in name else {})
    data = storage.read_bytes(f"{root}/{name}")
    assert (data[:2] == b"\x1f\x8b") == name.endswith(".gz")


@pytest.mark.parametrize("score", [None, [0.5, 1, 0.25, 1 / 3, None]])
def test_yolo_comes_back_in_shares_of_the_picture(root, score):
    boxes = some_boxes(score=score)
    assert write_yolo(f"{root}/yolo", boxes, SIZES) == []
    read = read_boxes(f"{root}/yolo")
    expected = described(boxes, stem=True)
    for (item, worker), drawn in described(read.boxes).items():
        size = np.tile(SIZES[f"{item}.jpg"], 2)
        ours = [(np.array(sides) * size, *rest) for sides, *rest in drawn]
        for mine, theirs in zip(ours, expected.pop((item, worker)), strict=True):
            assert mine[0] == pytest.approx(theirs[0])
            assert tuple(mine[1:]) == theirs[1:]
    assert not expected
    assert read.left_out == []


def test_voc_comes_back_but_for_scores(root):
    boxes = some_boxes()
    assert write_voc(f"{root}/voc", boxes, SIZES) == []
    read = read_boxes(f"{root}/voc")
    assert described(read.boxes) == described(boxes)
    assert read.image_sizes == SIZES
    assert write_voc(f"{root}/voc2", some_boxes(score=[0.5] * 5)) == ["score"]


def test_local_folders_are_read_too(tmp_path):
    for folder, write in (("voc é", write_voc), ("yolo", write_yolo)):
        write(str(tmp_path / folder), some_boxes(), SIZES)
        assert read_boxes(str(tmp_path / folder)).boxes.workers.tolist() == ["w1", "w2"]
        assert read_boxes(f"{tmp_path / folder}/").boxes.n_objects == 4


def test_one_coco_file_an_annotator(root):
    picture = {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": "8"}], "categories": [{"id": 3, "name": "car"}]}
    one = picture | {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2]}]}
    put(root, "c/ann.json", json.dumps(one))
    put(root, "c/bob.json", json.dumps(picture | {"annotations": []}))
    read = read_boxes(f"{root}/c")
    assert described(read.boxes) == {
        ("a.jpg", "ann"): [([1, 2, 3, 4], "car", None, None)],
        ("8", "ann"): [],
        ("a.jpg", "bob"): [],
        ("8", "bob"): [],
    }
    assert [str(p) for p in read.left_out] == [
        f"{root}/c/ann.json, field 'annotations.keypoints': is not used (1 times)"
    ]
    assert read_gold_boxes(f"{root}/c/ann.json").boxes.workers.tolist() == [GOLD]


def test_what_stands_in_real_files_of_other_tools(root):
    voc = """<annotation><folder>x</folder><filename>a.jpg</filename><size><width>50</width><height>40</height>
    <depth>3</depth></size><object><name>cat</name><pose>Left</pose><difficult>0</difficult>
    <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox></object></annotation>"""
    put(root, "v/ann/Annotations/a.xml", voc)
    put(root, "v/ann/a.jpg", b"a picture")
    read = read_boxes(f"{root}/v")
    assert described(read.boxes) == {("a.jpg", "ann"): [([1, 2, 10, 20], "cat", None, None)]}
    assert [p.field for p in read.left_out] == ["object/pose", "object/difficult"]
    put(root, "y/ann/labels/a.txt", "0 0.5 0.5 0.2 0.4\n\n1 0.1 0.1 0.2 0.2 0.75\n")
    put(root, "y/ann/classes.txt", "cat\ndog\n\n")
    put(root, "y/bob/labels/a.txt", "1 0.1 0.1 0.2 0.2\n")
    found = described(read_boxes(f"{root}/y").boxes)
    assert [row[1] for row in found["a", "ann"]] == ["cat", "dog"]
    assert [row[2] for row in found["a", "ann"]] == [1.0, 0.75]
    assert found["a", "bob"][0][1] == "1", "no names in this folder or above it"


def test_boxes_without_area_are_left_out_and_their_workers_looked(root):
    uri = put(root, "x.csv", f"{HEAD},colour\ni,a,1,2,0,4,red\ni,b,1,2,3,4,red\ni,b,5,5,5,0,red\n")
    read = read_boxes(uri)
    assert described(read.boxes) == {("i", "a"): [], ("i", "b"): [([1, 2, 3, 4], "", None, None)]}
    assert [str(p) for p in read.left_out] == [
        f"{uri} line 2: a box of 0 by 4 has no area",
        f"{uri} line 4: a box of 5 by 0 has no area",
        f"{uri}, field 'colour': is not used (1 times)",
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", f"{HEAD}\ni,a,1,2,,4\n", "x.csv line 2, field 'width': is missing; give all"),
        ("x.csv", f"{HEAD}\ni,a,1,2,3,four\n", "line 2, field 'height': is 'four'; expected a number"),
        ("x.csv", f"{HEAD}\ni,a,1,2,1_0,4\n", "field 'width': is '1_0'; expected a number"),
        ("x.csv", f"{HEAD}\ni,a,1,nan,3,4\n", "field 'top': is 'nan'; expected a number"),
        ("x.csv", f"{HEAD}\ni,a,1,inf,3,4\n", "field 'top': is inf; expected a finite number"),
        ("x.csv", f"{HEAD}\ni,a,1,2,-3,4\n", "field 'width': is -3; expected more than 0"),
        ("x.csv", f"{HEAD}\n,a,1,2,3,4\ni,,1,2,3,4\n", "line 2, field 'item': is missing or empty\n"),
        ("x.csv", f"{HEAD},label\ni,a,1,2,3,4,\n", "field 'label': is empty"),
        ("x.csv", f"{HEAD},score\ni,a,1,2,3,4,7\n", "field 'score': is 7; expected above 0 and at most 1"),
        (
            "x.csv",
            f"{HEAD}\ni,a,,,,\ni,a,1,2,3,4\n",
            "line 2: worker 'a' found nothing in item 'i' here, and drew a box",
        ),
        ("x.csv", "item,worker,x,y\n", "no column left, top, width, height; expected item, worker, left"),
        ("x.csv", f"{HEAD}\n", "holds no boxes, and nobody who looked for any"),
        ("x.jsonl", '{"item":1,"worker":"a","left":[1],"top":2,"width":3,"height":4}\n', "field 'left': is '[1]'"),
        ("x.jsonl", '{"item":true,"worker":"a"}\n', "line 1, field 'item': must be text or a whole number"),
        (
            "x.jsonl",
            """{"item":1,"worker":"a","left":1,"top":2,"width":3,"height":4}
            {"item":1,"worker":"b","left":1,"top":2,"width":3,"height":4,"label":"x"}""",
            "line 1, field 'label': is missing, and other boxes have one",
        ),
        ("x.json", "[]", "expected a COCO document"),
        ("x.json", "{", "broken JSON"),
        ("x.json", '{"images":[]}', "field 'annotations': expected a list"),
        ("x.json.gz", b"plain", "broken gzip data"),
        ("x.json.gz", gzip.compress(b"{}")[:-3], "the gzip data end too early"),
        ("x.json", '{"images":[{}],"annotations":[]}', "images[0], field 'id': expected an object"),
        ("x.json", '{"images":[{"id":1},{"id":1,"file_name":"b"}],"annotations":[]}', "two images have the id 1"),
        (
            "x.json",
            '{"images":[{"id":1}],"annotations":[{"image_id":2}]}',
            "annotations[0], field 'image_id': no image",
        ),
        ("x.json", '{"images":[{"id":1}],"annotations":[{"image_id":1}]}', "field 'annotator': is missing; name who"),
        (
            "x.json",
            '{"images":[{"id":1}],"annotations":[{"image_id":1,"annotator":"a","bbox":[1,2,3]}]}',
            "annotations[0], field 'bbox': is [1, 2, 3]; expected left, top, width and height",
        ),
        (
            "x.json",
            '{"images":[{"id":1}],"annotations":[{"image_id":1,"annotator":"a","bbox":[1,2,3,4],"category_id":[5]}]}',
            "field 'category_id': no category has the id [5]",
        ),
        ("d/a/x.txt", "0 0.5 0.5 0.1\n", "x.txt line 1: found '0 0.5 0.5 0.1'; expected class, centre x"),
        ("d/a/x.txt", "cat 0.5 0.5 0.1 0.1\n", "field 'class': is 'cat'"),
        ("d/a/x.txt", "0 50 50 10 10\n", "is not in shares of the picture, from 0 to 1"),
        ("d/a/x.xml", "<annotation><object>", "broken XML"),
        ("d/a/x.xml", "<html/>", "expected <annotation>, found <html>"),
        ("d/a/x.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "holds a document type or entities"),
        (
            "d/a/x.xml",
            "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>",
            "x.xml object 1, field 'bndbox/ymin': is missing or no number",
        ),
        ("d/a/x.png", b"", "expected COCO (.json), VOC (.xml) or YOLO (.txt) files; found png"),
    ],
)
def test_bad_files_are_refused_by_place(root, name, data, message):
    uri = put(root, name, data)
    with pytest.raises(FormatError) as refused:
        read_boxes(f"{root}/d" if name.startswith("d/") else uri)
    assert message in str(refused.value)


def test_a_class_without_a_name_is_refused(root):
    put(root, "y/classes.txt", "cat\n")
    put(root, "y/ann/a.txt", "1 0.5 0.5 0.2 0.4\n")
    with pytest.raises(FormatError, match=r"a\.txt line 1, field 'class': is 1; there are 1 class names, from 0"):
        read_boxes(f"{root}/y")


def test_many_problems_are_counted_and_the_first_named(root):
    uri = put(root, "x.csv", HEAD + "\n" + "i,a,1,2,-3,4\n" * 50)
    with pytest.raises(FormatError, match=r"\.\.\. and 30 more problems"):
        read_boxes(uri)


def test_what_a_format_has_no_place_for_is_refused(root):
    turned = some_boxes(angle=[30, 0, 0, 0, None])
    for write in (write_yolo, write_voc):
        with pytest.raises(FormatError, match="turned; write CSV or COCO"):
            write(f"{root}/x", turned)
    with pytest.raises(FormatError, match=r"the size of item 'b\.jpg' is not known"):
        write_yolo(f"{root}/x", some_boxes(), {"a.jpg": (1, 1)})
    alike = Boxes.from_columns(["a.jpg", "a.png"], ["w", "w"], [1, 1], [1, 1], [1, 1], [1, 1])
    away = Boxes.from_columns(["../a.jpg"], ["w"], [1], [1], [1], [1])
    up = Boxes.from_columns(["a.jpg"], [".."], [1], [1], [1], [1])
    for write in (write_yolo, write_voc):
        with pytest.raises(FormatError, match="differ in their suffix only"):
            write(f"{root}/x", alike)
        for wrong in (away, up):
            with pytest.raises(StorageError):
                write(f"{root}/x", wrong)


def test_merged_boxes_are_written_with_their_confidence(root):
    result = MedianBoxes().fit(some_boxes())
    write_merged(f"{root}/m.csv", result)
    lines = storage.read_bytes(f"{root}/m.csv").decode().splitlines()
    assert lines[0] == "item,label,left,top,width,height,confidence,n_workers"
    assert lines[1] == "a.jpg,car,1.25,2.125,20.5,30.0,0.875,2"
    assert lines[2] == 'a.jpg,"dog, wet",30.0,4.0,10.0,10.0,0.5,1'
    write_merged(f"{root}/m.json", result, SIZES)
    document = json.loads(storage.read_bytes(f"{root}/m.json"))
    assert document["images"][1] == {"id": 2, "file_name": "b.jpg", "width": 64.0, "height": 64.0}
    assert document["annotations"][0]["score"] == 0.875
    assert "annotator" not in document["annotations"][0]
    assert read_gold_boxes(f"{root}/m.json").boxes.n_objects == result.n_objects


def test_real_people():
    read = read_boxes(str(PEDESTRIANS / "answers.csv"))
    assert (read.boxes.n_items, read.boxes.n_answers, read.boxes.n_objects) == (20, 140, 133)
    gold = read_gold_boxes(str(PEDESTRIANS / "truth.csv")).boxes
    assert gold.items.size == 20
    assert (np.diff(gold.object_indptr) == 0).any(), "in some pictures nothing is there"
