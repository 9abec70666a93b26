"""Bytes of a member -> pixels. What is not whole raises `DecodeError`."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image

from ufo_ds.data.jpeg_end import has_end
from ufo_ds.errors import shown

MAX_PIXELS = 178_956_970
"""A header that announces more is not decoded: a small file can unfold to gigabytes. As Pillow's own limit."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
"""What the shard builder lets in; OpenCV alone would try many more decoders."""
_MAX_DIGITS = 18
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED = {  # the bits of the reduction alone: those of IMREAD_REDUCED_COLOR_* ask for BGR as well
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class DecodeError(Exception):
    """A sample whose bytes are broken. A training stream replaces it; an evaluation ends with it."""


class EncodedImage:
    """An image file of which only the header has been read: its size is known before a pixel is decoded.

    The EXIF orientation is ignored: boxes and masks refer to the pixels as they are stored.

    Attributes:
        size: (H, W) of the stored raster, pixels.

    Raises:
        DecodeError: not an image, visibly not a whole one, or one of too many pixels.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._is_jpeg = data.startswith(_JPEG)
        # OpenCV before 5 fills what is missing of a JPEG with grey and says nothing.
        if self._is_jpeg and not has_end(data):
            raise DecodeError("the JPEG breaks off")
        if data.startswith(_PNG):
            self._data = data = _whole_png(data)
        self.size = _read_size(data, FORMATS, "the image")

    def decode(self, scale: float = 1.0) -> tuple[np.ndarray, int]:
        """The pixels, of a JPEG at 1/2, 1/4 or 1/8 of its size where no more are needed.

        Args:
            scale: the factor by which the picture will be resized, the larger of its two axes.

        Returns:
            RGB uint8 [ceil(H / k), ceil(W / k), 3], C-contiguous, and k (1, 2, 4 or 8), `scale * k` <= 1: a pixel
            covers k x k of the original, the first ones from its top left corner.

        Raises:
            DecodeError: the pixels are broken.
        """
        wanted = next((k for k in (8, 4, 2) if k * scale <= 1 + 1e-9), 1) if self._is_jpeg else 1
        image = _decode(self._data, wanted)
        found = image.shape[:2]
        # A decoder may not know how to reduce (lossless JPEG), and then gives the whole picture.
        for reduction in (wanted, 1):
            if found == tuple(-(-side // reduction) for side in self.size):
                return image, reduction
        raise DecodeError(f"the image has (height, width) {found}, but its header says {self.size}")


def decode_image(data: bytes) -> np.ndarray:
    """An image file -> RGB uint8 [H, W, 3], C-contiguous, whole; see `EncodedImage`.

    Raises:
        DecodeError: not an image, or not a whole one.
    """
    return EncodedImage(data).decode()[0]


def _decode(data: bytes, reduction: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS | _REDUCED[reduction])
    except cv2.error as error:  # e.g. no bytes at all, or a header that announces too many pixels
        raise DecodeError(f"the image cannot be decoded ({error.err or error})") from None
    if image is None:
        raise DecodeError("the image cannot be decoded")
    return image


def decode_mask(data: bytes) -> np.ndarray:
    """A label PNG -> its ids, uint8 [H, W]; a palette's indices are the ids.

    Pillow, because OpenCV turns a palette into its colours; on grey PNGs the two take the same time.

    Raises:
        DecodeError: not a whole PNG, or not a single 8-bit channel.
    """
    # Bytes 24 and 25 of a PNG are bit depth and colour type (0 grey, 3 palette). Fewer bits of grey would
    # come out stretched to 0..255, and no longer be ids.
    if not data.startswith(_PNG) or len(data) < 26 or data[25] not in (0, 3) or (data[25] == 0 and data[24] != 8):
        raise DecodeError("the mask is not a PNG of one 8-bit channel")
    _read_size(data, ("PNG",), "the mask")
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.array(image)
    except Exception as error:  # Pillow's decoders raise whatever they like on broken files
        raise DecodeError(f"the mask cannot be decoded ({error})") from None


def decode_label(data: bytes) -> int:
    """A `.cls` member -> the class id.

    Raises:
        DecodeError: something else than a whole number from 0 up.
    """
    if data.isdigit() and len(data) <= _MAX_DIGITS:
        return int(data)
    raise DecodeError(f"class {shown(data)} is not an integer from 0 up")


def _read_size(data: bytes, formats: tuple[str, ...], what: str) -> tuple[int, int]:
    """(H, W) by the header, which alone is looked at."""
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
    except Image.DecompressionBombError:  # above twice a limit that another part of the program may have moved
        raise DecodeError(f"{what} has more than {MAX_PIXELS // 10**6} million pixels") from None
    except Exception as error:
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
        raise DecodeError(f"{what} cannot be decoded{reason}") from None
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{what} has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")
    return height, width


def _whole_png(data: bytes) -> bytes:
    """A PNG up to its end mark. OpenCV takes as much memory as a chunk announces, before it looks for its bytes."""
    view, position = memoryview(data), len(_PNG)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            break
        if data[position + 4 : position + 8] == b"IEND":
            return data[:end]
        position = end
    raise DecodeError("the PNG is damaged or breaks off")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings (large images, broken EXIF)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
