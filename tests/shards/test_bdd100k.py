"""BDD100K: masks of ids as they are, colour maps as ids, both releases."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from public_downloads import FirstScenes, Scenes
from small_download import HEIGHT, WIDTH, png
from test_track1 import members

from shards.image_check import UnfitError
from shards.layouts import CodedMask, Source, bdd100k
from shards.layouts.bdd100k import COLOURS
from shards.mask_codes import decoded_mask
from ufo_ds.drawing import mask_colours

LABEL = CodedMask(Source(Path("a.png"), 0, 0), COLOURS, coloured=True)


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("kind", [Scenes, FirstScenes])
def test_masks_are_packed_as_they_are(tmp_path, kind, capsys):
    scenes = kind(tmp_path)
    scenes.colour()
    meta = scenes.build()
    assert {name: (split.labelled, split.samples) for name, split in meta.splits.items()} == {
        "train": (True, 5), "val": (True, 3), "test": (False, 2)
    }  # fmt: skip
    for split in ("train", "val"):
        for stem, sample in members(scenes.out, "seg", split).items():
            assert sample["png"] == (scenes.raw / f"{scenes.MASKS}/{split}/{stem}{scenes.TAIL}.png").read_bytes()
            assert sample["jpg"] == (scenes.raw / f"{scenes.IMAGES}/{split}/{stem}.jpg").read_bytes()
    assert meta.class_names[13] == "car" and len(meta.classes) == 19
    notes = capsys.readouterr().out
    assert "train has 5 images, the official download 7000" in notes and "colours" not in notes


@pytest.mark.parametrize(("kind", "mode"), [(Scenes, "P"), (Scenes, "RGB"), (FirstScenes, "RGBA")])
def test_colour_maps_become_ids(tmp_path, kind, mode, capsys):
    scenes = kind(tmp_path)
    scenes.colour(mode)
    (scenes.raw / scenes.MASKS).rename(scenes.raw / "aside")
    meta = scenes.build()
    for split in ("train", "val"):
        samples = members(scenes.out, "seg", split)
        assert len(samples) == scenes.COUNTS[split] and not meta.splits[split].rejected
        for stem, sample in samples.items():
            image = Image.open(io.BytesIO(sample["png"]))
            assert image.mode == "L" and np.array_equal(image, scenes.ids[split, stem])
    assert "the ids of train are made from the colours in" in capsys.readouterr().out
    scenes.build()
    assert "nothing to do" in capsys.readouterr().out


def test_other_colours_are_another_build(tmp_path, capsys, monkeypatch):
    scenes = Scenes(tmp_path)
    scenes.colour()
    (scenes.raw / scenes.MASKS).rename(scenes.raw / "aside")
    scenes.build()
    monkeypatch.setattr(bdd100k, "COLOURS", (*COLOURS, (0x010203, 255)))
    capsys.readouterr()
    scenes.build()
    assert "nothing to do" not in capsys.readouterr().out


def test_masks_beside_colour_maps_are_another_build(tmp_path, capsys):
    scenes = Scenes(tmp_path)
    scenes.colour()
    (scenes.raw / scenes.MASKS).rename(scenes.raw / "aside")
    scenes.build()
    (scenes.raw / "aside").rename(scenes.raw / scenes.MASKS)
    capsys.readouterr()
    scenes.build()
    assert "nothing to do" not in capsys.readouterr().out


def test_what_has_no_train_id_is_ignored():
    pixels = np.array([[list(colour.to_bytes(3, "big")) for colour, _ in COLOURS]], np.uint8)
    assert decoded(decoded_mask(png(pixels), "a.png", LABEL))[0].tolist() == [mask_id for _, mask_id in COLOURS]
    assert sorted({mask_id for _, mask_id in COLOURS}) == [*range(19), 255]
    assert len(dict(COLOURS)) == len(COLOURS) == 19 + 18
    drawn = {tuple(colour.to_bytes(3, "big")): mask_id for colour, mask_id in COLOURS if mask_id != 255}
    assert [drawn[tuple(colour)] for colour in mask_colours(19).tolist()] == list(range(19))


def test_an_unknown_colour_is_named_and_rejects_its_image(tmp_path):
    scenes = Scenes(tmp_path)
    scenes.colour("RGB")
    (scenes.raw / scenes.MASKS).rename(scenes.raw / "aside")
    path = scenes.raw / scenes.COLOURS / "train/ta3-00000000.png"
    pixels = np.array(Image.open(path))
    pixels[7, 9] = (1, 2, 3)
    path.write_bytes(png(pixels))
    train = scenes.build().splits["train"]
    (entry,) = train.rejected
    assert entry.file == "ta3-00000000.jpg"
    assert entry.reason.startswith("mask ta3-00000000.png: ") and "(1, 2, 3)" in entry.reason
    assert train.samples == 4


def test_colours_of_a_palette_that_are_not_used_do_not_count():
    image = Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8))
    image.putpalette([128, 64, 128, 1, 2, 3])
    file = io.BytesIO()
    image.save(file, "PNG", bits=4)
    assert not decoded(decoded_mask(file.getvalue(), "a.png", LABEL)).any()


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_ids_where_colours_should_be_are_no_mask(mode):
    file = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.uint8)).convert(mode).save(file, "PNG")
    with pytest.raises(UnfitError, match=r"mask a\.png: "):
        decoded_mask(file.getvalue(), "a.png", LABEL)


def test_pairs_are_made_by_stem(tmp_path):
    scenes = FirstScenes(tmp_path)
    base = scenes.raw / scenes.MASKS / "train"
    (base / "ta0-00000000_train_id.png").unlink()
    (base / "ta1-00000000_train_id.png").rename(base / "ta1-00000000.png")
    train = scenes.build().splits["train"]
    assert {item.file: item.reason for item in train.rejected} == {
        f"ta{number}-00000000.jpg": f"no mask ta{number}-00000000_train_id.png" for number in (0, 1)
    }
    assert [(item.entry, item.reason) for item in train.unmatched] == [("ta1-00000000.png", "no such image file")]
