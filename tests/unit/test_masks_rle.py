"""Run lengths: COCO's forms byte for byte, areas without decoding, and what is refused."""

import json
from pathlib import Path

import naive_masks
import numpy as np
import pytest

from voxpop.consolidation.errors import ConsolidationError
from voxpop.consolidation.masks import MaskError, Runs
from voxpop.consolidation.masks.rle import MAX_PIXELS, intersection_matrix, iou_matrix, parse_strings
from voxpop.consolidation.masks.sweep import merging_kernel

COCO = json.loads((Path(__file__).parents[1] / "data/masks/coco.json").read_text())


def pixels(record):
    return np.array(list(record["pixels"]), np.uint8).reshape(record["size"])


@pytest.mark.parametrize("record", COCO["records"], ids=lambda record: record["name"])
def test_every_form_equals_pycocotools(record):
    """Encoding, decoding, area and box are those of pycocotools, byte for byte."""
    mask = pixels(record)
    runs = Runs.from_mask(mask)
    assert runs.to_coco() == {"size": record["size"], "counts": record["counts"]}
    assert Runs.from_coco(record) == runs
    assert Runs.from_coco({"size": record["size"], "counts": runs.counts.tolist()}) == runs
    assert Runs.from_string(record["counts"].encode(), *record["size"]) == runs
    assert np.array_equal(runs.to_mask(), mask)
    assert runs.area == record["area"]
    assert list(runs.box) == record["box"]
    assert runs.counts.tolist() == naive_masks.counts(mask.tolist())
    assert runs.to_string() == naive_masks.coco_string(naive_masks.counts(mask.tolist()))


def test_a_large_mask_equals_pycocotools():
    """Counts of several digits, and more pixels than are encoded at a time."""
    big = COCO["big"]
    mask = np.zeros(big["size"], np.bool_)
    top, bottom, left, right = big["foreground"]
    mask[top:bottom, left:right] = True
    top, bottom, left, right = big["hole"]
    mask[top:bottom, left:right] = False
    runs = Runs.from_mask(mask)
    assert runs.to_string() == big["counts"]
    assert (runs.area, list(runs.box)) == (big["area"], big["box"])
    assert np.array_equal(Runs.from_string(big["counts"], *big["size"]).to_mask(), mask)


def test_overlaps_equal_pycocotools():
    blobs = [Runs.from_coco(COCO["records"][place]) for place in COCO["blobs"]["records"]]
    assert np.array_equal(iou_matrix(blobs, blobs), COCO["blobs"]["iou"])
    dense = [blob.to_mask() for blob in blobs]
    assert intersection_matrix(blobs[:1], blobs).tolist() == [[int((dense[0] & one).sum()) for one in dense]]
    assert blobs[0].union(blobs[1]) == int((dense[0] | dense[1]).sum())
    assert blobs[0].iou(blobs[0]) == 1
    for members, needed, expected in ((blobs, 1, "union"), (blobs[:2], 2, "intersection")):
        ends = np.concatenate([*(one.ends for one in members), [0]]).astype(np.uint32)
        starts = np.cumsum([0, *(one.ends.size for one in members)])
        out = np.empty(ends.size, np.uint32)
        n = merging_kernel(len(members))(ends, starts, needed, blobs[0].n_pixels, out)
        assert Runs(*blobs[0].size, out[:n]).to_string() == COCO["blobs"][expected]


def test_two_empty_masks_are_alike():
    empty = Runs.from_mask(np.zeros((3, 4), np.bool_))
    assert (empty.area, empty.box, empty.iou(empty)) == (0, (0, 0, 0, 0), 1.0)
    assert empty.iou(Runs.from_mask(np.ones((3, 4)) > 0)) == 0


