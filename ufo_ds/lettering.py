"""Writing on pictures, RGB uint8 [H, W, 3]: a line of text in letters of a given height."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

Colour = tuple[int, int, int]
"""R, G, B, 0..255."""


@lru_cache(maxsize=1)
def _font() -> object | None:
    """OpenCV 5 brings a font with many scripts; OpenCV 4 has stroked Latin letters only."""
    return cv2.FontFace("uni") if hasattr(cv2, "FontFace") else None


def text_width(text: str, size: int) -> int:
    """Width of `text` in letters of `size`, pixels."""
    if _font() is None:
        return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size / 31, 1)[0][0]
    return cv2.getTextSize((10_000, 100), text, (0, 0), _font(), size)[2]


def shorten(text: str, width: int, size: int) -> str:
    """`text`, cut with an ellipsis to at most `width` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def write(image: np.ndarray, text: str, xy: tuple[int, int], colour: Colour, size: int) -> None:
    """Write in place; `xy` is the left end of the base line."""
    if _font() is None:
        cv2.putText(image, text, xy, cv2.FONT_HERSHEY_SIMPLEX, size / 31, colour, 1, cv2.LINE_AA)
    else:
        cv2.putText(image, text, xy, colour, _font(), size)
