"""Masks that show classes as colours -> masks of class ids."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from shards.image_check import UnfitError, load_image, open_image
from shards.layouts import CodedMask

_COLOUR_TYPES = (2, 3, 6)
"""Of a PNG's header: RGB, palette, RGBA."""
_NONE = 254
"""In the table: a colour of nobody. No id, since 255 means ignore and 255 classes are the most."""
_SHOWN = 4


def decoded_mask(data: bytes, name: str, label: CodedMask) -> bytes:
    """A mask file -> an 8-bit grey PNG of class ids and 255.

    Args:
        data: the PNG: 8 bits a channel, RGB, RGBA (whose alpha does not count), or a palette of colours.
        name: of the file, for messages.
        label: which colours mean which ids.

    Raises:
        UnfitError: it is another kind of file, or has colours that mean nothing; they are named.
    """
    try:
        image = open_image(data, ("PNG",))
        if data[25] not in _COLOUR_TYPES or (data[24] != 8 and data[25] != 3):
            raise UnfitError("not a PNG of 8-bit colours or with a palette")
        load_image(image)
        ids_HW = _look_up(image, label.codes or ())
    except UnfitError as fault:
        raise UnfitError(f"mask {name}: {fault}") from None
    file = io.BytesIO()
    Image.fromarray(ids_HW).save(file, "PNG")
    return file.getvalue()


def _look_up(image: Image.Image, codes: tuple[tuple[int, int], ...]) -> np.ndarray:
    rgba_HW4 = np.asarray(image.convert("RGB").convert("RGBA"))  # four bytes a pixel, which are one number
    colours_HW = rgba_HW4.view(">u4")[..., 0] >> 8
    ids_HW = _table(codes)[colours_HW]
    foreign = np.unique(colours_HW[ids_HW == _NONE]).tolist()
    if foreign:
        listed = ", ".join(str((code >> 16, code >> 8 & 255, code & 255)) for code in foreign[:_SHOWN])
        raise UnfitError(f"the colours {listed}{', ...' if len(foreign) > _SHOWN else ''} mean no class")
    return ids_HW


@lru_cache(maxsize=1)
def _table(codes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The id of each of the 2^24 colours, 16 MiB: one look-up a pixel instead of a search."""
    table = np.full(1 << 24, _NONE, np.uint8)
    for colour, mask_id in codes:
        table[colour] = mask_id
    return table
