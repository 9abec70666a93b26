"""Members of a shard that are not what their names say: images, masks, labels."""

import io
import json
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from refusals import DEEP, HUGE, nested, parametrized
from small_download import HEIGHT, WIDTH, jpeg, png

from ufo_ds.data.decode import MAX_PIXELS, DecodeError, decode_image, decode_label, decode_mask
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import ClsConfig, DetConfig, SegConfig
from ufo_ds.tasks import get_task
from ufo_ds.tasks.detection.label import MAX_LABEL_BYTES


def chunk(kind, payload):
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(width, height, depth=8, colour=0, data=b""):
    """A PNG whose header announces what its data do not hold."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def jpeg_of(width, height):
    """A sound JPEG whose frame header announces another size."""
    data = bytearray(jpeg(1))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def text_bomb():
    """A PNG whose compressed text unfolds to 100 MB."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 10**8, zip=True)
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def saved(kind, mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, kind)
    return file.getvalue()


MEGA = MAX_PIXELS // 10**6
IMAGES = {
    "empty": (b"", "cannot be decoded"),
    "text": (b"<!DOCTYPE html><html>404</html>", "cannot be decoded"),
    "zeros": (bytes(5000), "cannot be decoded"),
    "JPEG cut": (jpeg(1)[:-300], "breaks off"),
    "JPEG header alone": (jpeg(1)[:100], "breaks off"),
    "JPEG start": (b"\xff\xd8", "breaks off"),
    "JPEG of zeros": (b"\xff\xd8" + bytes(5000), "breaks off"),
    "JPEG without a row": (jpeg_of(WIDTH, 0), "cannot be decoded"),
    "JPEG bomb": (jpeg_of(65000, 65000), f"more than {MEGA} million"),
    "PNG cut": (png(np.zeros((40, 40, 3), np.uint8))[:30], "the PNG is damaged or breaks off"),
    "PNG without data": (png_of(40, 40)[:33], "the PNG is damaged or breaks off"),
    # For these two OpenCV would take 1.3 GB and 3 GB, before it finds that there is no more.
    "PNG chunk of a gigabyte": (png_of(40, 30)[:33] + b"\x50\x00\x00\x14IDAT" + bytes(40), "damaged or breaks off"),
    "PNG that goes on": (png_of(40, 30)[:33] + bytes(4) + b"IEND" + b"\xbc" * 90, "damaged or breaks off"),
    "PNG of zero width": (png_of(0, 10), "cannot be decoded"),
    "PNG bomb": (png_of(100_000, 100_000), f"more than {MEGA} million"),
    "PNG bomb above 2^31": (png_of(2**31 - 1, 2**31 - 1), f"more than {MEGA} million"),
    "PNG just too large": (png_of(MAX_PIXELS // 1000 + 1, 1000), f"more than {MEGA} million"),
    "PNG text bomb": (text_bomb(), "cannot be decoded"),
    "BMP bomb": (bmp_of(90_000, 90_000), f"more than {MEGA} million"),
    "GIF": (saved("GIF"), "cannot be decoded"),
    "TIFF": (saved("TIFF"), "cannot be decoded"),
    "PPM": (saved("PPM"), "cannot be decoded"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be decoded"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "cannot be decoded"),
}


@parametrized(IMAGES)
def test_a_broken_image_is_a_decode_error(case):
    data, fragment = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DecodeError) as caught:
            decode_image(data)
    assert fragment in str(caught.value)


def test_an_image_of_one_pixel_is_an_image():
    assert decode_image(png(np.full((1, 1, 3), 7, np.uint8))).tolist() == [[[7, 7, 7]]]


MASKS = {
    "empty": b"",
    "text": b"x" * 50,
    "JPEG": jpeg(1),
    "text in the disguise of a mask": b"x" * 24 + b"\x08\x00" + b"x" * 50,
    "colour": png(np.zeros((4, 4, 3), np.uint8)),
    "alpha": saved("PNG", "LA"),
    "16 bits": png(np.zeros((4, 4), np.uint16)),
    "1 bit": saved("PNG", "1"),
    "4 bits of grey": png_of(4, 4, depth=4, data=bytes(12)),
    "cut": png(np.random.default_rng(0).integers(0, 19, (40, 40), np.uint8))[:-200],
    "header alone": png_of(4, 4)[:26],
    "bomb": png_of(100_000, 100_000),
    "palette bomb": png_of(20_000, 20_000, colour=3),
    "zero height": png_of(40, 0),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_broken_mask_is_refused_in_training_and_in_scoring(name):
    from ufo_ds.tasks.segmentation.score import decode_mask as score_mask

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DecodeError, match="mask"):
            decode_mask(MASKS[name])
        with pytest.raises(UserError, match=r"label of a\.jpg: .*mend or remove it"):
            score_mask(MASKS[name], "label of a.jpg")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"-1",
        b"+1",
        b"1.0",
        b" 1",
        b"1\n",
        b"1_0",
        b"0x1",
        b"\xd9\xa1",
        b"\0",
        b"nan",
        HUGE.encode(),
        b"1" * 19,
    ],
)
def test_a_label_that_is_no_class_id(data):  # fmt: skip
    with pytest.raises(DecodeError, match="is not an integer"):
        decode_label(data)
    meta = TaskMeta("cls", "test", [ClassInfo(i, str(i)) for i in range(20)], {})
    task = get_task("cls")
    with pytest.raises(UserError, match="no class"):
        task.train_transform(ClsConfig(), meta)(RawSample("a.jpg", {"jpg": jpeg(1), "cls": data}))
    with pytest.raises(UserError, match=r"a\.jpg"):
        task.truth(RawSample("a.jpg", {"jpg": jpeg(1), "cls": data.replace(b" ", b"x").replace(b"\n", b"x")}), meta)


