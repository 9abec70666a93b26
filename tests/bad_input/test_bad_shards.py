"""Index and tar, spoiled; and both together against meta.json."""

import hashlib
import io
import json
import os
import shutil
import tarfile

import pytest
from refusals import FILES, HUGE, cut, forbid, gzipped, link_to_itself, make_folder, parametrized, put, refusal, sparse
from small_download import jpeg

from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import ShardSet, open_shards


def read_all(shards, task="cls", split="train"):
    samples = ShardSet(shards, task, split)
    return [samples[number] for number in range(len(samples))]


def line(number, change):
    """A spoiler of the index: line `number` (from 1) becomes `change(line)`."""

    def spoil(path):
        lines = path.read_text().split("\n")
        lines[number - 1] = change(lines[number - 1])
        path.write_text("\n".join(lines))

    return spoil


def word(number, value):
    """A spoiler of the first sample's line: word `number` becomes `value`."""
    return line(2, lambda text: " ".join([*text.split(" ")[:number], value, *text.split(" ")[number + 1 :]]))


def renamed(name, ext=None):
    """A spoiler: the first image has that member name, its label too."""
    key, _, found = name.partition(".")
    _, label_ext = ext or found, "cls"

    def change(text):
        words = text.split(" ")
        return " ".join([ext or found, *words[1:3], name, label_ext, *words[5:7], f"{key}.{label_ext}"])

    return line(2, change)


INDEX = {
    **{name: (spoil, "") for name, spoil in FILES.items()},
    "version": (line(1, lambda text: "v1.1 7"), ":1: not an index of version v1.2"),
    "BOM": (lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()), "cannot be read"),
    "count negative": (line(1, lambda text: "v1.2 -7"), ":1: not an index"),
    "count missing": (line(1, lambda text: "v1.2"), ":1: not an index"),
    "count huge": (line(1, lambda text: f"v1.2 {HUGE}"), ":1: not an index"),
    "count too large": (line(1, lambda text: "v1.2 8"), "7 samples, 8 announced"),
    "cut in a line": (cut(0.5), "announced"),
    "cut in the last line": (cut(0.97), ":8:"),
    "a sample less": (lambda path: path.write_text("\n".join(["v1.2 6", *path.read_text().split("\n")[1:7]])),
                      "6 samples"),
    "blank line": (line(4, lambda text: ""), ":4: not '<ext> <offset> <size> <name>'"),
    "three words": (line(3, lambda text: "jpg 512 9"), ":3: not '<ext>"),
    "tabs": (line(3, lambda text: text.replace(" ", "\t")), ":3: not '<ext>"),
    "offset negative": (word(1, "-512"), ":2: not '<ext>"),
    "offset hexadecimal": (word(1, "0x200"), ":2: not '<ext>"),
    "offset a float": (word(1, "512.0"), ":2: not '<ext>"),
    "offset huge": (word(1, HUGE), ":2: not '<ext>"),
    "offset zero": (word(1, "0"), "lies outside the shard's"),
    "offset beyond the end": (word(1, "99999999"), "lies outside the shard's"),
    "offset of 18 digits": (word(1, "9" * 18), "lies outside the shard's"),
    "size beyond the end": (word(2, "99999999"), "lies outside the shard's"),
    "size huge": (word(2, HUGE), ":2: not '<ext>"),
    "size one less": (word(2, "1"), "is not the shard that its index describes"),
    "offset beside": (word(1, "516"), "is not the shard that its index describes"),
    "name climbs": (renamed("%2E%2E%2F%2E%2E%2Fpasswd.jpg"), ":2: '../../passwd.jpg' is not a file's name"),
    "name climbs unescaped": (renamed("../../etc/x.jpg", "./../etc/x.jpg"), ":2:"),
    "name absolute": (renamed("%2Fetc%2Fpasswd.jpg"), ":2: '/etc/passwd.jpg' is not a file's name"),
    "name with NUL": (renamed("a%00.jpg"), ":2: 'a\\x00.jpg' is not a file's name"),
    "name of Windows": (renamed("%5C%5Chost%5Cx.jpg"), "is not a file's name"),
    "name empty": (renamed(".jpg"), ":2: '.jpg' is not a file's name"),
    "image a program": (renamed("a.exe"), ":2: 'a.exe' is no image"),
    "label first": (renamed("a.cls"), ":2: 'a.cls' is no image"),
    "ext not the name's": (word(0, "png"), "members of several samples"),
    "member of another": (word(7, "other.cls"), "members of several samples"),
    "label twice": (line(2, lambda text: text + " " + " ".join(text.split(" ")[4:])), "two members of one kind"),
    "no label": (line(2, lambda text: " ".join(text.split(" ")[:4])), "has no .cls member"),
    "absurd size": (lambda path: sparse(path, 2**30 + 1), "larger than 1024 MiB"),
}  # fmt: skip


@parametrized(INDEX)
def test_a_broken_index_is_named(shards, case):
    spoil, fragment = case
    spoil(shards / "cls/train-000000.idx")
    refusal(lambda: read_all(shards), shards, "cls/train-000000", fragment, "run shards/build.py again")


def grow(path):
    with path.open("ab") as file:
        file.write(bytes(512))


def swap(path):
    shutil.copy(path.parent.parent / "det" / path.name, path)


