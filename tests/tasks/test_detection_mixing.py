"""Mosaic, copy-paste and crops to a box: every box bounds its pixels, and nothing that can be seen lacks a box."""

import itertools
import json

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from ufo_ds.data.companions import Chance
from ufo_ds.data.decode import DecodeError
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.examples import QUARTER, TrainTransform
from ufo_ds.tasks.detection.rare import Cutout, RareBoxes

# Far from one another and from all greys; a class of its own for each.
COLOURS = np.array([c for c in itertools.product((0, 128, 255), repeat=3) if max(c) - min(c) > 100], np.uint8)
META = TaskMeta("det", "test", [ClassInfo(i, f"class {i}") for i in range(len(COLOURS))], {})
CANVAS = (140, 180)


def config(**changes):
    return DetConfig(**{"size": CANVAS, "color_jitter": 0.0, "min_visible": 0.0, "min_box": 0.0, **changes})


def picture(generator, colours, size, kind=".png", count=None, sides=(14, 40)):
    """Dark, with a rectangle of each colour; no two touch."""
    image, annotations, free = np.full((*size, 3), 40, np.uint8), [], np.ones(size, bool)
    for colour in colours:
        for _ in range(100):
            h, w = generator.integers(*sides, 2).tolist()
            y, x = int(generator.integers(2, size[0] - h - 2)), int(generator.integers(2, size[1] - w - 2))
            if free[max(0, y - 9) : y + h + 9, max(0, x - 9) : x + w + 9].all():
                break
        else:
            continue
        free[y : y + h, x : x + w] = False
        image[y : y + h, x : x + w] = COLOURS[colour]
        annotations.append({"bbox": [x, y, w, h], "category_id": colour, "iscrowd": 0, "area": w * h})
    label = {"image_id": 1, "file_name": "a", "width": size[1], "height": size[0], "annotations": annotations}
    options = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = options if kind == ".jpg" else []
    data = cv2.imencode(kind, image[..., ::-1], options)[1].tobytes()
    return RawSample("a.png", {"jpg": data, "json": json.dumps(label).encode()})


def annotations_of(raw):
    return json.loads(raw.members["json"])["annotations"]


def seen(image, colour):
    """xyxy around the pixels of a colour, and how many they are; lines of mixed colours are not taken for another."""
    difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - COLOURS[colour].astype(int)).max(2)
    mask = cv2.copyMakeBorder((difference < 60).astype(np.uint8), 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))[2:-2, 2:-2]
    count, _, parts, _ = cv2.connectedComponentsWithStats(mask)
    if count == 1:
        return None, 0
    x, y, w, h, pixels = parts[1:][parts[1:, cv2.CC_STAT_AREA].argmax()]
    return np.array([x, y, x + w, y + h]), pixels


def check(example, tolerance):
    """Boxes bound the pixels of their colours, filled, and no colour of some size is without one."""
    assert example.image.shape == (3, *CANVAS) and example.image.dtype == torch.uint8
    boxes = box_convert(example.target["boxes"], "cxcywh", "xyxy").numpy() * ([CANVAS[1], CANVAS[0]] * 2)
    labels = example.target["class_labels"].tolist()
    assert len(set(labels)) == len(labels) and example.target["boxes"].dtype == torch.float32
    for label, box in zip(labels, boxes, strict=True):
        found, pixels = seen(example.image, label)
        sides = box[2:] - box[:2]
        if sides.min() < 4:  # no pixel of its pure colour need be left
            continue
        assert found is not None, (label, box)
        assert np.abs(found - box).max() <= tolerance, (found, box)
        assert pixels >= 0.6 * (sides - 2).prod(), "covered by something else"
    for label in set(range(len(COLOURS))) - set(labels):
        found, _ = seen(example.image, label)
        assert found is None or (found[2:] - found[:2]).min() <= 2, (label, found)
    return len(labels)


def scenes(seeds, kind=".png", size=(150, 200), sides=(14, 40)):
    """For each seed an own picture, three for a mosaic and two to cut out from, of 23 colours in all."""
    for seed in seeds:
        generator = np.random.default_rng(seed)
        parts = np.array_split(generator.permutation(len(COLOURS)), 6)
        raws = [
            picture(generator, part.tolist(), [side + int(generator.integers(60)) for side in size], kind, sides=sides)
            for part in parts
        ]
        torch.manual_seed(seed)
        yield (
            raws[0],
            [(raw, QUARTER) for raw in raws[1:4]],
            [(raw, Cutout(number)) for raw in raws[4:] for number in range(min(2, len(annotations_of(raw))))],
        )


