"""The end of a JPEG: of every kind, with anything before and behind it."""

import io

import numpy as np
import pytest
from PIL import Image

from shards.image_check import check_image
from ufo_ds.data.decode import DecodeError, decode_image
from ufo_ds.data.jpeg_end import has_end

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "grey": {"mode": "L"},
    "a comment of markers": {"comment": b"\xff\xd9\xff\xda" * 9},
}


def jpeg(mode="RGB", size=(120, 90), **options):
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def with_thumbnail(data):
    """A small JPEG stands in a segment before the picture, as cameras write it."""
    segment = b"Exif\x00\x00" + jpeg(size=(16, 16))
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_has_an_end_whatever_follows_it(kind):
    data, generator = jpeg(**KINDS[kind]), np.random.default_rng(1)
    tails = [b"", b"\x00\xff\xda", b"\xff\xd9", b"\xff\xd8\xff\xda", bytes(5000), generator.bytes(300_000)]
    for tail in tails:
        for whole in (data + tail, with_thumbnail(data) + tail):
            assert has_end(whole)
            assert decode_image(whole).shape == (90, 120, 3) and check_image(whole) == (120, 90)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [b"", bytes(500)], ids=["cut", "filled"])
def test_a_picture_that_breaks_off_has_none(kind, fill):
    for data in (jpeg(**KINDS[kind]), with_thumbnail(jpeg(**KINDS[kind]))):
        for length in (*range(len(data) // 2, len(data) - 2, 97), len(data) - 2, len(data) - 1):
            assert not has_end(data[:length] + fill), length
        with pytest.raises(DecodeError, match="the JPEG breaks off"):
            decode_image(data[:-300] + fill)


def test_bytes_at_random_are_no_trouble():
    generator = np.random.default_rng(2)
    for length in (0, 1, 2, 3, 5, 1000, 10_000):
        has_end(b"\xff\xd8" + generator.bytes(length))
    assert not has_end(b"\xff\xd8" + b"\xff" * 1000)
