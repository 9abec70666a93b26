"""Whether the pixels behind a sample are sound; what is not raises `UnfitError` with the reason.

Images are stored as the bytes that they are, and are later decoded without their EXIF orientation: widths,
heights and boxes speak of the stored raster.
"""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageFile

from shards.layouts import Boxes, Source
from ufo_ds.data.jpeg_end import has_end
from ufo_ds.data.schema import IGNORE_ID
from ufo_ds.errors import listed, reason_of, shown
from ufo_ds.files import read_bytes

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_JPEGS = ("JPEG", "MPO")
"""MPO is a JPEG followed by further views of the scene, as cameras write it."""
MAX_PIXELS = 100_000_000
"""A header that announces more is not decoded: a small file can unfold to gigabytes."""
BORDER = 1.0
"""Pixels by which a box may stick out of its image (annotations round outwards)."""

ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = None  # `MAX_PIXELS` guards instead, without Pillow's warnings


class UnfitError(Exception):
    """Why a sample is rejected."""


def read_source(source: Source) -> bytes:
    """The bytes of a raw file."""
    try:
        data = read_bytes(source.path)
    except (OSError, ValueError) as error:
        raise UnfitError(f"{source.path.name} cannot be read: {reason_of(error)}") from None
    if len(data) != source.size:
        raise UnfitError(f"{source.path.name} has changed since the build began; run again when it is all there")
    return data


def check_image(data: bytes) -> tuple[int, int]:
    """Decode an image to its last byte; returns (width, height) in pixels of the stored raster."""
    image = open_image(data, _FORMATS)
    size = image.size  # before the draft, which shrinks it
    if image.format == "JPEG":
        # All entropy-coded data are read, but transformed at 1/8 of the size: a fifth of the time.
        image.draft(None, (1, 1))
    load_image(image)
    # A download that broke off in a file of full length leaves zeros, which decode as grey.
    if image.format in _JPEGS and not has_end(data):
        raise UnfitError("cannot be decoded (no end of image)")
    if image.format not in _JPEGS:
        _check_still(image, data)
    return size


def _check_still(image: Image.Image, data: bytes) -> None:
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise UnfitError(f"an animation of {frames} frames, not one image")
    # The reader's other decoder is stricter with these formats. Of JPEGs both use the same library.
    from ufo_ds.data.decode import DecodeError, decode_image

    try:
        decode_image(data)
    except DecodeError as fault:
        raise UnfitError(f"cannot be decoded ({fault})") from None


def open_image(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """An image of one of Pillow's `formats` and of no more than `MAX_PIXELS`, not decoded yet. Raises `UnfitError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF and the like: nobody reads it
            image = Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:  # decoders raise whatever they like on broken files
        unknown = isinstance(error, Image.UnidentifiedImageError)
        detail = f"not a readable {', '.join(formats)} image" if unknown else f"broken image ({error})"
        raise UnfitError(detail) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnfitError(f"{width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")
    return image


def load_image(image: Image.Image) -> None:
    """Decode an opened image to its last byte. Raises `UnfitError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:
        raise UnfitError(f"cannot be decoded ({error})") from None


def check_boxes(boxes: Boxes, width: int, height: int) -> None:
    """Compare a label with its image's true size: the size declared, and no box beyond the borders."""
    declared = (boxes.width or width, boxes.height or height)
    if declared != (width, height):
        hint = " (labelled as its EXIF orientation turns it?)" if declared == (height, width) else ""
        raise UnfitError(f"declared as {declared[0]} x {declared[1]} pixels, but it has {width} x {height}{hint}")
    for annotation, name in zip(boxes.annotations or (), boxes.annotation_names, strict=False):
        x, y, w, h = annotation["bbox"]
        if x < -BORDER or y < -BORDER or x + w > width + BORDER or y + h > height + BORDER:
            raise UnfitError(f"{name}: bbox {shown(annotation['bbox'], 60)} sticks out of the {width} x {height} image")


def check_mask(data: bytes, name: str, size: tuple[int, int], class_count: int) -> None:
    """Check a mask: an 8-bit single-channel PNG of `size` (width, height) with ids 0..K-1 or 255.

    A palette PNG's indices are its ids.
    """
    try:
        image = open_image(data, ("PNG",))
        # Bytes 24 and 25 are the header's bit depth and colour type: 0 grey, 3 palette. Pillow's mode would
        # not tell 4-bit grey (whose values it stretches) from 8-bit.
        if data[24] != 8 or data[25] not in (0, 3):
            raise UnfitError("not an 8-bit single-channel PNG")
        if image.size != size:
            raise UnfitError(f"{image.width} x {image.height} pixels, but the image has {size[0]} x {size[1]}")
        load_image(image)
    except UnfitError as fault:
        raise UnfitError(f"mask {name}: {fault}") from None
    present = [value for value, count in enumerate(image.histogram()) if count]
    foreign = [value for value in present if value >= class_count and value != IGNORE_ID]
    if foreign:
        raise UnfitError(f"mask {name}: ids {listed(foreign, 8)} are neither in 0..{class_count - 1} nor {IGNORE_ID}")