LARGE = {"kind": ".jpg", "size": (600, 800), "sides": (60, 160)}  # decoded reduced


@pytest.mark.parametrize(
    "changes",
    [{}, {"scale_jitter": (0.1, 2.0)}, {"hflip": 0.5, "crop_to_box": 1.0, "scale_jitter": (1.0, 2.5)}],
    ids=["default", "large scale", "to a box"],
)
@pytest.mark.parametrize(("what", "pictures"), [("mosaic", {}), ("pasted", {}), ("both", LARGE)])
def test_boxes_stay_on_their_pixels(what, changes, pictures):
    transform, boxes, pasted = TrainTransform(config(**changes), META), 0, 0
    for own, quarters, cutouts in scenes(range(10), **pictures):
        companions = {"mosaic": quarters, "pasted": cutouts, "both": quarters + cutouts}[what]
        example = transform(own, companions)
        boxes += check(example, 2.01)
        own_colours = {item["category_id"] for raw, use in [(own, QUARTER), *companions] if use == QUARTER
                       for item in annotations_of(raw)}  # fmt: skip
        pasted += len(set(example.target["class_labels"].tolist()) - own_colours)
        assert example.left_out == 0
    assert boxes > 10 and (pasted > 20) == (what != "mosaic")


def test_the_canvas_of_a_mosaic_shows_all_four_pictures():
    grey = [RawSample("a.png", {"jpg": cv2.imencode(".png", np.full((300, 300, 3), value, np.uint8))[1].tobytes(),
            "json": b'{"image_id": 1, "annotations": []}'}) for value in (10, 60, 150, 240)]  # fmt: skip
    transform = TrainTransform(config(scale_jitter=(1.0, 1.5)), META)
    middles = set()
    for seed in range(10):
        torch.manual_seed(seed)
        image = transform(grey[0], [(raw, QUARTER) for raw in grey[1:]]).image[0].numpy()
        assert [image[y, x] for y in (0, -1) for x in (0, -1)] == [10, 60, 150, 240]
        middle = int((image[:, 0] == 10).sum()), int((image[0] == 10).sum())
        assert all(0.28 * side <= at <= 0.72 * side for at, side in zip(middle, CANVAS, strict=True))
        middles.add(middle)
    assert len(middles) > 8


