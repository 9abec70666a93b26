"""Pictures decoded at a part of their size: the same draws, every pixel, box and mask in its place, no worse to see."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ufo_ds.data import decode
from ufo_ds.data.decode import DecodeError, EncodedImage, decode_image
from ufo_ds.data.placement import Placement
from ufo_ds.data.resampling import stretch
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.recipe import ClsConfig, DetConfig, SegConfig
from ufo_ds.tasks.classification import examples as classification
from ufo_ds.tasks.detection import examples as detection
from ufo_ds.tasks.segmentation import examples as segmentation

CLASSES = [ClassInfo(i, f"class {i}") for i in range(3)]
COLOUR_AT_FULL_SIZE = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]


def jpeg(image, *options):
    return cv2.imencode(".jpg", image, [*COLOUR_AT_FULL_SIZE, *options])[1].tobytes()


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def photograph(size=(512, 768), seed=0):
    """Structure at every scale, as in photographs: octaves of noise, the finer the weaker, and hard edges."""
    generator = np.random.default_rng(seed)
    image = np.zeros((*size, 3))
    for cell in (2, 4, 8, 16, 64):
        noise = generator.normal(0, 3 * cell**0.6, (size[0] // cell + 1, size[1] // cell + 1, 3))
        image += cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    image = np.clip(image + 120, 0, 255).astype(np.uint8)
    for _ in range(30):
        corner, side = generator.integers(0, 500, 2), generator.integers(5, 90, 2)
        cv2.rectangle(image, corner.tolist(), (corner + side).tolist(), generator.integers(0, 255, 3).tolist(), -1)
    return image


def psnr(one, other):
    difference = np.asarray(one, float) - np.asarray(other, float)
    return 10 * np.log10(255**2 / np.mean(difference**2))


def blob(size, centre, radius):
    """A bright spot on black with its centre at (y, x), where the corner of the image is (0, 0)."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    spot = 250 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2))
    return np.repeat(spot[:, :, None], 3, 2).astype(np.uint8)


def centre_of(pixels):
    """(y, x) of the spot in uint8 [3, H, W], whatever is round about it."""
    weights = (pixels[0].double() - 130).clamp(min=0)  # the canvas is darker
    axes = [torch.arange(side) + 0.5 for side in weights.shape]
    return [float((weights.sum(1 - axis) * axes[axis]).sum() / weights.sum()) for axis in (0, 1)]


# ---- decoding ----


