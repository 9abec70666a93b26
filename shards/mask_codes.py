"""Masks whose pixels are not yet class ids as training reads them: colours, other values, other kinds of PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from shards.image_check import UnfitError, load_image, open_image
from shards.layouts import CodedMask

_EQUAL_GREY = "a PNG of colours; say in classes.csv which is which, a line `name,red,green,blue` a class"


def decoded_mask(data: bytes, name: str, label: CodedMask) -> bytes:
    """A mask file -> an 8-bit single-channel PNG of class ids and 255; the file itself where it is one already.

    Args:
        data: the PNG's bytes.
        name: of the file, for messages.
        label: how its pixels are coded.

    Raises:
        UnfitError: no whole PNG, or pixels without a code.
    """
    if label.codes is None and is_plain(data):
        return data
    try:
        values = colours_of(data) if label.coloured else values_of(data)
        ids = values if label.codes is None else _looked_up(values, label)
    except UnfitError as fault:
        raise UnfitError(f"mask {name}: {fault}") from None
    file = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def is_plain(data: bytes) -> bool:
    """Whether a PNG's header announces one 8-bit channel: grey, or a palette."""
    return len(data) > 25 and data[24] == 8 and data[25] in (0, 3)


def values_of(data: bytes) -> np.ndarray:
    """What a PNG stores, uint8 [H, W]: grey values, a palette's indices, or a colour's channel where all are equal.

    Raises:
        UnfitError: no whole PNG, colours, or values of 16 bits beyond 255.
    """
    image = _opened(data)
    depth = data[24]
    pixels = np.asarray(image)
    if image.mode in ("RGB", "RGBA"):
        if (pixels[..., :1] != pixels[..., 1:3]).any():
            raise UnfitError(_EQUAL_GREY)
        pixels = pixels[..., 0]
    elif image.mode == "LA":
        pixels = pixels[..., 0]
    elif image.mode == "L" and depth < 8:  # Pillow stretches them to 0..255
        pixels = pixels // (255 // (2**depth - 1))
    if pixels.size and pixels.max() > 255:
        raise UnfitError(f"a 16-bit PNG with values up to {pixels.max()}; ids end at 255")
    return pixels.astype(np.uint8)


def colours_of(data: bytes) -> np.ndarray:
    """The colours of a PNG of any kind, int32 [H, W], 0xRRGGBB. `UnfitError` where it is not a whole PNG."""
    pixels = np.asarray(_opened(data).convert("RGB")).astype(np.int32)
    return (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]


def _opened(data: bytes) -> Image.Image:
    image = open_image(data, ("PNG",))
    load_image(image)
    return image


def _looked_up(values: np.ndarray, label: CodedMask) -> np.ndarray:
    codes, ids = np.array(sorted(label.codes or ()), np.int64).T
    places = np.searchsorted(codes, values).clip(max=len(codes) - 1)
    if (foreign := codes[places] != values).any():
        value = int(values[foreign][0])
        shown = f"colour {(value >> 16, value >> 8 & 255, value & 255)}" if label.coloured else f"value {value}"
        raise UnfitError(f"{shown} is none of the classes file's")
    return ids[places]
