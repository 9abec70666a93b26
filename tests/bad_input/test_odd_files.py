"""Odd files in a raw download that are no mistake, and those that look sound and are not."""

import io
import os
import shutil
import unicodedata

import numpy as np
import webdataset
from PIL import Image
from refusals import make_socket, parametrized
from small_download import HEIGHT, WIDTH, jpeg, png
from test_bad_layouts import found, image

from shards import image_check, show
from ufo_ds.data.decode import decode_image
from ufo_ds.data.shards import ShardSet
from ufo_ds.errors import printable

PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def saved(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def frames(kind):
    return saved(kind, save_all=True, append_images=[Image.fromarray(PIXELS[::-1])], duration=100)


SOUND = {
    "CMYK": saved("JPEG", "CMYK"),
    "grey": saved("JPEG", "L"),
    "progressive": saved("JPEG", progressive=True),
    "with a second view": frames("MPO"),
    "with a trailer": saved("JPEG") + b"camera" * 9,
    "PNG": saved("PNG"),
    "PNG of 16 bits": png(PIXELS[..., 0].astype(np.uint16) * 257),
    "PNG of 1 bit": saved("PNG", "1"),
    "PNG with a palette": saved("PNG", "P", transparency=3),
    "PNG with alpha": saved("PNG", "LA"),
    "PNG with a trailer": saved("PNG") + b"x" * 99,
    "WebP": saved("WEBP", "RGBA", lossless=True),
    "BMP with a palette": saved("BMP", "P"),
}
"""Under the name of a JPEG, as downloads have them: the bytes say what an image is."""


@parametrized(SOUND)
def test_an_odd_image_is_an_image_to_builder_and_reader(download, case):
    download.image("cls", "train", "train_2.jpg").write_bytes(case)
    assert found(download, "cls") == []
    samples = ShardSet(download.out, "cls", "train")
    read = samples[samples.file_names.index("train_2.jpg")]
    assert read.image == case and decode_image(read.image).shape == (HEIGHT, WIDTH, 3)


UNSOUND = {
    "animated GIF": (frames("GIF"), "not a readable"),
    "animated WebP": (frames("WEBP"), "an animation of 2 frames"),
    "animated PNG": (frames("PNG"), "an animation of 2 frames"),
    "PNG without its end": (saved("PNG")[:-12], "cannot be decoded"),
    "PNG with a broken end": (saved("PNG").replace(b"IEND", b"IENX"), "cannot be decoded"),
    "PNG with a broken sum": (saved("PNG")[:60] + bytes(1) + saved("PNG")[61:], "cannot be decoded"),
    "JPEG filled up with zeros": (saved("JPEG")[:-300] + bytes(300), "cannot be decoded"),
    "WebP cut": (saved("WEBP")[:-20], "broken image"),
    "BMP cut": (saved("BMP")[:-20], "cannot be decoded"),
}


@parametrized(UNSOUND)
def test_what_only_looks_like_an_image_is_rejected(download, case):
    data, reason = case
    download.image("cls", "train", "train_2.jpg").write_bytes(data)
    rejected = found(download, "cls")
    assert len(rejected) == 1 and rejected[0].startswith("train_2.jpg: ") and reason in rejected[0], rejected


NAMES = {
    "newline": ["a\nb.jpg"],
    "escape sequence": ["\x1b[31mred.jpg"],
    "right to left": ["\u202egpj.exe.jpg"],
    "emoji": ["\U0001f697.jpg"],
    "bytes that are no text": [os.fsdecode(b"\xff\xfe.jpg")],
    "longest": ["x" * 251 + ".jpg"],
    "longest in three bytes a sign": ["\u65e5" * 83 + ".jpg"],
    "two by case": ["Twin.jpg", "tWIN.jpg"],
    "two by normal form": [unicodedata.normalize(form, "h\u00e4user.jpg") for form in ("NFC", "NFD")],
    "percent": ["%2E%2E%2Fpasswd.jpg"],
    "minus": ["-rf.jpg"],
    "a drive": ["C:x.jpg"],
    "blanks at its ends": [" a .jpg"],
}


@parametrized(NAMES)
def test_any_name_comes_back(download, capsys, case):
    for number, name in enumerate(case):
        download.image("seg", "test", name).write_bytes(jpeg(50 + number))
    assert found(download, "seg", "test") == []
    samples = ShardSet(download.out, "seg", "test")
    assert sorted(samples.file_names) == sorted(["test_0.jpg", "test_1.jpg", *case])
    show.main([str(download.out), "--verify", "--workers", "1"])
    stock = webdataset.WebDataset(str(download.out / "seg/test-000000.tar"), shardshuffle=False)
    assert [sample["jpg"] for sample in stock] == [samples[i].image for i in range(len(samples))]


def test_a_name_that_is_a_path_elsewhere_is_rejected(download):
    download.image("seg", "test", "..\\..\\x.jpg").write_bytes(jpeg(50))
    assert found(download, "seg", "test") == ["..\\..\\x.jpg: a backslash in its name: rename it"]


def test_a_name_gives_the_terminal_no_orders(download, capsys):
    for name in ("a\x1b[2Jb.txt", "c\nerror: no.txt", os.fsdecode(b"\xff.txt")):
        download.image("cls", "train", name).write_bytes(b"x")
    found(download, "cls")
    printed = capsys.readouterr().out
    assert "rejected   cls train: a\\x1b[2Jb.txt: " in printed and "train: c\\nerror: no.txt: " in printed
    assert all(printable(line) == line for line in printed.splitlines())


TWINS = {
    "hard link": lambda first, new: os.link(first, new),
    "link": lambda first, new: new.symlink_to(first),
    "copy": lambda first, new: shutil.copy(first, new),
    "link out of the download": lambda first, new: new.symlink_to(shutil.copy(first, first.parents[4] / "far.jpg")),
}


@parametrized(TWINS)
def test_a_file_under_two_names_is_two_samples(download, case):
    first = download.image("cls", "test", "test_0.jpg")
    case(first, first.with_name("again.jpg"))
    assert found(download, "cls", "test") == []
    samples = ShardSet(download.out, "cls", "test")
    assert [samples[i].image for i in (0, 1)] == [first.read_bytes()] * 2


def test_a_socket_in_the_folder_is_rejected(download):
    make_socket(image("cls")(download))
    assert found(download, "cls") == ["train_0.jpg: not a regular file"]


def test_a_mask_that_is_a_pipe_is_none(download):
    path = download.mask("train", "train_0.jpg")
    path.unlink()
    os.mkfifo(path)
    assert found(download, "seg") == ["train_0.jpg: mask train_0.png: not a regular file"]


def test_a_file_that_grows_during_the_build_is_rejected(download, monkeypatch):
    """A download that is still under way: what was planned is not what is read."""
    check = image_check.check_image

    def grow(data):
        with download.image("cls", "train", "train_5.jpg").open("ab") as file:
            file.write(b"more")
        return check(data)

    monkeypatch.setattr("shards.pack.check_image", grow)
    rejected = found(download, "cls")
    assert rejected == ["train_5.jpg: train_5.jpg has changed since the build began; run again when it is all there"]
    monkeypatch.undo()
    download.image("cls", "train", "train_5.jpg").write_bytes(jpeg(5))
    assert found(download, "cls") == []
