"""Decoding, colour jitter, and the one map for pixels, masks and boxes."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from ufo_ds.data.decode import DecodeError, decode_image, decode_mask
from ufo_ds.data.pixels import GREY, colour_matrix, jitter_colour, to_tensor
from ufo_ds.data.placement import Placement, fit_scale


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height=60, width=80):
    """A gradient in the middle range of values, so that no adjustment clips it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([80 + x, 90 + y, 160 - x], 2).astype(np.uint8)


# ---- decoding ----


def test_images_come_as_rgb_whatever_their_kind():
    image = smooth()
    assert (decode_image(encoded(image)) == image).all()
    assert np.abs(decode_image(encoded(image, "JPEG", quality=98)).astype(int) - image).max() <= 6
    grey = encoded(image[:, :, 0], "JPEG")
    assert decode_image(grey).shape == (60, 80, 3)
    assert np.ptp(decode_image(grey), axis=2).max() == 0


def test_the_orientation_tag_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    assert decode_image(encoded(smooth(), "JPEG", exif=exif)).shape == (60, 80, 3)


@pytest.mark.parametrize("cut", [0, 3, 100, -2, -200])
def test_what_breaks_off_is_a_decode_error(cut):
    data = encoded(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8), "JPEG")
    with pytest.raises(DecodeError):
        decode_image(data[:cut])


def test_masks_keep_their_ids():
    ids = np.random.default_rng(0).integers(0, 20, (30, 40), np.uint8)
    ids[0, 0] = 255
    assert (decode_mask(encoded(ids)) == ids).all()
    palette = Image.new("P", (40, 30))
    palette.putdata(ids.ravel().tolist())
    palette.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    assert (decode_mask(encoded(palette)) == ids).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image at all, but long enough for a header",
        encoded(smooth()),
        encoded(smooth()[:, :, 0])[:-60],
        encoded(np.zeros((4, 4), np.uint16)),
        encoded(Image.new("1", (8, 8))),
    ],
    ids=["empty", "text", "colour", "cut", "16 bits", "1 bit"],
)
def test_what_is_no_mask_is_a_decode_error(data):
    with pytest.raises(DecodeError):
        decode_mask(data)


# ---- colour ----


@pytest.mark.parametrize(
    ("factors", "reference"),
    [
        ((1.3, 1, 1), lambda image: functional.adjust_brightness(image, 1.3)),
        ((1, 0.6, 1), lambda image: functional.adjust_contrast(image, 0.6)),
        ((1, 1, 1.4), lambda image: functional.adjust_saturation(image, 1.4)),
        ((0.8, 1.2, 0.5), lambda image: functional.adjust_contrast(
            functional.adjust_brightness(functional.adjust_saturation(image, 0.5), 0.8), 1.2)),
    ],
)  # fmt: skip
def test_one_matrix_does_what_torchvision_does_in_passes(factors, reference):
    image = smooth()
    found = to_tensor(cv2.transform(image, colour_matrix(image, *factors, 0.0))).int()
    # Its passes cut off fractions, one after the other.
    assert (found - reference(to_tensor(image).contiguous()).int()).abs().max() <= 3


def test_a_turn_of_the_hue_keeps_luma_and_grey():
    image = smooth()
    turned = cv2.transform(image, colour_matrix(image, 1, 1, 1, 0.05))
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(turned @ luma - image @ luma).max() < 1.5 and np.abs(turned.astype(int) - image).max() > 5
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert np.abs(cv2.transform(grey, colour_matrix(grey, 1, 1, 1, 0.2)).astype(int) - 90).max() <= 1


def test_jitter_draws_from_torch_and_can_be_switched_off():
    image = smooth()
    torch.manual_seed(0)
    first = jitter_colour(image, 0.4)
    torch.manual_seed(0)
    assert (jitter_colour(image, 0.4) == first).all() and (first != image).any()
    assert jitter_colour(image, 0) is image


# ---- placement ----


def test_a_fitted_picture_reaches_the_canvas_edge():
    generator = np.random.default_rng(0)
    for _ in range(300):
        size, canvas = (tuple(pair) for pair in generator.integers(16, 1500, (2, 2)).tolist())
        place = Placement.at_origin(size, canvas, fit_scale(size, canvas))
        assert place.size[0] == canvas[0] or place.size[1] == canvas[1]
        assert place.extent == size and place.start == place.offset == (0, 0)


@pytest.mark.parametrize("scale", [0.31, 0.5, 0.77, 1.0, 1.5, 2.3])
def test_pixels_mask_and_boxes_agree(scale):
    torch.manual_seed(int(100 * scale))
    for _ in range(20):
        image, mask = np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
        image[30:70, 40:90], mask[30:70, 40:90] = 255, 1
        place = Placement.at_random((90, 120), (100, 110), scale)
        pixels = place.paste(place.window(image))
        ids = place.paste_mask(mask, 255)
        shown = place.clip(place.boxes(np.array([[40.0, 30, 90, 70]])))[0]
        assert pixels.shape == (3, 100, 110) and pixels.is_contiguous() and ids.shape == (100, 110)
        assert ((ids == 255) == (pixels[0] == GREY)).all() or scale != 1.0
        for bright in (pixels[0] > 180, ids == 1):
            rows, columns = np.nonzero(bright.numpy())
            if len(rows) == 0:
                assert (shown[2:] - shown[:2]).min() < 2
                continue
            bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(bounds - shown).max() <= 1.0


def test_a_picture_that_would_vanish_is_a_decode_error():
    with pytest.raises(DecodeError, match="vanishes"):
        Placement.at_origin((1, 4000), (64, 64), fit_scale((1, 4000), (64, 64)))


def test_all_places_are_reached():
    torch.manual_seed(0)
    small = {Placement.at_random((10, 10), (12, 12), 1.0).offset for _ in range(300)}
    large = {Placement.at_random((12, 12), (10, 10), 1.0).start for _ in range(300)}
    assert small == {(y, x) for y in range(3) for x in range(3)}
    assert {axis for pair in large for axis in pair} == {0, 1}
