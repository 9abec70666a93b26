"""Looking at shards: figures, contact sheets, and a verification that must find what is spoilt."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_download import HEIGHT, ROOT, WIDTH

from shards.show import main
from shards.viewing import figures, tables
from shards.viewing.tiles import choose
from ufo_ds.data.index import read_index, write_index
from ufo_ds.errors import UserError


@pytest.fixture
def shards(download):
    return download.build("--samples-per-shard", "4")


def verify(shards, capsys, *options):
    """Problem lines of a verification that must find some, and the last word."""
    capsys.readouterr()
    with pytest.raises(UserError) as error:
        main([str(shards), "--verify", "--workers", "1", *options])
    return capsys.readouterr().out.splitlines(), str(error.value)


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def show(shards, capsys, *options):
    capsys.readouterr()
    main([str(shards), *options])
    return capsys.readouterr().out


# ---- tables ----


def test_the_table_counts_what_was_built(shards, capsys):
    lines = show(shards, capsys).splitlines()
    rows = {tuple(line.split()[:2]): line.split() for line in lines}
    assert rows["cls", "train"][2:7] == ["7", "2", rows["cls", "train"][4], "0", "yes"]
    assert rows["seg", "test"][2:4] == ["2", "1"] and rows["seg", "test"][6] == "no"
    assert rows["det", "val"][7:12] == [str(WIDTH), "/", str(WIDTH), "/", str(WIDTH)]
    assert rows["0", "class_000"][-2:] == ["2", "1"] and rows["2", "class_002"][-2:] == ["1", "1"]


def test_boxes_and_their_sizes(shards):
    train = figures.read_figures(shards, ["det"], "train")[0]
    assert train.counts.tolist() == [3, 3] and train.boxes.count(1) == 6 and train.boxes.count(0) == 1
    assert train.sides == pytest.approx([(10 * 12) ** 0.5] * 6)
    assert train.sizes == [(WIDTH, HEIGHT)] * 7
    assert tables.split_row(train)[-2:] == ("0 / 1 / 1", "11 / 11 / 11")


def test_pixels_a_class(shards):
    train = figures.read_figures(shards, ["seg"], "train")[0]
    assert train.counts[:8].tolist() == [WIDTH * (HEIGHT - 1)] * 7 + [0]
    assert train.ignored == 7 * WIDTH
    table = tables.class_table([train])
    assert table.rows[3] == (3, [pytest.approx(100 / 7 * (HEIGHT - 1) / HEIGHT)])
    assert table.ignored == [pytest.approx(100 / HEIGHT)]


def test_many_classes_are_cut_in_the_middle(shards):
    train, val, _ = figures.read_figures(shards, ["cls"], None)
    train.counts[:] = np.arange(196)
    table = tables.class_table([train, val])
    indices = [row and row[0] for row in table.rows]
    assert indices == [*range(195, 175, -1), None, 4, 3, 2, 1, 0] and table.hidden == 171


def test_large_sets_are_sampled_and_say_so(shards, capsys, monkeypatch):
    monkeypatch.setattr(figures, "MOST_MASKS", 3)
    out = show(shards, capsys, "--task", "seg")
    assert "note: seg train: pixels of 3 of 7 masks, evenly spread" in out
    assert "seg val:" not in out  # its three masks are all read


def test_image_sizes_come_from_headers(shards, capsys, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("an image was decoded"))
    show(shards, capsys, "--task", "cls,det")


def test_large_headers_are_read_too(download, capsys):
    exif = Image.Exif()
    exif[0x010E] = "x" * 30_000
    file = download.image("cls", "val", "val_0.jpg")
    Image.new("RGB", (31, 17)).save(file, "JPEG", exif=exif)
    val = figures.read_figures(download.build(), ["cls"], "val")[0]
    assert val.sizes[0] == (31, 17) and val.unreadable == 0


# ---- pictures ----


def test_choice_is_seeded_and_evenly_spread():
    numbers = choose(100, 10, 3)
    assert numbers == choose(100, 10, 3) != choose(100, 10, 4)
    assert [number // 10 for number in numbers] == list(range(10))
    assert choose(4, 24, 0) == [0, 1, 2, 3]


def test_png_of_all_tasks(shards, capsys, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    assert str(out) in show(shards, capsys, "--out", str(out))
    first = out.read_bytes()
    with Image.open(out) as image:
        assert image.format == "PNG" and image.width == 1560 and image.height > 500
        assert len(set(map(tuple, np.array(image)[::7, ::7].reshape(-1, 3)))) > 1000
    show(shards, capsys, "--out", str(out))
    assert out.read_bytes() == first
    show(shards, capsys, "--out", str(out), "--count", "2", "--seed", "1")
    assert out.read_bytes() != first


def test_page_holds_its_pictures_and_asks_the_network_for_nothing(shards, capsys, tmp_path):
    show(shards, capsys, "--out", str(tmp_path / "sheet.html"), "--count", "5")
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 15
    assert "http:" not in page and "https:" not in page and "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "vegetation" in page and "train_" in page


def test_class_names_are_text_on_the_page(download, capsys, tmp_path):
    download.edit_json(lambda value: value["categories"][0].update(name="<script>alert(1)</script>"))
    download.edit_json(lambda value: value["categories"][0].update(name="<script>alert(1)</script>"), "val")
    show(download.build(), capsys, "--task", "det", "--out", str(tmp_path / "a.html"))
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_unlabelled_images_are_shown_bare(shards, capsys, tmp_path):
    out = show(shards, capsys, "--split", "test", "--out", str(tmp_path / "a.html"))
    assert "train" not in out and (tmp_path / "a.html").read_text().count("<figure>") == 6


# ---- verification ----


def test_sound_shards_are_well(shards, capsys):
    assert "all is well: 36 samples in 12 shards" in show(shards, capsys, "--verify", "--workers", "1")


def test_verify_as_a_command(shards):
    command = [sys.executable, str(ROOT / "shards/show.py"), str(shards), "--verify", "--workers", "1"]
    good = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert good.returncode == 0 and "36/36" in good.stderr  # the bar
    flip(shards / "cls/train-000000.tar", 700)
    bad = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert bad.returncode == 2 and bad.stderr.splitlines()[-1].startswith("error:") and "Traceback" not in bad.stderr


def test_a_flipped_byte_of_an_image_is_found(shards, capsys):
    tar = shards / "cls/train-000001.tar"
    member = read_index(tar.with_suffix(".idx"))[1][0]
    flip(tar, member.offset)  # no JPEG any more
    lines, last = verify(shards, capsys)
    assert len(lines) == 2 and "2 problems" in last
    assert lines[0].startswith(f"{tar}: its bytes have changed")
    assert lines[1].startswith(f"{tar}: {member.name[:-4]}: the image") and "run shards/build.py again" in lines[1]


def test_a_flipped_byte_that_decodes_is_found_by_its_sum(shards, capsys):
    tar = shards / "seg/train-000000.tar"
    flip(tar, 136 + 8)  # a digit of a header's time: nothing of a sample
    lines, _ = verify(shards, capsys)
    assert any("SHA-256" in line for line in lines) and all(line.startswith(str(tar)) for line in lines)


def test_padding_counts_too(shards, capsys):
    tar = shards / "cls/val-000000.tar"
    flip(tar, tar.stat().st_size - 1)
    lines, _ = verify(shards, capsys)
    assert "SHA-256" in lines[0] and "goes on after its end-of-archive mark" in lines[1]


@pytest.mark.parametrize("kept", [0.6, 0.05])
def test_a_truncated_tar(shards, capsys, kept):
    tar = shards / "det/train-000000.tar"
    data = tar.read_bytes()
    tar.write_bytes(data[: int(len(data) * kept)])
    lines, _ = verify(shards, capsys)
    assert f"but meta.json says {len(data)} (truncated or swapped)" in lines[0]
    assert f"ends at byte {int(len(data) * kept)}" in lines[1]
    assert any("lies beyond the end of the tar" in line for line in lines[2:])


def test_a_tar_cut_between_members(shards, capsys):
    tar = shards / "det/train-000000.tar"
    last = read_index(tar.with_suffix(".idx"))[-1][0]
    tar.write_bytes(tar.read_bytes()[: last.offset - 512])
    lines, _ = verify(shards, capsys)
    assert "without an end-of-archive mark" in lines[1]


@pytest.mark.parametrize("change", [{"offset": 1}, {"offset": -512}, {"size": 1}, {"size": -1}])
def test_an_index_off_by_one(shards, capsys, change):
    index = shards / "cls/val-000000.idx"
    samples = read_index(index)
    old = samples[1][0]
    samples[1][0] = old._replace(**{key: getattr(old, key) + by for key, by in change.items()})
    write_index(index, samples)
    lines, _ = verify(shards, capsys)
    assert len(lines) == 1 and lines[0].startswith(f"{index}: {old.name}: line 3 says byte {samples[1][0].offset}")
    assert f"the tar has byte {old.offset}, {old.size} bytes; copy shard and index again" in lines[0]


def test_an_index_that_lacks_a_sample(shards, capsys):
    index = shards / "cls/val-000000.idx"
    samples = read_index(index)
    write_index(index, [samples[0], samples[2]])
    lines, _ = verify(shards, capsys)
    assert f"{index}: 2 samples, but meta.json says 3" in lines[0]
    assert "val_1: is in the tar, but not in the index" in lines[1]


def test_an_index_that_lacks_a_member_or_is_shuffled(shards, capsys):
    index = shards / "cls/val-000000.idx"
    samples = read_index(index)
    write_index(index, [samples[1], samples[0], samples[2][:1]])
    lines, _ = verify(shards, capsys)
    assert "val_2.cls: is in the tar, but not in line 4" in lines[0] and "another order" in lines[1]


def test_missing_files(shards, capsys):
    (shards / "cls/val-000000.idx").unlink()
    (shards / "seg/val-000000.tar").unlink()
    (shards / "det/meta.json").write_text("{")
    lines, last = verify(shards, capsys, "--task", "cls,det,seg")
    assert len(lines) == 3 and "3 problems" in last
    assert [line.split(":")[0] for line in lines] == [str(shards / name) for name in (
        "det/meta.json", "cls/val-000000.idx", "seg/val-000000.tar")]  # fmt: skip


def test_counts_of_meta(shards, capsys):
    path = shards / "cls/meta.json"
    value = json.loads(path.read_text())
    split = value["splits"]["val"]
    split["shards"][0]["samples"] += 1
    split["samples"] += 1
    split["found"] += 1
    path.write_text(json.dumps(value))
    lines, _ = verify(shards, capsys)
    assert len(lines) == 2 and all("3 samples, but meta.json says 4" in line for line in lines)


@pytest.mark.parametrize(("task", "classes"), [("cls", [{"id": 0, "name": "a"}]), ("det", [{"id": 3, "name": "a"}]),
                                                ("seg", [{"id": 0, "name": "a"}])])  # fmt: skip
def test_labels_beyond_the_classes(shards, capsys, task, classes):
    path = shards / task / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": classes}))
    lines, _ = verify(shards, capsys, "--split", "val")
    assert lines and all("is none of the classes in meta.json" in line for line in lines)


def test_a_swapped_shard_is_named_and_not_a_hundred_times(download, capsys):
    shards = download.build()
    first, second = (shards / f"{task}/train-000000.tar" for task in ("det", "seg"))
    first.write_bytes(second.read_bytes())
    lines, last = verify(shards, capsys, "--task", "det")
    assert str(first) in lines[0] and ("bytes" in lines[0] or "SHA-256" in lines[0])
    assert len(lines) == 9 and re.search(r"\d+ more problems of this shard", lines[-1]) and "9 problems" in last


def test_the_index_of_another_shard(shards, capsys):
    index = shards / "cls/train-000000.idx"
    index.write_bytes((shards / "cls/train-000001.idx").read_bytes())
    lines, _ = verify(shards, capsys)
    assert all(str(index) in line for line in lines[:-1]) and "lists it, but the tar has no such member" in lines[1]


def test_a_pipe_in_the_place_of_a_shard_is_not_waited_for(shards, capsys):
    for name in ("cls/val-000000.tar", "det/val-000000.idx"):
        (shards / name).unlink()
        os.mkfifo(shards / name)
    lines, _ = verify(shards, capsys)
    assert len(lines) == 2 and all("not a regular file" in line for line in lines)


def test_a_stray_shard(shards, capsys):
    (shards / "cls/train-000007.tar").write_bytes((shards / "cls/train-000000.tar").read_bytes())
    lines, _ = verify(shards, capsys)
    assert len(lines) == 1 and "train-000007.tar: is not in meta.json" in lines[0]


# ---- mistakes ----


def test_mistakes_of_the_user(shards, tmp_path):
    for arguments, expected in [
        ([shards / "cls"], f"give its parent, {shards}"),
        ([tmp_path], "give what shards/build.py wrote"),
        ([shards, "--out", "a.gif"], "name a .png or a .html file"),
        ([shards, "--task", "pose"], "--task: 'pose' is no task"),
        ([shards, "--out", tmp_path / "a.png", "--count", "5000"], "--count 5000: more than 1000"),
    ]:
        with pytest.raises(UserError, match=re.escape(expected)):
            main([str(item) for item in arguments])
    path = shards / "cls/meta.json"
    value = json.loads(path.read_text())
    del value["splits"]["val"]
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=re.escape("--split val: not in")):
        main([str(shards), "--task", "cls", "--split", "val"])
    (shards / "cls/train-000000.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"train-000000\.tar: 0 bytes"):
        main([str(shards)])