@pytest.mark.parametrize(
    ("scale", "reduction"),
    [(2.0, 1), (1.0, 1), (0.51, 1), (0.5, 2), (0.5 * (1 + 1e-12), 2), (0.26, 2), (0.25, 4), (0.126, 4),
     (0.1, 8), (0.01, 8)],
)  # fmt: skip
@pytest.mark.parametrize("size", [(64, 96), (61, 97), (57, 63), (129, 8), (1, 1)])
def test_a_jpeg_is_decoded_no_larger_than_needed(size, scale, reduction):
    image = EncodedImage(jpeg(photograph((130, 130))[: size[0], : size[1]]))
    assert image.size == size
    pixels, found = image.decode(scale)
    assert found == reduction or size == (1, 1)
    assert pixels.shape == (-(-size[0] // reduction), -(-size[1] // reduction), 3)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_pixel_is_the_mean_of_those_it_covers(reduction):
    image = photograph()
    found = EncodedImage(jpeg(image)).decode(1 / reduction)[0]
    blocks = image[:, :, ::-1].reshape(512 // reduction, reduction, 768 // reduction, reduction, 3).mean((1, 3))
    assert psnr(found, blocks) > 40


@pytest.mark.parametrize("extension", [".png", ".bmp", ".webp"])
def test_other_formats_are_decoded_whole(extension):
    data = cv2.imencode(extension, photograph((61, 83)))[1].tobytes()
    pixels, reduction = EncodedImage(data).decode(0.1)
    assert reduction == 1 and (pixels == decode_image(data)).all() and pixels.shape == (61, 83, 3)


def test_a_decoder_that_cannot_reduce_is_taken_at_its_size(monkeypatch):
    data = jpeg(photograph((61, 83)))
    monkeypatch.setattr(decode, "_REDUCED", dict.fromkeys((1, 2, 4, 8), 0))
    pixels, reduction = EncodedImage(data).decode(0.1)
    assert reduction == 1 and pixels.shape == (61, 83, 3)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("cut", [100, 0.4, 0.9, -2])
def test_what_breaks_off_is_noticed_at_any_size(cut, progressive):
    data = jpeg(photograph((256, 256)), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    assert EncodedImage(data).decode(0.1)[1] == 8
    with pytest.raises(DecodeError):
        EncodedImage(data[: int(cut * len(data)) if isinstance(cut, float) else cut]).decode(0.1)


def test_too_many_pixels_are_refused_before_any_is_decoded(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 60 * 80 - 1)
    monkeypatch.setattr(decode.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DecodeError, match="80 x 60 pixels"):
        EncodedImage(jpeg(photograph((60, 80))))


# ---- in their places ----

SIZES = [(403, 611), (1001, 387), (520, 520)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("jitter", [(0.25, 0.3), (0.45, 0.6), (0.9, 1.0), (1.2, 1.9)])
@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_boxes_stay_on_their_pixels(size, jitter, mirrored):
    config = DetConfig(size=(90, 110), color_jitter=0.0, scale_jitter=jitter, hflip=mirrored, min_box=0.0)
    transform = detection.TrainTransform(config, TaskMeta("det", "test", CLASSES, {}))
    generator, seen = np.random.default_rng(0), 0
    for seed in range(12):
        torch.manual_seed(seed)
        centre = [side / 2 + generator.uniform(-side / 3, side / 3) for side in size]
        label = {"image_id": 1, "file_name": "a.jpg", "annotations": [
            {"bbox": [centre[1] - 1, centre[0] - 1, 2, 2], "category_id": 1, "iscrowd": 0, "area": 4}]}
        radius = 2 / (min(90 / size[0], 110 / size[1]) * np.mean(jitter))  # about 2 pixels of the canvas
        members = {"jpg": jpeg(blob(size, centre, radius)), "json": json.dumps(label).encode()}
        example = transform(RawSample("a.jpg", members))
        for x, y in (example.target["boxes"][:, :2] * torch.tensor([110, 90])).tolist():
            if 6 < x < 104 and 6 < y < 84:  # not cut by the crop
                seen += 1
                assert np.abs(np.array(centre_of(example.image)) - [y, x]).max() < 0.1
    assert seen >= 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("canvas", [(200, 180), (100, 90), (50, 60)])
def test_evaluation_boxes_come_back(size, canvas):
    centre = size[0] * 0.7, size[1] * 0.4
    config = DetConfig(size=canvas)
    members = {"jpg": jpeg(blob(size, centre, size[0] / 20)), "json": b'{"image_id": 1, "file_name": "a.jpg"}'}
    example = detection.EvalTransform(config, TaskMeta("det", "test", CLASSES, {}))(RawSample("a.jpg", members))
    found = np.array(centre_of(example.image)) / example.source["scale"]
    assert example.source["size"] == size
    assert np.abs(found - centre).max() < 0.1 / example.source["scale"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [(0.11, 0.125), (0.2, 0.25), (0.3, 0.5)])
def test_masks_stay_on_their_pixels(size, scale):
    config = SegConfig(crop=(90, 110), scale_jitter=scale, color_jitter=0.0)
    transform = segmentation.TrainTransform(config, TaskMeta("seg", "test", CLASSES, {}))
    seen = 0
    for seed in range(8):
        torch.manual_seed(seed)
        image = blob(size, (size[0] * 0.6, size[1] * 0.5), size[0] / 8)
        mask = (image[:, :, 0] > 130).astype(np.uint8)
        example = transform(RawSample("a.jpg", {"jpg": jpeg(image), "png": png(mask)}))
        shown = (example.image[0] > 130).numpy()
        wrong = (shown != (example.target == 1).numpy()) & (example.target != 255).numpy()
        seen += shown.sum()
        assert wrong.sum() <= 0.15 * np.sqrt(shown.sum()) * 4  # a seventh of a pixel along the outline
    assert seen > 200


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("goal", [(190, 180), (70, 60), (33, 40)])
def test_stretched_pictures_keep_their_places(size, goal):
    centre = size[0] * 0.8, size[1] * 0.7
    data = jpeg(blob(size, centre, min(size) / 12))
    expected = centre[0] * goal[0] / size[0], centre[1] * goal[1] / size[1]
    cls = classification.EvalTransform(ClsConfig(size=goal), TaskMeta("cls", "test", CLASSES, {}))
    seg = segmentation.EvalTransform(SegConfig(eval_size=goal), TaskMeta("seg", "test", CLASSES, {}))
    for example in (cls(RawSample("a.jpg", {"jpg": data})), seg(RawSample("a.jpg", {"jpg": data}))):
        assert example.image.shape == (3, *goal) and example.image.is_contiguous() and example.source["size"] == size
        assert np.abs(np.array(centre_of(example.image)) - expected).max() < 0.1


def test_a_window_begins_at_a_whole_pixel_of_the_reduced_picture():
    place = Placement(0.2, (11, 6), (50, 60), (0, 0), (10, 12), (10, 12)).reduced(4)
    assert place.start == (8, 4) and place.reduction == 4
    assert place.window(np.arange(40 * 50).reshape(40, 50)).shape == (13, 15)  # rows 8..58 of 160, columns 4..64
    assert place.boxes(np.array([[4.0, 8.0, 24.0, 58.0]])).tolist() == [[0.0, 0.0, 4.0, 10.0]]


# ---- the same draws, and a picture that is no worse ----


def transforms(cls, det, seg):
    """The three training transforms for networks of these sizes, with all their chance."""
    meta = {task: TaskMeta(task, "test", CLASSES, {}) for task in ("cls", "det", "seg")}
    return {
        "cls": classification.TrainTransform(ClsConfig(size=cls), meta["cls"]),
        "det": detection.TrainTransform(DetConfig(size=det, hflip=0.5, scale_jitter=(0.7, 1.4)), meta["det"]),
        "seg": segmentation.TrainTransform(SegConfig(crop=seg, scale_jitter=(0.2, 0.45)), meta["seg"]),
    }


@pytest.mark.parametrize("task", ["cls", "det", "seg"])
def test_what_is_drawn_does_not_depend_on_the_decoding(task):
    image = photograph((809, 1203))
    label = {"image_id": 1, "file_name": "a", "annotations": [
        {"bbox": [301, 200, 401, 353], "category_id": 1, "iscrowd": 0, "area": 1}]}
    rest = {"cls": b"1", "json": json.dumps(label).encode(), "png": png(photograph((809, 1203))[:, :, 0] % 3)}
    transform = transforms((90, 90), (110, 150), (120, 150))[task]
    likeness = []
    for seed in range(10):
        made = []
        for first, data in (("jpg", jpeg(image)), ("bmp", cv2.imencode(".bmp", image)[1].tobytes())):
            torch.manual_seed(seed)
            example = transform(RawSample("a", {first: data, **rest}))
            made.append((example, torch.get_rng_state()))
        (reduced, state), (whole, other) = made
        assert torch.equal(state, other) and reduced.source == whole.source
        if task == "det":  # the corner of the window moved by less than a pixel
            move = (reduced.target["boxes"] - whole.target["boxes"]) * torch.tensor([150, 110, 150, 110])
            assert move.abs().max() < 1 or not len(move)
        likeness.append(psnr(reduced.image, whole.image))
    assert np.median(likeness) > 22  # half a pixel off, on this fine a picture; other crops or colours give 11-15


@pytest.mark.parametrize("beyond", [1.0, 1.05, 1.2, 1.5, 1.9])
@pytest.mark.parametrize("reduction", [2, 4])
def test_the_rest_of_the_way_leaves_no_worse_a_picture(reduction, beyond):
    """Against Lanczos on what was never a JPEG; at the usual quality and with colour at half the size."""
    for seed in range(3):
        image = photograph((960, 1280), seed)
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        goal = round(960 / reduction / beyond), round(1280 / reduction / beyond)
        ideal = np.asarray(Image.fromarray(image[:, :, ::-1]).resize(goal[::-1], Image.Resampling.LANCZOS))
        pixels, found = EncodedImage(data).decode(max(goal[0] / 960, goal[1] / 1280) * (1 - 1e-9))
        reduced = stretch(pixels, (960, 1280), goal, found).permute(1, 2, 0)
        whole = stretch(decode_image(data), (960, 1280), goal).permute(1, 2, 0)
        assert found == reduction
        assert psnr(reduced, ideal) > psnr(whole, ideal) - 0.5
        assert psnr(reduced, whole) > 30
