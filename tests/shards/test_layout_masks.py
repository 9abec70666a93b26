"""The layout `masks`: pairs by stem, classes, colours and other kinds of PNG."""

import io

import numpy as np
import pytest
from PIL import Image
from small_download import HEIGHT, WIDTH, png
from small_layouts import build, fail, image, make_masks, rejected, samples, write

from shards.show import main as show
from ufo_ds.data.decode import decode_mask
from ufo_ds.data.shards import ShardSet


@pytest.fixture
def raw(tmp_path):
    return make_masks(tmp_path / "raw")


def grid(*values):
    """A mask of these values in columns."""
    return np.resize(np.array(values, np.uint8), (HEIGHT, WIDTH))


def saved(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def mask_of(out, name="0.jpg", split="train"):
    shards = ShardSet(out, "seg", split)
    return decode_mask(shards[shards.file_names.index(name)].mask)


def test_masks_are_kept_as_they_are(raw, tmp_path):
    meta = build("masks", raw, tmp_path / "out")
    assert meta.class_names == ["class_0", "class_1", "class_2"]
    for name, members in samples(tmp_path / "out", "seg", "train").items():
        assert members["jpg"] == (raw / "images/train" / name).read_bytes()
        assert members["png"] == (raw / "masks/train" / name).with_suffix(".png").read_bytes()
    assert meta.splits["val"].samples == 2


def test_split_folders_may_stand_above(raw, tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "other" / split).mkdir(parents=True, exist_ok=True)
            (raw / kind / split).rename(tmp_path / "other" / split / kind)
    assert build("masks", tmp_path / "other", tmp_path / "out").splits["train"].samples == 4


@pytest.mark.parametrize("places", [
    ("images/{}", "annotations/{}"), ("{}/images", "{}/labels"), ("{}", "{}_labels"), ("{}", "{}annot"),
])  # fmt: skip
def test_other_names_of_folders_and_masks(raw, tmp_path, capsys, places):
    for split in ("train", "val"):
        for old, new, tail in (("images", places[0], ""), ("masks", places[1], "_L")):
            for path in (raw / old / split).iterdir():
                write(tmp_path / "new" / new.format(split) / f"{path.stem}{tail}{path.suffix}", path.read_bytes())
    meta = build("masks", tmp_path / "new", tmp_path / "out")
    assert {split: part.samples for split, part in meta.splits.items()} == {"train": 4, "val": 2}
    assert [mask_of(tmp_path / "out", f"{number}.jpg")[1, 0] for number in range(4)] == [0, 1, 2, 0]
    assert "seg: masks are named as their images, with _L behind" in capsys.readouterr().out


def test_masks_of_other_names_are_not_taken_for_endings(tmp_path):
    raw = make_masks(tmp_path / "raw")
    for path in list((raw / "masks/train").iterdir()):
        path.rename(path.with_name(f"{path.stem}0.png"))
    assert "none of the 4 files of the train split can be used (the first: 0.jpg: no mask 0.png)" in fail(
        "masks", raw, tmp_path / "out"
    )


def test_vocs_lists(tmp_path):
    raw = make_masks(tmp_path / "raw", {"": 6})
    (raw / "images").rename(raw / "JPEGImages")
    (raw / "masks").rename(raw / "SegmentationClass")
    (raw / "SegmentationClass/4.png").unlink()
    for split, stems in (("train", "0\n1\n9\n"), ("val", "2\n"), ("test", "4\n")):
        write(raw / f"ImageSets/Segmentation/{split}.txt", stems)
    meta = build("masks", raw, tmp_path / "out")
    assert {split: (part.samples, part.labelled) for split, part in meta.splits.items()} == {
        "train": (2, True), "val": (1, True), "test": (1, False)
    }  # fmt: skip
    reason = "in none of the lists of ImageSets/Segmentation"
    assert rejected(meta) == {"3.jpg": reason, "5.jpg": reason}
    assert [item.entry for item in meta.splits["train"].unmatched] == ["9.jpg"]


def test_without_splits_a_tenth_is_val(tmp_path):
    meta = build("masks", make_masks(tmp_path / "raw", {"": 20}), tmp_path / "out")
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (18, 2)


def test_a_test_split_without_masks(raw, tmp_path):
    image(raw / "images/test/9.jpg")
    meta = build("masks", raw, tmp_path / "out")
    assert not meta.splits["test"].labelled and samples(tmp_path / "out", "seg", "test").keys() == {"9.jpg"}


def test_a_png_image_stands_beside_its_png_mask(raw, tmp_path):
    picture = saved(Image.fromarray(np.full((HEIGHT, WIDTH, 4), 77, np.uint8)))
    write(raw / "images/train/0.png", picture)
    (raw / "images/train/0.jpg").unlink()
    build("masks", raw, tmp_path / "out")
    members = samples(tmp_path / "out", "seg", "train")["0.png"]
    assert members["png"] == picture and members["mask.png"] == (raw / "masks/train/0.png").read_bytes()
    assert mask_of(tmp_path / "out", "0.png")[5, 5] == 0
    show([str(tmp_path / "out"), "--verify", "--workers", "1"])


IDS = grid(0, 1, 2, 255)
SAME = {
    "palette": png(IDS, "P"),
    "grey as RGB": saved(Image.fromarray(IDS).convert("RGB")),
    "grey with alpha": saved(Image.fromarray(IDS).convert("LA")),
    "16 bits": saved(Image.fromarray(IDS.astype(np.uint16))),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_kinds_of_png_that_hold_ids(raw, tmp_path, name):
    write(raw / "masks/train/0.png", SAME[name])
    meta = build("masks", raw, tmp_path / "out")
    assert meta.num_classes == 3 and (mask_of(tmp_path / "out") == IDS).all()


@pytest.mark.parametrize(("mode", "bits"), [("1", None), ("P", 2), ("P", 4), ("P", 1)])
def test_few_bits_hold_ids_too(tmp_path, mode, bits):
    raw = make_masks(tmp_path / "raw", {"train": 3}, ids=1)
    ids = grid(0, 1)
    picture = Image.fromarray(ids * 255).convert("1") if mode == "1" else Image.fromarray(ids)
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0])
    write(raw / "masks/train/0.png", saved(picture, **({"bits": bits} if bits else {})))
    assert build("masks", raw, tmp_path / "out").num_classes == 2
    assert (mask_of(tmp_path / "out") == ids).all()