def test_runs_of_length_0_are_joined():
    """Some tools write them; the mask is what counts."""
    expected = Runs.from_counts([3, 4, 5], 3, 4)
    for counts in ([3, 2, 0, 2, 5], [3, 4, 5, 0], [1, 0, 2, 4, 0, 0, 5], [3, 0, 0, 4, 5]):
        runs = Runs.from_counts(counts, 3, 4)
        assert runs == expected
        assert hash(runs) == hash(expected)
        assert Runs.from_string(naive_masks.coco_string(counts), 3, 4) == expected
    assert Runs.from_counts([0, 0, 12], 3, 4) == Runs.from_counts([12], 3, 4)
    assert Runs.from_counts([0, 12, 0], 3, 4).area == 12


def test_any_whole_number_but_0_is_foreground():
    mask = np.array([[0, 255, 7], [1, 0, -3]])
    assert Runs.from_mask(mask) == Runs.from_mask(mask != 0)
    assert Runs.from_mask(np.asfortranarray(mask)) == Runs.from_mask(mask != 0)


GOOD = Runs.from_counts([3, 4, 5], 3, 4).to_string()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Runs.from_counts([3, 4, 4], 3, 4), "sum to 11; expected 3 x 4 = 12"),
        (lambda: Runs.from_counts([3, 4, 6], 3, 4), "sum to 13"),
        (lambda: Runs.from_counts([3, 2**62, 2**62, 2**62], 3, 4), "sum to 13835058055282163715"),
        (lambda: Runs.from_counts([], 3, 4), "sum to 0"),
        (lambda: Runs.from_counts([3, -4, 13], 3, 4), "count 1 is -4"),
        (lambda: Runs.from_counts([3.5, 8.5], 3, 4), "float64"),
        (lambda: Runs.from_counts([[12]], 3, 4), r"shape \(1, 1\)"),
        (lambda: Runs.from_string("", 3, 4), "sum to 0"),
        (lambda: Runs.from_string(GOOD[:-1], 3, 4), "sum to 7"),
        (lambda: Runs.from_string(GOOD + "1", 3, 4), "sum to"),
        (lambda: Runs.from_string("3" + chr(48 + 32), 3, 4), "cut off: character 1, the last"),
        (lambda: Runs.from_string("3 5", 3, 4), "character 1 of the run lengths is ' '"),
        (lambda: Runs.from_string("3\u00e9", 3, 4), "expected characters '0' to 'o'"),
        (lambda: Runs.from_string(naive_masks.coco_string([3, -1, 10]), 3, 4), "run 1 is shorter than 0"),
        (lambda: Runs.from_string("P" * 20 + "0", 3, 4), "sum to"),
        (lambda: Runs.from_coco({"size": [3, 4]}), "no 'counts'"),
        (lambda: Runs.from_coco({"size": "3x4", "counts": GOOD}), "size is '3x4'"),
        (lambda: Runs.from_coco({"counts": GOOD}), "size is None"),
        (lambda: Runs.from_counts([0], 0, 4), "0 x 4 pixels"),
        (lambda: Runs.from_string(GOOD, 3, -4), "3 x -4 pixels"),
        (lambda: Runs.from_counts([12], MAX_PIXELS, 2), "the most is"),
        (lambda: Runs.from_mask(np.zeros((0, 4), np.uint8)), "0 x 4 pixels"),
        (lambda: Runs.from_mask(np.zeros(4, np.uint8)), r"shape \(4,\)"),
        (lambda: Runs.from_mask(np.zeros((3, 4))), "float64"),
        (lambda: Runs.from_mask(np.zeros((3, 4, 3), np.uint8)), r"shape \(3, 4, 3\)"),
        (lambda: parse_strings([GOOD, "3"], [(3, 4), (3, 4)]), "mask 1: the run lengths sum to 3"),
        (lambda: Runs.from_string(GOOD, 3, 4).iou(Runs.from_counts([12], 4, 3)), "3 x 4 pixels, another 4 x 3|4 x 3"),
    ],
)
def test_what_is_refused(make, message):
    """Each with a message that says what was found and what was expected."""
    with pytest.raises(MaskError, match=message) as error:
        make()
    assert isinstance(error.value, ConsolidationError)
