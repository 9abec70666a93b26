"""Crops that the labels have a say in, and masks on their pixels under all that is drawn, in pictures of odd sizes."""

import cv2
import numpy as np
import pytest
import torch

from ufo_ds.data.placement import Placement
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.recipe import SegConfig
from ufo_ds.tasks.segmentation.examples import TrainTransform
from ufo_ds.tasks.segmentation.placing import largest_share, place_crop, rare_pixel

META = TaskMeta("seg", "test", [ClassInfo(i, f"class {i}") for i in range(6)], {})
COLOURS = np.uint8([[20, 20, 20], [230, 30, 30], [30, 230, 30], [30, 30, 230], [230, 230, 30], [230, 230, 230]])


def png(array):
    return cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def blocks(size, seed, side=23):
    """A mask of square blocks, `side` pixels wide."""
    ids = np.random.default_rng(seed).integers(0, 6, (size[0] // side + 1, size[1] // side + 1)).astype(np.uint8)
    return ids.repeat(side, 0).repeat(side, 1)[: size[0], : size[1]]


def raw(mask, kind=".png"):
    image = COLOURS[mask % 6]
    options = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    data = png(image) if kind == ".png" else cv2.imencode(kind, image[..., ::-1], options)[1]
    return RawSample("a.jpg", {"jpg": bytes(data), "png": png(mask)})


def settled(target):
    """Where a pixel and its neighbours, two away, are of one class. What lies beyond the crop is not known."""
    around, known = np.ones((5, 5), np.uint8), np.pad(target, 2, constant_values=255)
    same = cv2.erode(known, around) == cv2.dilate(known, around)
    return same[2:-2, 2:-2] & (target != 255)


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(97, 131), (150, 61), (200, 333)])
def test_a_pixel_s_colour_is_that_of_its_label_whatever_is_drawn(size, kind):
    keys = {"crop": (64, 80), "scale_jitter": (0.3, 2.0), "hflip": 0.5, "color_jitter": 0.0}
    transform = TrainTransform(SegConfig(**keys, rare_crops=0.5, cat_max_ratio=0.4), META)
    looked_at = 0
    for seed in range(40):
        torch.manual_seed(seed)
        example = transform(raw(blocks(size, seed), kind))
        assert example.image.shape == (3, 64, 80) and example.target.shape == (64, 80)
        target = example.target.numpy()
        distance = np.abs(example.image.numpy()[:, None].astype(int) - COLOURS.T[:, :, None, None]).sum(0)  # [K, H, W]
        inside = settled(target)
        looked_at += inside.sum()
        assert (distance.argmin(0) == target)[inside].all()
    assert looked_at > 20_000


def test_photometric_changes_leave_the_labels():
    keys = {"crop": (64, 80), "color_jitter": 0.5, "hue_jitter": 0.1, "jitter_prob": 0.5}
    plain = {**keys, "color_jitter": 0.0, "hue_jitter": 0.0}
    for seed in range(5):
        sample = raw(blocks((97, 131), seed))
        torch.manual_seed(seed)
        example = TrainTransform(SegConfig(**keys, hflip=0.0), META)(sample)
        torch.manual_seed(seed)
        assert torch.equal(example.target, TrainTransform(SegConfig(**plain, hflip=0.0), META)(sample).target)


# ---- rare crops ----


def street(size=(240, 400)):
    """Mostly classes 0 and 1; a small square of class 5, and a strip that is not labelled."""
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 2 :] = 1
    mask[30:42, 300:312], mask[:5] = 5, 255
    return mask


def test_rare_classes_are_drawn_by_far_the_most():
    torch.manual_seed(0)
    mask = street()
    drawn = [mask[rare_pixel(mask)] for _ in range(200)]
    assert drawn.count(5) == 200 and rare_pixel(np.full((9, 9), 255, np.uint8)) is None
    even = np.repeat(np.arange(4, dtype=np.uint8), 100).reshape(20, 20)
    counts = np.bincount([even[rare_pixel(even)] for _ in range(800)])
    assert len(counts) == 4 and counts.min() > 150


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_rare_crop_holds_its_class_at_any_place(scale):
    mask, crop = street(), (64, 80)
    always = SegConfig(crop=crop, scale_jitter=(scale, scale), rare_crops=1.0, color_jitter=0.0)
    found, centres = 0, []
    for seed in range(60):
        torch.manual_seed(seed)
        target = TrainTransform(always, META)(raw(mask, ".jpg")).target
        held = (target == 5).nonzero().float()
        found += len(held) > 0
        if len(held):
            centres.append(held.mean(0).numpy())
    # A crop may touch the square with an edge that nearest pixels pass over.
    assert found >= 58
    assert np.ptp(centres, axis=0).min() > 10, "the class is always at the same place of the crop"
    torch.manual_seed(0)
    never = TrainTransform(SegConfig(crop=crop, scale_jitter=(scale, scale)), META)
    assert sum(bool((never(raw(mask)).target == 5).any()) for _ in range(60)) < 30


def test_around_is_a_random_place_that_holds_the_pixel():
    torch.manual_seed(0)
    starts = [Placement.around((50, 60), (20, 20), 1.0, (3, 59)).start for _ in range(300)]
    assert {top for top, _ in starts} == set(range(4)) and {left for _, left in starts} == {39}  # an extent of 21
    whole = Placement.around((50, 60), (80, 90), 1.0, (3, 59))
    assert whole.start == (0, 0) and whole.extent == (50, 60)


# ---- one class in a crop ----


def test_a_crop_that_one_class_fills_is_drawn_anew():
    mask, crop = street(), (40, 40)

    def share(config):
        return largest_share(place_crop(mask, crop, 1.0, config).window(mask))

    torch.manual_seed(0)
    free = [share(SegConfig()) for _ in range(200)]
    bound = [share(SegConfig(cat_max_ratio=0.75)) for _ in range(200)]
    assert np.mean(np.array(free) > 0.75) > 0.8 and np.mean(np.array(bound) > 0.75) < 0.45
    assert largest_share(np.full((8, 8), 255, np.uint8)) == 1.0


def test_the_defaults_draw_what_they_always_drew():
    mask = street()
    torch.manual_seed(3)
    expected = Placement.at_random(mask.shape, (64, 80), 1.2)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    assert place_crop(mask, (64, 80), 1.2, SegConfig()) == expected and torch.equal(torch.get_rng_state(), state)


def test_a_crop_at_a_rare_pixel_is_drawn_anew_too_where_a_class_fills_it():
    mask = np.zeros((300, 300), np.uint8)
    mask[140:148, 140:148], mask[:, 170:] = 1, 2
    shares = []
    for ratio in (1.0, 0.75):
        config = SegConfig(rare_crops=1.0, cat_max_ratio=ratio)
        crops = []
        for seed in range(60):
            torch.manual_seed(seed)
            crops.append(place_crop(mask, (100, 100), 1.0, config).window(mask))
        assert all((crop == 1).any() for crop in crops)
        shares.append(np.mean([largest_share(crop) > 0.75 for crop in crops]))
    assert shares[0] > 0.4 and shares[1] < 0.1