COLOURS = np.array([[[255, 0, 0], [0, 0, 255], [9, 9, 9], [0, 255, 0]]], np.uint8)
PAINTED = np.ascontiguousarray(np.resize(COLOURS, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize(("file", "text"), [
    ("classes.csv", "name,r,g,b\nroad,255,0,0\nsky,0,0,255\nvoid,9,9,9\nbig car,0,255,0\n"),
    ("classes.csv", "road,255,0,0\nsky,0,0,255\nignore,9,9,9\nbig car,0,255,0\n"),
    ("class_dict.csv", "name, r, g, b\nroad, 255, 0, 0\nsky, 0, 0, 255\nVoid, 9, 9, 9\nbig car, 0, 255, 0\n"),
    ("classes.txt", "road 255 0 0\nsky 0 0 255\nvoid 9 9 9\nbig car 0 255 0\n"),
    ("labelmap.txt", "# label:color_rgb\nroad:255,0,0::\nsky:0,0,255::\nvoid:9,9,9::\nbig car:0,255,0::\n"),
])  # fmt: skip
def test_colours_become_ids(raw, tmp_path, file, text):
    write(raw / file, text)
    palette = Image.fromarray(PAINTED).quantize(4)
    for number in range(4):
        write(raw / f"masks/train/{number}.png", saved(palette if number == 1 else Image.fromarray(PAINTED)))
    for number in range(2):
        write(raw / f"masks/val/{number}.png", saved(Image.fromarray(PAINTED).convert("RGBA")))
    meta = build("masks", raw, tmp_path / "out")
    assert meta.class_names == ["road", "sky", "big car"]
    for name, split in (("0.jpg", "train"), ("1.jpg", "train"), ("1.jpg", "val")):
        assert (mask_of(tmp_path / "out", name, split) == grid(0, 1, 255, 2)).all()


def test_values_become_ids(raw, tmp_path):
    for folder, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write(raw / f"masks/{folder}/{number}.png", png(grid(0, 255)))
    line = fail("masks", raw, tmp_path / "out")
    assert "hold 0 and 255 alone, and 255 means ignore" in line and "`background,0`" in line
    write(raw / "classes.txt", "background\nhand\n")
    assert "hold 0 and 255 alone" in fail("masks", raw, tmp_path / "out")
    write(raw / "classes.csv", "background,0\nhand,255\n")
    assert build("masks", raw, tmp_path / "out").class_names == ["background", "hand"]
    assert (mask_of(tmp_path / "out") == grid(0, 1)).all()


def test_a_colour_without_a_class_is_a_rejection(raw, tmp_path):
    write(raw / "classes.csv", "a,0,0,0\nb,1,1,1\nc,2,2,2\nvoid,255,255,255\n")
    write(raw / "masks/train/0.png", saved(Image.fromarray(PAINTED)))
    meta = build("masks", raw, tmp_path / "out")
    colours = "(0, 0, 255), (0, 255, 0), (9, 9, 9), (255, 0, 0)"
    assert rejected(meta) == {"0.jpg": f"mask 0.png: the colours {colours} mean no class"}


def test_colours_without_a_file_are_refused(raw, tmp_path):
    for number in range(4):
        write(raw / f"masks/train/{number}.png", saved(Image.fromarray(PAINTED)))
    line = fail("masks", raw, tmp_path / "out")
    assert "none of the 4 files of the train split can be used (the first: 0.jpg: mask 0.png: a PNG of colours" in line
    assert "say in classes.csv which is which, a line `name,red,green,blue` a class" in line


def test_ids_with_holes_keep_their_numbers(raw, tmp_path, capsys):
    write(raw / "masks/train/0.png", png(grid(0, 7, 20)))
    meta = build("masks", raw, tmp_path / "out")
    assert meta.num_classes == 21 and (mask_of(tmp_path / "out") == grid(0, 7, 20)).all()
    assert "ids 0, 1, 2, 7, 20 occur in the masks, so the classes are 0..20" in capsys.readouterr().out


def test_every_image_and_mask_is_accounted_for(raw, tmp_path):
    image(raw / "images/train/bare.jpg")
    image(raw / "images/train/lossy.jpg")
    write(raw / "masks/train/lossy.jpg", b"x")
    write(raw / "masks/train/stray.png", png(grid(0)))
    write(raw / "classes.txt", "a\nb\nc\n")
    write(raw / "masks/train/0.png", png(grid(3)))
    write(raw / "masks/train/1.png", png(np.zeros((9, 9), np.uint8)))
    meta = build("masks", raw, tmp_path / "out")
    assert rejected(meta) == {
        "bare.jpg": "no mask bare.png",
        "lossy.jpg": "mask lossy.jpg: not an image file by its extension (png)",
        "0.jpg": "mask 0.png: ids 3 are neither in 0..2 nor 255",
        "1.jpg": "mask 1.png: 9 x 9 pixels, but the image has 40 x 30",
    }
    assert {item.entry for item in meta.splits["train"].unmatched} == {"stray.png", "lossy.jpg"}


@pytest.mark.parametrize(("text", "fragment"), [
    ("a,1,2,3\nb,1,2,3\n", "classes.csv:2: 1,2,3 has stood before"),
    ("a,1,2,300\n", "classes.csv:1: 'a,1,2,300' is not `name,value` or `name,red,green,blue`"),
    ("a,1,2,3\nb,4\n", "classes.csv:2: 'b,4' is not"),
    ("a\nb\n", "classes.csv: no line of `name,value`"),
    ("void,1,2,3\n", "names 0 classes; write 1 to 254"),
    ("", "classes.csv: no line of"),
    ("".join(f"c{n},0,{n // 200},{n % 200}\n" for n in range(256)), "names 256 classes; write 1 to 254"),
])  # fmt: skip
def test_a_bad_class_file_is_refused(raw, tmp_path, text, fragment):
    write(raw / "classes.csv", text)
    assert fragment in fail("masks", raw, tmp_path / "out")


def test_missing_folders_are_refused(raw, tmp_path):
    (raw / "masks/val").rename(raw / "masks/else")
    assert "masks/val: no such folder; it must hold the masks (PNG) of" in fail("masks", raw, tmp_path / "out")
    (raw / "images/train").rename(raw / "images/training2")
    assert "has images for val, but none for train" in fail("masks", raw, tmp_path / "out")
