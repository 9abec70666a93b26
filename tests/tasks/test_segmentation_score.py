"""Mean IoU by hand, its merge over ranks, label masks, and the section `seg`."""

import io
import json
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ufo_ds.data.schema import RawSample
from ufo_ds.errors import UserError
from ufo_ds.tasks.segmentation.score import (
    MaskMetric,
    MaskPrediction,
    _joint_histogram,
    decode_mask,
    encode,
    read_section,
    read_truth,
    stem_of,
    truth_of,
    write_section,
)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def figures(prediction, label, classes):
    metric = MaskMetric(classes)
    metric.update([MaskPrediction("a.png", np.array(prediction, np.uint8))], [np.array(label, np.uint8)])
    return metric


def test_by_hand():
    # Of 4 classes, 0 has 2 hits in a union of 3 pixels, 1 has 1 in 2, the others lie on ignored pixels.
    metric = figures([[0, 0, 1], [1, 2, 3]], [[0, 0, 0], [1, 255, 255]], 4)
    assert metric.compute() == pytest.approx({"mIoU": (7 / 6) / 4, "mIoU_present": (7 / 6) / 2})
    assert metric.per_class() == pytest.approx({0: 2 / 3, 1: 1 / 2})
    metric = figures([[0, 2]], [[0, 0]], 3)
    assert metric.compute() == pytest.approx({"mIoU": 0.5 / 3, "mIoU_present": 0.5})
    assert metric.per_class() == {0: 0.5, 2: 0.0}


def test_foreign_predictions_are_errors_and_not_crashes():
    metric = figures([[0, 255, 77, 2]], [[0, 0, 0, 1]], 2)
    assert metric.compute() == pytest.approx({"mIoU": (1 / 3) / 2, "mIoU_present": (1 / 3) / 2})


def test_masks_of_any_size_are_counted_exactly(monkeypatch):
    rng = np.random.default_rng(0)
    for pixels in (2**24, 150, 7):
        monkeypatch.setattr("ufo_ds.tasks.segmentation.score._EXACT_PIXELS", pixels)
        for shape in ((40, 70), (3, 1), (0, 5)):
            label, found = rng.integers(0, 256, (2, *shape), np.uint8)
            expected = np.bincount(label.ravel().astype(int) * 256 + found.ravel(), minlength=1 << 16)
            assert np.array_equal(_joint_histogram(label, found[:, ::-1][:, ::-1]).ravel(), expected)


def test_a_merge_of_nothing_is_nothing():
    metric = figures([[0, 1]], [[0, 1]], 2)
    metric.merge([])
    assert metric.compute() == {"mIoU": 0.0, "mIoU_present": 0.0}


def test_nothing_counted_is_zero():
    assert MaskMetric(19).compute() == {"mIoU": 0.0, "mIoU_present": 0.0}
    assert figures([[1]], [[255]], 3).compute() == {"mIoU": 0.0, "mIoU_present": 0.0}


def test_an_undeclared_label_is_named():
    with pytest.raises(UserError, match=r"a\.png: class id 4, .*--seg-classes"):
        figures([[0]], [[4]], 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4))
def test_any_split_over_ranks_gives_the_whole(seed, classes, ranks):
    rng = np.random.default_rng(seed)
    whole, parts = MaskMetric(classes), [MaskMetric(classes) for _ in range(ranks)]
    hits, label_pixels, found_pixels = np.zeros((3, classes))
    for _ in range(5):
        label = rng.choice([*range(classes), 255], (7, 6)).astype(np.uint8)
        item = MaskPrediction("a.png", rng.integers(0, classes + 1, (7, 6)).astype(np.uint8))
        whole.update([item], [label])
        parts[rng.integers(ranks)].update([item], [label])
        for k in range(classes):
            hits[k] += ((label == k) & (item.mask == k)).sum()
            label_pixels[k] += (label == k).sum()
            found_pixels[k] += ((item.mask == k) & (label != 255)).sum()
    merged = MaskMetric(classes)
    merged.merge([pickle.loads(pickle.dumps(part.state())) for part in parts])
    assert merged.compute() == whole.compute()
    union = label_pixels + found_pixels - hits
    assert whole.compute()["mIoU"] == pytest.approx(np.mean(hits / np.maximum(union, 1)))


def test_section_round_trip_in_both_forms():
    rng = np.random.default_rng(0)
    masks = {name: rng.integers(0, 20, (9, 12)).astype(np.uint8) for name in ("b", "a.b")}
    predictions = [MaskPrediction(f"{name}.jpg", mask) for name, mask in masks.items()]
    assert [list(entry) for entry in write_section(predictions)] == [["a.b.png"], ["b.png"]]
    for as_objects in (False, True):
        section = json.loads(json.dumps(write_section(predictions, as_objects)))
        read = read_section(section, Path("s.json"))
        for name, mask in masks.items():
            assert np.array_equal(read[name].raster((9, 12)), mask)
        assert write_section(list(read.values()), as_objects) == section
        assert write_section([item.as_polygons() for item in predictions], as_objects) == section
        packed = msgspec.json.encode(write_section([encode(item) for item in predictions], as_objects))
        assert json.loads(packed) == section


def test_names_are_matched_by_stem():
    assert [stem_of(name) for name in ("a.png", "a.JPG", "a.jpeg", "a.b", "a", ".png", "a.b.png")] == [
        "a", "a", "a", "a.b", "a", ".png", "a.b"]
    assert list(read_section({"a.jpg": {}, "a.png": {}}, Path("s.json"))) == ["a"]
    with pytest.raises(UserError, match=r"'a\.jpg' and 'a\.png' differ"):
        read_section({"a.jpg": {}, "a.png": {"1": []}}, Path("s.json"))


def test_label_masks_of_all_kinds(tmp_path):
    ids = np.array([[0, 18, 255], [3, 3, 1]], np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    palette.save(tmp_path / "palette.png")
    (tmp_path / "grey.PNG").write_bytes(png(ids))
    (tmp_path / "notes.txt").write_text("x")
    masks = read_truth(tmp_path)
    assert sorted(masks) == ["grey", "palette"] and len(masks) == 2
    assert "grey" in masks and "notes" not in masks
    for mask in masks.values():
        assert mask.dtype == np.uint8 and np.array_equal(mask, ids)
    assert truth_of(RawSample("a.jpg", {"jpg": b"", "png": png(ids)}), None).tolist() == ids.tolist()
    with pytest.raises(UserError, match="no label mask"):
        truth_of(RawSample("a.jpg", {"jpg": b""}), None)


def test_broken_label_masks_are_named(tmp_path):
    colours = png(np.zeros((2, 2, 3), np.uint8))
    noise = png(np.random.default_rng(0).integers(0, 19, (40, 40), np.uint8))
    for data, message in ((b"", "not a PNG"), (noise[:800], "decoded"), (colours, "one 8-bit channel"),
                          (png(np.zeros((2, 2), np.uint16)), "one 8-bit channel")):
        with pytest.raises(UserError, match=message):
            decode_mask(data, "x.png")
    with pytest.raises(UserError, match="no folder"):
        read_truth(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no PNG"):
        read_truth(tmp_path)
