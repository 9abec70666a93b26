"""TT100K: which boxes of which classes, which split, and what is not written."""

import json
from collections import Counter

import pytest
from public_downloads import Signs
from test_track1 import members

from shards.layouts.tt100k_classes import PAPER, choose_classes, class_notes


@pytest.fixture
def signs(tmp_path):
    return Signs(tmp_path)


def boxes(download, split):
    """(box, class name) by image id, as stock WebDataset reads them."""
    names = {item["id"]: item["name"] for item in json.loads((download.out / "det/meta.json").read_text())["classes"]}
    labels = [json.loads(sample["json"]) for sample in members(download.out, "det", split).values()]
    return {
        label["image_id"]: [(box["bbox"], names[box["category_id"]]) for box in label["annotations"]]
        for label in labels
    }


def expected(download, folder, kept):
    return {
        item["id"]: [([2.5, 3, 11.5, 18.25], sign["category"]) for sign in item["objects"] if sign["category"] in kept]
        for item in download.value["imgs"].values()
        if item["path"].startswith(folder)
    }


def test_the_45_classes_are_kept_and_every_image(signs, capsys):
    meta = signs.build()
    assert [(item.id, item.name) for item in meta.classes] == list(enumerate(PAPER, start=1))
    assert len(PAPER) == 45 and list(PAPER) == sorted(PAPER)
    for split, folder in (("train", "train"), ("val", "test")):
        found = boxes(signs, split)
        assert found == expected(signs, folder, PAPER)
        assert any(found.values()) and not all(found.values())  # images without a sign of the 45 are background
        assert meta.splits[split].labelled and not meta.splits[split].rejected and not meta.splits[split].unmatched
    notes = capsys.readouterr().out
    assert "train: 3 of 7 boxes are of other classes and dropped; 3 of 6 images have none" in notes
    assert "here 0 classes have at least 100 boxes in train and test, of the 45 not i2, i4, " in notes
    assert "beyond them" not in notes
    assert "other/ is of neither part and not used (2 of its images" in notes
    assert "train has 6 images, the official download 6105" in notes


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("all", ["p17", "pl40", "pl5", "w13", "w30"]),
        ("min:3", ["pl40", "w30"]),
        ("min:0", ["p17", "pl40", "pl5", "w13", "w30"]),
        ("pl5,p17", ["p17", "pl5"]),
    ],
)
def test_other_choices_of_classes(signs, choice, names):
    meta = signs.build("--layout-option", f"classes={choice}")
    assert meta.class_names == names and meta.class_ids == list(range(1, len(names) + 1))
    assert boxes(signs, "train") == expected(signs, "train", names)


def test_another_choice_rebuilds(signs, capsys):
    signs.build()
    signs.build("--layout-option", "classes=all")
    assert "nothing to do" not in capsys.readouterr().out
    signs.build("--layout-option", "classes=all")
    assert "nothing to do" in capsys.readouterr().out


def test_where_the_counts_are_those_of_the_paper_nothing_is_said():
    counts = Counter(dict.fromkeys(PAPER, 100) | {"w30": 99})
    assert class_notes("45", counts) == []
    assert choose_classes("min:100", counts, ["w30", *PAPER]) == choose_classes("45", counts, ["w30", *PAPER])
    counts.update({"w30": 1, "pn": -1})
    (note,) = class_notes("45", counts)
    assert "45 classes have at least 100 boxes in train and test, of the 45 not pn, beyond them w30;" in note


def test_the_form_of_2021(signs, capsys):
    (signs.raw / "data").rename(signs.raw / "tt100k_2021")
    for name in ("train/ids.txt", "test/ids.txt", "annotations.json"):
        (signs.raw / "tt100k_2021" / name).unlink()
    signs.value["types"] += ["pl45", "i16"]
    signs.FILE = "tt100k_2021/annotations_all.json"
    signs.save()
    meta = signs.build("--layout-option", "classes=all")
    assert meta.class_names == ["i16", "p17", "pl40", "pl45", "pl5", "w13", "w30"]
    assert {name: split.samples for name, split in meta.splits.items()} == {"train": 6, "val": 4}
    assert "the official download" not in capsys.readouterr().out  # whose counts are those of 2016


def test_the_newer_file_goes_first(signs, capsys):
    (signs.raw / "data/annotations_all.json").write_text(json.dumps(signs.value))
    (signs.raw / "data/annotations.json").write_text("broken")
    signs.build()
    assert "annotations.json is not used, annotations_all.json is" in capsys.readouterr().out


def test_what_does_not_fit_is_listed(signs):
    images = signs.value["imgs"]
    images["10"]["objects"] = [Signs.sign("w30", (0, 0, -5, 5)), Signs.sign("pl5", (5, 5, 5, 9))]
    images["100"]["objects"] = [Signs.sign("pl5", (30, 20, 60, 25))]
    images["11"]["objects"] = [Signs.sign("w30", (0, 0, -5, 5))]  # is dropped, so its box is nobody's business
    images["12"]["id"] = 13
    images["300"] = {"path": "train/300.jpg", "objects": [], "id": 300}
    images["301"] = {"path": "train/7.jpg", "objects": [], "id": 301}
    images["302"] = {"path": "train_2/302.jpg", "objects": [], "id": 302}
    signs.images("data/train", ["400.jpg", "401.jpg"])
    (signs.raw / "data/train/ids.txt").write_text("10\n100\n11\n12\n7\n300\n401\n500\n")
    signs.save()
    train = signs.build().splits["train"]
    assert {item.file: item.reason for item in train.rejected} == {
        "10.jpg": "objects[1]: bbox [5, 5, 0, 4] has no area",
        "100.jpg": "objects[0]: bbox [30, 20, 30, 5] sticks out of the 40 x 30 image",
        "12.jpg": "its id is 13, its key '12'",
        "7.jpg": "annotations.json lists it twice",
        "400.jpg": "not listed in annotations.json",
        "401.jpg": "not listed in annotations.json",
        "99999.jpg": "not listed in train/ids.txt",
    }
    assert {item.entry: item.reason for item in train.unmatched} == {
        "annotations.json: train/300.jpg": "no such image file",
        "annotations.json: 'train_2/302.jpg'": "in none of train, test, other",
        "train/ids.txt:6 300": "no such image file",
        "train/ids.txt:8 500": "no such image file",
    }
    assert train.found == 8 and train.samples == 1