TAR = {
    "absent": (lambda path: path.unlink(), "cannot be read (No such file"),
    "folder": (make_folder, "meta.json says"),
    "forbidden": (forbid, "cannot be read"),
    "link to itself": (link_to_itself, "cannot be read (Too many levels"),
    "empty": (put(b""), "0 bytes, but meta.json says"),
    "cut": (cut(0.5), "bytes, but meta.json says"),
    "grown": (grow, "bytes, but meta.json says"),
    "gzip": (gzipped, "bytes, but meta.json says"),
    "text": (put("hello"), "5 bytes, but meta.json says"),
    "another task's": (swap, ""),
}


@parametrized(TAR)
def test_a_broken_tar_is_named(shards, case):
    spoil, fragment = case
    path = shards / "cls/train-000000.tar"
    spoil(path)
    refusal(lambda: read_all(shards), shards, str(path), fragment, "run shards/build.py again")


def test_zeros_of_the_right_length_are_no_shard(shards):
    path = shards / "cls/train-000000.tar"
    sparse(path, path.stat().st_size)
    refusal(lambda: read_all(shards), shards, str(path), "is not the shard that its index describes")


def test_a_folder_of_the_announced_size_is_no_shard(shards):
    path, meta_path = shards / "cls/train-000000.tar", shards / "cls/meta.json"
    make_folder(path)
    meta = json.loads(meta_path.read_text())
    meta["splits"]["train"]["shards"][0]["bytes"] = path.stat().st_size
    meta_path.write_text(json.dumps(meta))
    refusal(lambda: read_all(shards), shards)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd"])
def test_links_and_devices_in_a_tar_are_no_samples(shards, kind, target):
    """Neither followed nor read as empty files: the index of such a tar is one that wds2idx would write."""
    folder = shards / "cls"
    info = tarfile.TarInfo("a.jpg")
    info.type, info.linkname = kind, target
    image, label = jpeg(1), tarfile.TarInfo("a.cls")
    label.size = 1
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        tar.addfile(info)
        tar.addfile(label, io.BytesIO(b"1"))
        last = tarfile.TarInfo("b.jpg")
        last.size = len(image)
        tar.addfile(last, io.BytesIO(image))
        tar.addfile(label.replace(name="b.cls"), io.BytesIO(b"1"))
    size, data = len(image), (folder / "train-000000.tar").read_bytes()
    end = 2048 + size + -size % 512 + 512
    text = f"v1.2 2\njpg 512 0 a.jpg cls 1024 1 a.cls\njpg 2048 {size} b.jpg cls {end} 1 b.cls\n"
    (folder / "train-000000.idx").write_text(text)
    meta = json.loads((folder / "meta.json").read_text())
    shard = {"name": "train-000000.tar", "samples": 2, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    meta["splits"]["train"].update(found=2, samples=2, shards=[shard])
    (folder / "meta.json").write_text(json.dumps(meta))
    samples = ShardSet(shards, "cls", "train")
    assert samples[1].image == image
    refusal(lambda: samples[0], shards, "train-000000.tar: is not the shard that its index describes")


def test_a_shard_that_shrinks_while_it_is_open(shards):
    samples = ShardSet(shards, "cls", "train")
    assert samples[0]
    os.truncate(shards / "cls/train-000000.tar", 2000)
    refusal(lambda: samples[6], shards, "train-000000.tar: breaks off before byte")


LOCATIONS = {
    "gs://bucket/x": "pipe:",
    "hdfs://host/x": "pipe:",
    "ftp://user:hidden@host/x": "pipe:",
    "file:///etc": "give a path",
    "s3://bucket/x": "needs the AWS command line (aws)",
    "pipe:cat x": "needs {}",
    "pipe:": "needs {}",
    "pipe: {": "needs {}",
    "http://": "no host and port",
    "http:///x": "no host and port",
    "https://user:hidden@/x": "no host and port",
    "https://user:hidden@host:port/x": "no host and port",
    "https://user:hid/den@host/x": "no host and port",
    "https://user:hidden@host:99999/x": "no host and port",
    "https://user:hidden@ho st/x": "no host and port",
    "http://[::1/x": "no host and port",
    "http://host/x#1?hidden": "write it %23",
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_place_on_another_machine_that_cannot_be_read(tmp_path, monkeypatch, location):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refusal(lambda: open_shards(location, "cls", "train"), tmp_path, LOCATIONS[location])
    assert "hid" not in line and "den" not in line


@pytest.mark.parametrize("place", ["absent", "det/meta.json", "det/train-000000.tar"])
def test_a_place_that_is_no_folder_of_shards(shards, place):
    refusal(lambda: open_shards(shards / place, "det", "train"), shards, place, "run shards/build.py")


@pytest.mark.parametrize("split", ["minival", "", "../train", "train\0"])
def test_a_split_that_there_is_not(shards, split):
    refusal(lambda: ShardSet(shards, "det", split), shards, repr(split), "train, val, test")


def test_the_sound_shards_are_read(shards):
    for task in ("cls", "det", "seg"):
        for split, count in (("train", 7), ("val", 3), ("test", 2)):
            assert len(read_all(shards, task, split)) == count == TaskMeta.read(shards, task).splits[split].samples
