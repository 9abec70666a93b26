"""Tars that others wrote: indexed as `wds2idx` would, taken in as a split, or refused in one line."""

import bz2
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import webdataset
from small_download import HEIGHT, ROOT, WIDTH, jpeg, png

from shards import show
from shards.index import main
from ufo_ds.data.index import read_index
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import open_shards
from ufo_ds.errors import UserError


def run(*arguments):
    main([*map(str, arguments), "--workers", "1"])


def refused(*arguments):
    with pytest.raises(UserError) as error:
        run(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    """`members`: names with their bytes, or a changed `TarInfo` with them."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pairs(*names):
    return [(f"{name}.{ext}", data) for i, name in enumerate(names) for ext, data in (("jpg", jpeg(i)), ("cls", b"0"))]


def boxes(image_id, category, **more):
    annotation = {"bbox": [1, 2, 10, 12], "category_id": category, **more}
    return {"image_id": image_id, "annotations": [annotation]}


def mask(class_id):
    pixels = np.full((HEIGHT, WIDTH), class_id, np.uint8)
    pixels[0] = 255
    return png(pixels)


def write_wds(folder, task, count=5, shards=2):
    """Tars by `webdataset.TarWriter`, which puts the members of a sample in alphabetical order."""
    folder.mkdir(exist_ok=True)
    labels = {"cls": lambda i: {"cls": i % 3}, "det": lambda i: {"json": boxes(i, 4 + i % 2)},
              "seg": lambda i: {"png": mask(i % 3)}}  # fmt: skip
    for shard in range(shards):
        with webdataset.TarWriter(str(folder / f"part{shard}.tar"), mtime=0) as writer:
            for i in range(shard * count, (shard + 1) * count):
                writer.write({"__key__": f"{i:04d}", "jpg": jpeg(i), **labels[task](i)})
    return folder


# ---- indexes alone ----


def test_build_delete_index_again_is_the_same(download):
    out = download.build("--samples-per-shard", "3")
    written = {path: path.read_bytes() for path in out.rglob("*.idx")}
    assert len(written) > 9
    for path in written:
        path.unlink()
    for task in ("cls", "det", "seg"):
        run(out / task)
    assert {path: path.read_bytes() for path in out.rglob("*.idx")} == written
    assert len(open_shards(out, "det", "train")) == 7


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_are_those_of_tarfile(tmp_path, format):
    tar = write_tar(tmp_path / "a.tar", [*pairs("a", "b/c"), *pairs("d" * 90 + "/" + "e" * 60)], format)
    run(tar)
    with tarfile.open(tar) as opened:
        expected = [(info.name, info.offset_data, info.size) for info in opened]
    found = [(m.name, m.offset, m.size) for members in read_index(tmp_path / "a.idx") for m in members]
    assert found == expected


def test_the_text_is_that_of_wds2idx(tmp_path):
    write_tar(tmp_path / "a.tar", [("x/1.seg.png", b"12"), ("x/1.jpg", b""), ("2.cls", b"3")])
    run(tmp_path)
    expected = "v1.2 2\nseg.png 512 2 x/1.seg.png jpg 1536 0 x/1.jpg\ncls 2048 1 2.cls\n"
    assert (tmp_path / "a.idx").read_text() == expected


def test_gnu_tar_of_a_folder(tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, data in [*pairs("a", "b"), ("README", b"x"), (".hidden.jpg", b"x")]:
        (raw / name).write_bytes(data)
    subprocess.run(["tar", "--sort=name", "-C", raw, "-cf", tmp_path / "a.tar", "."], check=True)
    run(tmp_path / "a.tar")
    assert [[m.name for m in sample] for sample in read_index(tmp_path / "a.idx")] == [
        ["a.cls", "a.jpg"], ["b.cls", "b.jpg"]]  # fmt: skip
    assert "2 samples, 2 files of no sample passed over" in capsys.readouterr().out
    run(tmp_path / "a.tar", "--task", "cls", "--split", "train", "--out", tmp_path / "out")
    assert open_shards(tmp_path / "out", "cls", "train")[1].members["cls"] == b"0"


def test_twice_the_same_and_the_tar_untouched(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs("a", "b"))
    before = tar.read_bytes(), tar.stat().st_mtime_ns
    run(tar)
    first = (tmp_path / "a.idx").read_bytes()
    run(tar)
    assert (tmp_path / "a.idx").read_bytes() == first and before == (tar.read_bytes(), tar.stat().st_mtime_ns)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "a.tar"]


# ---- refused ----


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


@pytest.mark.parametrize(("members", "expected"), [
    ([*pairs("a"), ("/b.jpg", b"")], "'/b.jpg' has an absolute name"),
    ([*pairs("a"), ("x/../b.jpg", b"")], "'x/../b.jpg' has '..' in its name"),
    ([*pairs("a"), special("b.jpg", tarfile.SYMTYPE, "a.jpg")], "'b.jpg' is a symbolic link"),
    ([*pairs("a"), special("b.jpg", tarfile.LNKTYPE, "a.jpg")], "'b.jpg' is a hard link"),
    ([*pairs("a"), special("b.jpg", tarfile.CHRTYPE)], "'b.jpg' is a device"),
    ([*pairs("a"), special("b.jpg", tarfile.BLKTYPE)], "'b.jpg' is a device"),
    ([*pairs("a"), special("b.jpg", tarfile.FIFOTYPE)], "'b.jpg' is a pipe"),
    ([*pairs("a"), ("a.jpg", b"")], "a.jpg is there twice"),
    ([*pairs("a"), ("a.JPG", b"")], "a.JPG is there twice"),
    ([("a.jpg", b""), ("b.jpg", b""), ("a.cls", b"")], "the members of a do not follow one another"),
    ([("a b.jpg", b"")], "'a b.jpg' has a blank"),
    ([("ä.jpg", b"")], "beyond ASCII"),
    ([], "holds no sample"),
    ([("README", b"x")], "holds no sample"),
])  # fmt: skip
def test_odd_members(tmp_path, members, expected):
    tar = write_tar(tmp_path / "a.tar", members)
    sound = write_tar(tmp_path / "0.tar", pairs("a"))
    line = refused(sound, tar)
    assert line.startswith(f"{tar}: ") and expected in line and ";" in line
    assert not list(tmp_path.glob("*.idx"))  # not even of the sound one


@pytest.mark.parametrize(("pack", "name"), [
    (gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd")])  # fmt: skip
def test_compressed(tmp_path, pack, name):
    tar = write_tar(tmp_path / "a.tar", pairs("a"))
    tar.write_bytes(pack(tar.read_bytes()))
    assert f"is compressed ({name})" in refused(tar)


def test_a_tar_that_ends_in_the_middle(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs("a", "b"))
    data = tar.read_bytes()
    with tarfile.open(tar) as opened:
        third = opened.getmembers()[2]
    for end, expected in [(third.offset, "without an end-of-archive mark"), (third.offset + 100, "mark: it was cut"),
                          (third.offset_data, "in the middle of 'b.jpg'"),
                          (third.offset_data + third.size - 1, "middle of 'b.jpg'"), (0, "is empty")]:  # fmt: skip
        tar.write_bytes(data[:end])
        assert expected in refused(tar)


def test_a_damaged_header_does_not_end_the_tar(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs("a", "b"))
    with tarfile.open(tar) as opened:
        third = opened.getmembers()[2].offset
    data = bytearray(tar.read_bytes())
    data[third] ^= 1
    tar.write_bytes(data)
    assert f"the header at byte {third} is damaged" in refused(tar)
    tar.write_bytes(b"no tar" * 1000)
    assert "is not a tar" in refused(tar)


@pytest.mark.parametrize("record", [{"path": "b.jpg"}, {"size": "3"}, {"GNU.sparse.size": "3"}])
def test_a_header_for_all_members(tmp_path, record):
    """Python's tarfile heeds it, others do not: nobody would know what is in the tar."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=record) as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    assert f"sets {next(iter(record))} for all members" in refused(path)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of git archive"}) as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    run(path)
    assert len(read_index(tmp_path / "a.idx")) == 1


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_member_that_never_comes(tmp_path, kind):
    info = tarfile.TarInfo("@LongLink")
    info.type = kind
    tar = write_tar(tmp_path / "a.tar", [*pairs("a"), (info, b"")])
    assert "ends after an extended header, without its member" in refused(tar)


def test_a_folder_that_is_called_a_tar(tmp_path):
    write_tar(tmp_path / "a.tar", pairs("a"))
    (tmp_path / "b.tar").mkdir()
    assert "b.tar: is not a regular file" in refused(tmp_path)
    (tmp_path / "b.tar").rmdir()
    os.mkfifo(tmp_path / "b.tar")
    assert "b.tar: is not a regular file" in refused(tmp_path)


def test_joined_tars(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs("a"))
    tar.write_bytes(tar.read_bytes() + write_tar(tmp_path / "b.tar", pairs("b")).read_bytes())
    assert "goes on after its end-of-archive mark" in refused(tar)


def test_mistakes_of_the_user(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs("a"))
    assert "no such file" in refused(tmp_path / "b.tar")
    assert "is not a regular file" in refused("/dev/null")
    assert "go together" in refused(tar, "--task", "cls")
    assert "--out needs --task" in refused(tar, "--out", tmp_path)
    assert "given twice" in refused(tar, tmp_path)
    assert "give --out DIR" in refused(tar, "--task", "cls", "--split", "train")
    (tmp_path / "empty").mkdir()
    assert "no *.tar in it" in refused(tmp_path / "empty")


def test_a_mistake_as_a_command(tmp_path):
    command = [sys.executable, str(ROOT / "shards/index.py"), str(tmp_path / "none.tar")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


# ---- taken in as a split ----


@pytest.mark.parametrize("task", ["cls", "det", "seg"])
def test_tars_by_webdataset(tmp_path, contents, task):
    folder = write_wds(tmp_path / "wds", task)
    before = contents(folder)
    out = tmp_path / "out"
    run(folder, "--task", task, "--split", "train", "--out", out)
    shards = open_shards(out, task, "train")
    assert len(shards) == 10 and shards.file_names[7] == "0007.jpg" and shards[7].image == jpeg(7)
    ids = {"cls": [0, 1, 2], "det": [4, 5], "seg": [0, 1, 2]}[task]
    assert shards.meta.class_ids == ids
    assert contents(folder) == before
    first = contents(out)
    run(folder, "--task", task, "--split", "train", "--out", out)
    assert contents(out) == first
    url = str(out / task / "train-{000000..000001}.tar")
    stock = [sample["jpg"] for sample in webdataset.WebDataset(url, shardshuffle=False)]
    assert stock == [shards[i].image for i in range(10)]
    show.main([str(out), "--verify", "--workers", "1"])
    (out / task / "train-000001.tar").resolve().write_bytes(b"")
    with pytest.raises(UserError, match=r"problem"):
        show.main([str(out), "--verify", "--workers", "1"])


def test_labels_reach_the_reader(tmp_path):
    out = tmp_path / "out"
    for task in ("cls", "det", "seg"):
        run(write_wds(tmp_path / task, task), "--task", task, "--split", "val", "--out", out)
    assert open_shards(out, "cls", "val").read_member(4, "cls") == b"1"
    assert json.loads(open_shards(out, "det", "val").read_member(3, "json"))["annotations"][0]["category_id"] == 5
    assert open_shards(out, "seg", "val").read_member(8, "png") == mask(2)


def coco(*arguments, **more):
    return json.dumps(boxes(*arguments, **more)).encode()


BAD = {
    "cls": [
        ({"cls": b"1"}, "has no image"),
        ({"jpg": jpeg(1)}, "has no label"),
        ({"jpg": b"x", "cls": b"1"}, "the image: "),
        ({"jpg": jpeg(1), "cls": b"car"}, "the .cls member: "),
    ],
    "det": [
        ({"jpg": jpeg(1), "cls": b"1"}, "has no .json member"),
        ({"jpg": jpeg(1), "json": b"["}, "not a JSON object"),
        ({"jpg": jpeg(1), "json": b'{"annotations": []}'}, "image_id is None"),
        ({"jpg": jpeg(1), "json": b'{"image_id": 99}'}, "has no label"),
        ({"jpg": jpeg(1), "json": coco(0, 4)}, "has the image_id 0 of train-000000.tar/0000.jpg"),
        ({"jpg": jpeg(1), "json": coco(99, 4, bbox=[0, 0, 400, 9])}, "sticks out"),
        ({"jpg": jpeg(1), "json": coco(99, 4, bbox=[0, 0, 0, 9])}, "annotations[0].bbox"),
        ({"jpg": jpeg(1), "json": coco(99, "a")}, "annotations[0].category_id"),
    ],
    "seg": [
        ({"jpg": jpeg(1)}, "has no label"),
        ({"jpg": jpeg(1), "seg.png": mask(0)}, "has no label"),
        ({"png": mask(0)}, "has no label"),
        ({"jpg": jpeg(1, (8, 8)), "png": mask(0)}, "but the image has 8 x 8"),
    ],
}
CASES = [(task, *case) for task, cases in BAD.items() for case in cases]


@pytest.mark.parametrize(("task", "members", "reason"), CASES)
def test_a_sample_that_cannot_be_used_is_rejected(tmp_path, capsys, task, members, reason):
    folder, out = write_wds(tmp_path / "wds", task, shards=1), tmp_path / "out"
    with tarfile.open(folder / "part0.tar", "a") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"zz.{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    run(folder, "--task", task, "--split", "train", "--out", out)
    split = TaskMeta.read(out, task).splits["train"]
    assert (split.samples, split.found, len(split.rejected)) == (5, 6, 1)
    assert split.rejected[0].file == f"train-000000.tar/zz.{next(iter(members))}"
    assert reason in split.rejected[0].reason
    assert not any(name.startswith("zz") for name in open_shards(out, task, "train").file_names)
    assert f"rejected   {task} train: train-000000.tar/zz" in capsys.readouterr().out
    show.main([str(out), "--verify", "--workers", "1"])  # what is rejected may stand in the tar


def test_nothing_that_can_be_used(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", jpeg(1))])
    line = refused(tar, "--task", "cls", "--split", "train", "--out", tmp_path / "out", "--classes",
                   _names(tmp_path, "a"))  # fmt: skip
    assert "none of the 1 samples can be used for cls" in line and "has no label" in line
    assert not (tmp_path / "out").exists()
    line = refused(write_tar(tmp_path / "d.tar", pairs("b")), "--task", "det", "--split", "train", "--out", tmp_path)
    assert "none of the 1 samples can be used for det" in line and "has no .json member" in line
    other = write_tar(tmp_path / "b.tar", pairs("b"))
    line = refused(other, tar, "--task", "cls", "--split", "train", "--out", tmp_path / "out")
    assert line.startswith(f"{tar}: none of its samples can be used") and "leave this tar out" in line


def test_a_test_split_needs_no_labels(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", jpeg(1)), ("b.JPEG", jpeg(2))])
    line = refused(tar, "--task", "cls", "--split", "test", "--out", tmp_path)
    assert "give --classes, or index the labelled splits first" in line
    run(write_wds(tmp_path / "wds", "cls"), "--task", "cls", "--split", "train", "--out", tmp_path)
    run(tar, "--task", "cls", "--split", "test", "--out", tmp_path)
    meta = TaskMeta.read(tmp_path, "cls")
    assert list(meta.splits) == ["train", "test"] and not meta.splits["test"].labelled and meta.num_classes == 3
    assert open_shards(tmp_path, "cls", "test").file_names == ["a.jpg", "b.JPEG"]


def test_the_shards_in_their_place(tmp_path):
    folder = write_wds(tmp_path / "cls", "cls", shards=1)
    (folder / "part0.tar").rename(folder / "train-000000.tar")
    write_tar(folder / "val-000000.tar", pairs("a"))
    run(folder, "--task", "cls", "--split", "train")
    assert not (folder / "train-000000.tar").is_symlink() and not (folder / "val-000000.idx").exists()
    run(folder, "--task", "cls", "--split", "val")
    assert len(open_shards(tmp_path, "cls", "train")) == 5 and len(open_shards(tmp_path, "cls", "val")) == 1


def test_folder_and_tars_can_move_together(tmp_path):
    both = tmp_path / "a"
    both.mkdir()
    run(write_wds(both / "wds", "cls"), "--task", "cls", "--split", "train", "--out", both / "out")
    both.rename(tmp_path / "b")
    assert open_shards(tmp_path / "b/out", "cls", "train")[0].image == jpeg(0)


def test_fewer_tars_leave_no_strays(tmp_path):
    folder, out = write_wds(tmp_path / "wds", "cls"), tmp_path / "out"
    run(folder, "--task", "cls", "--split", "train", "--out", out)
    run(folder / "part1.tar", "--task", "cls", "--split", "train", "--out", out)
    names = sorted(path.name for path in (out / "cls").iterdir())
    assert names == ["meta.json", "train-000000.idx", "train-000000.tar"]
    assert open_shards(out, "cls", "train").file_names[0] == "0005.jpg"


def test_what_others_built_is_left_alone(download, tmp_path):
    out = download.build()
    line = refused(write_wds(tmp_path / "wds", "cls"), "--task", "cls", "--split", "train", "--out", out)
    assert "was written by shards/build.py from the layout track1; choose another --out" in line
    (out / "cls/meta.json").unlink()
    line = refused(tmp_path / "wds", "--task", "cls", "--split", "train", "--out", out)
    assert "train-000000.tar: is another tar" in line


def test_a_folder_with_a_dot(tmp_path):
    tar = write_tar(tmp_path / "a.tar", pairs("v1.0/a"))
    run(tar)
    assert "the folder v1.0 has a dot in its name" in refused(
        tar, "--task", "cls", "--split", "train", "--out", tmp_path / "out")  # fmt: skip


# ---- classes ----


def _names(folder, *names):
    path = folder / "names.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def test_classes_from_a_text_file(tmp_path, capsys):
    folder = write_wds(tmp_path / "wds", "cls")
    run(folder, "--task", "cls", "--split", "train", "--out", tmp_path, "--classes", _names(tmp_path, "a", "b"))
    meta = TaskMeta.read(tmp_path, "cls")
    assert meta.class_names == ["a", "b"] and meta.class_ids == [0, 1]
    rejected = meta.splits["train"].rejected
    assert [item.reason for item in rejected] == ["class 2 is none of the classes"] * 3
    assert meta.splits["train"].samples == 7


def test_det_names_count_from_one_unless_zero_is_used(tmp_path):
    names = _names(tmp_path, "a", "b", "c", "d", "e", "f")
    run(write_wds(tmp_path / "wds", "det"), "--task", "det", "--split", "train", "--out", tmp_path / "a",
        "--classes", names)  # fmt: skip
    assert TaskMeta.read(tmp_path / "a", "det").class_ids == [1, 2, 3, 4, 5, 6]
    zero = [("a.jpg", jpeg(1)), ("a.json", coco(1, 0))]
    tar = write_tar(tmp_path / "z.tar", zero)
    run(tar, "--task", "det", "--split", "train", "--out", tmp_path / "b", "--classes", names)
    assert TaskMeta.read(tmp_path / "b", "det").class_ids == [0, 1, 2, 3, 4, 5]


def test_classes_from_coco(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"categories": [{"id": 5, "name": "b"}, {"id": 4, "name": "a"}]}))
    folder = write_wds(tmp_path / "wds", "det")
    run(folder, "--task", "det", "--split", "train", "--out", tmp_path, "--classes", path)
    meta = TaskMeta.read(tmp_path, "det")
    assert (meta.class_ids, meta.class_names) == ([4, 5], ["a", "b"])
    path.write_text(json.dumps({"images": []}))
    assert "categories is missing" in refused(folder, "--task", "det", "--split", "val", "--out", tmp_path,
                                              "--classes", path)  # fmt: skip


def test_derived_classes_are_said_and_kept(tmp_path, capsys):
    folder = write_wds(tmp_path / "wds", "cls")
    run(folder, "--task", "cls", "--split", "train", "--out", tmp_path)
    assert "3 classes derived from the labels (0, 1, 2); --classes gives names" in capsys.readouterr().out
    val = write_tar(tmp_path / "val.tar", [*pairs("a"), ("b.jpg", jpeg(9)), ("b.cls", b"7")])
    run(val, "--task", "cls", "--split", "val", "--out", tmp_path)
    meta = TaskMeta.read(tmp_path, "cls")
    assert meta.num_classes == 3 and "class 7 is none" in meta.splits["val"].rejected[0].reason
    other = _names(tmp_path, "x", "y", "z")
    line = refused(val, "--task", "cls", "--split", "val", "--out", tmp_path, "--classes", other)
    assert re.search(r"names.txt: are not those of meta.json.*remove that file", line)


def test_masks_number_their_classes_without_holes(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", jpeg(1)), ("a.png", mask(3))])
    run(tar, "--task", "seg", "--split", "train", "--out", tmp_path)
    assert TaskMeta.read(tmp_path, "seg").class_ids == [0, 1, 2, 3]