BOX = {"bbox": [1, 2, 3, 4], "category_id": 3, "iscrowd": 0, "area": 12}
LABEL = {"image_id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT, "annotations": [BOX]}


def box(**change):
    return json.dumps({**LABEL, "annotations": [BOX, {**BOX, **change}]})


LABELS = {
    "absent": (None, "no annotations"),
    "empty": ("", "no image id"),
    "cut": (json.dumps(LABEL)[:-5], "no image id"),
    "list": ("[]", "no image id"),
    "null": ("null", "no image id"),
    "deep": ("[" * DEEP, "no image id"),
    "bytes": (b"\xff\xfe{", "no image id"),
    "absurd size": (b" " * (MAX_LABEL_BYTES + 1), "no image id"),
    "no image id": ('{"annotations": []}', "no image id"),
    "image id text": ('{"image_id": "1", "annotations": []}', "no image id"),
    "image id a list": ('{"image_id": [1], "annotations": []}', "no image id"),
    "image id infinite": ('{"image_id": Infinity, "annotations": []}', "no image id"),
    "image id huge": ('{"image_id": 1' + "0" * 30 + ', "annotations": []}', "no image id"),
    "annotations null": ('{"image_id": 1, "annotations": null}', "annotations are None"),
    "annotations an object": ('{"image_id": 1, "annotations": {"a": 1}}', "annotations are {'a': 1}"),
    "annotation a number": ('{"image_id": 1, "annotations": [3]}', "annotations[0] is no object"),
    "no box": ('{"image_id": 1, "annotations": [{"category_id": 3}]}', "annotations[0] has the bbox None"),
    "no category": ('{"image_id": 1, "annotations": [{"bbox": [1, 2, 3, 4]}]}', "annotations[0] has category_id None"),
    "category text": (box(category_id="3"), "annotations[1] has category_id '3'"),
    "category NaN": (box(category_id=float("nan")), "annotations[1] has category_id nan"),
    "category huge": (box(category_id=10**30), "annotations[1] has category_id 1000"),
    "category unknown": (box(category_id=5), "5 is none of"),
    "box of three": (box(bbox=[1, 2, 3]), "annotations[1] has the bbox [1, 2, 3]"),
    "box of text": (box(bbox=["1", 2, 3, 4]), "annotations[1] has the bbox ['1', 2"),
    "box deep": (box(bbox=json.loads(nested(900))), "annotations[1] has the bbox [[["),
    "box NaN": (box(bbox=[1, 2, float("nan"), 4]), "annotations[1] has the bbox [1, 2, nan"),
    "box infinite": (box(bbox=[1, 2, float("inf"), 4]), "annotations[1] has the bbox [1, 2, inf"),
    "box negative": (box(bbox=[1, 2, 3, -4]), "annotations[1] has the bbox [1, 2, 3, -4]"),
    "box absurd": (box(bbox=[1e300, 2, 1e300, 4]), "annotations[1] has the bbox [1e+300"),
    "box of huge integers": (box(bbox=[10**400, 2, 3, 4]), "annotations[1] has the bbox [1000"),
    "area negative": (box(area=-1), "annotations[1] has the area -1"),
    "area text": (box(area="12"), "annotations[1] has the area '12'"),
    "crowd two": (box(iscrowd=2), "annotations[1] has iscrowd 2"),
    "crowd a list": (box(iscrowd=[]), "annotations[1] has iscrowd []"),
}


@parametrized(LABELS)
def test_a_broken_detection_label_is_named(case):
    data, fragment = case
    members = {"jpg": jpeg(1)} | ({} if data is None else {"json": data if isinstance(data, bytes) else data.encode()})
    raw, task = RawSample("a.jpg", members), get_task("det")
    meta = TaskMeta("det", "test", [ClassInfo(3, "a"), ClassInfo(8, "b")], {})
    with pytest.raises(UserError) as caught:
        task.train_transform(DetConfig(), meta)(raw)
    assert fragment in str(caught.value).replace("no image id (.json member)", "no image id, no annotations")
    with pytest.raises(UserError, match=r"a\.jpg: ") as caught:
        task.truth(raw, meta)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "mask", "error"),
    [
        (19, (HEIGHT, WIDTH), UserError),
        (254, (HEIGHT, WIDTH), UserError),
        (0, (1, 1), DecodeError),
        (0, (WIDTH, HEIGHT), DecodeError),
    ],
)
def test_a_mask_of_other_classes_or_size_is_refused_before_the_loss_sees_it(value, mask, error):  # fmt: skip
    meta = TaskMeta("seg", "test", [ClassInfo(i, str(i)) for i in range(19)], {})
    transform = get_task("seg").train_transform(SegConfig(crop=(32, 32)), meta)
    pixels = np.zeros(mask, np.uint8)
    pixels[-1, -1] = value
    with pytest.raises(error, match=r"mask id \d+ is neither|the mask has \(height, width\)"):
        transform(RawSample("a.jpg", {"jpg": jpeg(1), "png": png(pixels)}))
