"""Masks whose pixels are not yet class ids as training reads them: colours, other values, other kinds of PNG."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from shards.image_check import UnfitError, load_image, open_image
from shards.layouts import CodedMask
from ufo_ds.errors import listed

_NONE = 254
"""In a table: means nothing. No id, since 255 means ignore and 254 classes are the most of a coded mask."""
_SHOWN = 4
_COLOURED = "a PNG of colours; say in classes.csv which is which, a line `name,red,green,blue` a class"


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
        ids_HW = _ids_of_colours(data, label.codes or ()) if label.coloured else _ids_of_values(data, label.codes)
    except UnfitError as fault:
        raise UnfitError(f"mask {name}: {fault}") from None
    file = io.BytesIO()
    Image.fromarray(ids_HW).save(file, "PNG")
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
            raise UnfitError(_COLOURED)
        pixels = pixels[..., 0]
    elif image.mode == "LA":
        pixels = pixels[..., 0]
    elif image.mode == "L" and depth < 8:  # Pillow stretches them to 0..255
        pixels = pixels // (255 // (2**depth - 1))
    if pixels.size and pixels.max() > 255:
        raise UnfitError(f"a 16-bit PNG with values up to {pixels.max()}; ids end at 255")
    return pixels.astype(np.uint8)


def _opened(data: bytes) -> Image.Image:
    image = open_image(data, ("PNG",))
    load_image(image)
    return image


def _ids_of_values(data: bytes, codes: tuple[tuple[int, int], ...] | None) -> np.ndarray:
    values_HW = values_of(data)
    if codes is None:
        return values_HW
    table = np.full(256, _NONE, np.uint8)
    for value, mask_id in codes:
        table[value] = mask_id
    ids_HW = table[values_HW]
    if foreign := np.unique(values_HW[ids_HW == _NONE]).tolist():
        raise UnfitError(f"the values {listed(foreign, _SHOWN)} mean no class")
    return ids_HW


def _ids_of_colours(data: bytes, codes: tuple[tuple[int, int], ...]) -> np.ndarray:
    image = _opened(data)
    if data[24] > 8:
        raise UnfitError(f"a PNG of {data[24]} bits a channel, not 8")
    rgba_HW4 = np.asarray(image.convert("RGB").convert("RGBA"))  # four bytes a pixel, which are one number
    colours_HW = rgba_HW4.view(">u4")[..., 0] >> 8
    ids_HW = _table(codes)[colours_HW]
    if foreign := np.unique(colours_HW[ids_HW == _NONE]).tolist():
        colours = [(c >> 16, c >> 8 & 255, c & 255) for c in foreign]
        raise UnfitError(f"the colours {listed(colours, _SHOWN)} mean no class")
    return ids_HW


@lru_cache(maxsize=1)
def _table(codes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The id of each of the 2^24 colours, 16 MiB: one look-up a pixel instead of a search."""
    table = np.full(1 << 24, _NONE, np.uint8)
    for colour, mask_id in codes:
        table[colour] = mask_id
    return table