def test_a_pasted_object_fades_out_around_its_box():
    own = RawSample("a.png", {"jpg": cv2.imencode(".png", np.full((140, 180, 3), 200, np.uint8))[1].tobytes(),
                              "json": b'{"image_id": 1, "annotations": []}'})  # fmt: skip
    other = picture(np.random.default_rng(1), [4], (140, 180), sides=(20, 24))
    torch.manual_seed(0)
    example = TrainTransform(config(scale_jitter=(1.0, 1.0)), META)(own, [(other, Cutout(0))])
    x1, y1, x2, y2 = seen(example.image, 4)[0]
    row = example.image[:, (y1 + y2) // 2, :].float().mean(0)  # 200 far from it, 40 around it in its own picture
    assert row[max(0, x1 - 12)] == 200 and row[min(179, x2 + 11)] == 200
    border = row[x2 + 1 : x2 + 4]
    assert (border[1:] >= border[:-1]).all() and 40 < border[0] < 200


@pytest.mark.parametrize(("size", "jitter"), [((600, 900), (3, 6)), ((90, 700), (3, 6)), ((70, 70), (0.5, 1.3))])
def test_a_crop_to_a_box_holds_a_whole_one_and_any(size, jitter):
    raw = picture(np.random.default_rng(3), [0, 5, 9, 13], size, sides=(10, 30))
    options = {"scale_jitter": jitter, "min_visible": 0.95}
    sure, never = (TrainTransform(config(crop_to_box=p, **options), META) for p in (1.0, 0.0))
    labels, empty = set(), 0
    for seed in range(30):
        torch.manual_seed(seed)
        found = sure(raw).target["class_labels"].tolist()
        assert found, "a crop without a whole box"
        labels |= set(found)
        empty += not len(never(raw).target["boxes"])
    assert labels == {item["category_id"] for item in annotations_of(raw)}
    assert empty > 4 or max(size) < 600


def test_a_box_larger_than_the_crop_fills_it():
    raw = picture(np.random.default_rng(0), [7], (200, 200), sides=(150, 160))
    transform = TrainTransform(config(crop_to_box=1.0, scale_jitter=(4.0, 4.0)), META)
    for seed in range(10):
        torch.manual_seed(seed)
        torch.testing.assert_close(transform(raw).target["boxes"], torch.tensor([[0.5, 0.5, 1.0, 1.0]]))


def test_companions_that_are_broken_are_left_out_and_counted():
    own, quarters, cutouts = next(scenes([5]))
    broken = RawSample("b.png", {**own.members, "jpg": own.members["jpg"][:-40]})
    transform = TrainTransform(config(), META)
    example = transform(own, [quarters[0], (broken, QUARTER), quarters[2], (broken, Cutout(0)), *cutouts])
    assert example.left_out == 2 and check(example, 2.01)
    with pytest.raises(DecodeError):
        transform(broken, quarters)
    unlabelled = RawSample("c.png", {"jpg": own.members["jpg"], "json": b'{"image_id": 1}'})
    for use in (QUARTER, Cutout(0)):
        with pytest.raises(UserError, match=r"beside it c\.png: no annotations"):
            transform(own, [(unlabelled, use)] * 3)


def test_a_recipe_without_the_new_keys_draws_as_before():
    """The numbers are of the time before them."""
    raw = picture(np.random.default_rng(0), [3, 8], (150, 200))
    transform = TrainTransform(DetConfig(size=CANVAS, hflip=0.5), META)
    assert transform.companions(Chance(1), None) == []
    torch.manual_seed(4)
    example = transform(raw)
    before = [[0.28543398, 0.51932061, 0.16156641, 0.24927388], [0.02962051, 0.14540976, 0.05924102, 0.15233403]]
    torch.testing.assert_close(example.target["boxes"], torch.tensor(before), rtol=0, atol=1e-6)
    assert torch.rand(()).item() == pytest.approx(0.76348442, abs=1e-7)


def test_a_scale_leaves_a_pixel_of_the_shorter_side():
    image = np.full((10, 2000, 3), 90, np.uint8)
    label = {"image_id": 1, "annotations": [annotation(0, 5, 1, 900, 8)]}
    raw = RawSample("a.png", {"jpg": cv2.imencode(".png", image)[1].tobytes(), "json": json.dumps(label).encode()})
    transform = TrainTransform(config(size=(128, 128), scale_jitter=(0.1, 2.0)), META)
    for seed in range(30):
        torch.manual_seed(seed)
        assert transform(raw).image.shape == (3, 128, 128)


class Labels:
    """A split of labels alone."""

    def __init__(self, *labels):
        self.labels, self.meta, self.split, self.file_names = labels, META, "train", ["a.jpg"] * len(labels)

    def __len__(self):
        return len(self.labels)

    def place_of(self, index):
        return f"train-000000.tar: {self.file_names[index]}"

    def read_member(self, index, ext):
        return json.dumps({"image_id": index, "annotations": self.labels[index]}).encode()


def annotation(category_id, *bbox, iscrowd=0):
    return {"bbox": list(bbox), "category_id": category_id, "iscrowd": iscrowd, "area": 1.0}


def test_rare_classes_are_pasted_more_often_than_they_occur():
    many = [[annotation(0, 20 + 40 * i, 20, 20, 20) for i in range(16)] for _ in range(4)]  # 64 of class 0
    few = [[annotation(1, 20 + 40 * i, 20, 20, 20) for i in range(4)]]  # 4 of class 1, 1 of class 2
    rare = RareBoxes.find(Labels(*many, *few, [annotation(2, 50, 50, 30, 9)]))
    chance = Chance("test")
    draws = [rare.draw(chance) for _ in range(4000)]
    share = np.bincount([0 if d.index < 4 else d.index - 3 for d in draws]) / 4000
    np.testing.assert_allclose(share, np.array([1 / 8, 1 / 2, 1]) / 1.625, atol=0.03)
    assert {d.use.annotation for d in draws if d.index == 0} == set(range(16))


def test_what_is_not_pasted():
    crowd = [annotation(0, 20, 20, 20, 20, iscrowd=1)]
    small = [annotation(0, 20, 20, 7, 20)]
    near = [annotation(0, 20, 20, 20, 20), annotation(1, 42, 20, 20, 20)]
    cut_off = [annotation(0, 0, 20, 20, 20)]
    with pytest.raises(UserError, match=r"'tasks\.det\.copy_paste': no box of the train split .*; set it to 0"):
        RareBoxes.find(Labels(crowd, small, near, cut_off, []))
    assert RareBoxes.find(Labels(crowd, [annotation(3, 20, 20, 20, 20)])).draw(Chance(0)).index == 1
    with pytest.raises(UserError, match=r"train-000000\.tar: a\.jpg: 99 is none of the"):
        RareBoxes.find(Labels([annotation(99, 20, 20, 20, 20)]))
