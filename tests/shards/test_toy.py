"""The toy download: a sound Track 1 download, the same everywhere, whose colours give nothing away."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from small_download import ROOT

from shards.build import main as build
from shards.drawings.download import TRAIN_IMAGES, Contents
from shards.drawings.roads import KINDS, draw_road
from shards.drawings.signs import SHAPES, draw_signs
from shards.drawings.silhouettes import VEHICLES
from shards.drawings.vehicles import draw_vehicle
from shards.toy import main as toy
from ufo_ds.data.schema import SPLITS, TASKS, TaskMeta
from ufo_ds.errors import UserError


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy") / "raw"
    toy(["--out", str(out), "--images", "12", "--workers", "2"])
    return out


@pytest.fixture
def few(monkeypatch):
    """Few pictures a split, in this process: not even the test split's minimum."""
    monkeypatch.setattr(Contents, "count", lambda self, task, split: 4)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_a_track_1_download_without_a_fault(raw, tmp_path):
    build(["--raw", str(raw), "--out", str(tmp_path), "--workers", "1"])
    for task in ("cls", "det", "seg"):
        meta = TaskMeta.read(tmp_path, task)
        planned = {split: Contents(images=12).count(task, split) for split in SPLITS}
        assert {name: split.samples for name, split in meta.splits.items()} == planned
        assert not any(split.rejected or split.unmatched for split in meta.splits.values())
    assert TaskMeta.read(tmp_path, "cls").class_names == list(VEHICLES)[:6]
    assert TaskMeta.read(tmp_path, "det").class_ids == [2, 5, 7, 11]
    assert TaskMeta.read(tmp_path, "seg").num_classes == 19


def test_the_labels_of_the_test_images_stand_beside(raw):
    labels = raw / "test_labels"
    names = {path.name for path in (raw / "track1_test_data/cls/test").iterdir()}
    assert {line.split()[0] for line in (labels / "cls.txt").read_text().splitlines()} == names
    value = json.loads((labels / "det.json").read_text())
    lines = (raw / "track1_test_data/dec/test.txt").read_text().splitlines()
    assert [(item["id"], item["file_name"]) for item in value["images"]] == list(enumerate(lines, start=1))
    stems = {path.stem for path in (raw / "track1_test_data/seg/images/test").iterdir()}
    assert {path.stem for path in (labels / "seg").iterdir()} == stems


def test_boxes_lie_around_signs_and_some_pictures_have_none(raw):
    value = json.loads((raw / "test_labels/det.json").read_text())
    boxes = np.array([item["bbox"] for item in value["annotations"]])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 160).all()
    assert boxes[:, 2:].min() >= 13 and boxes[:, 2:].max() <= 57
    with_signs = {item["image_id"] for item in value["annotations"]}
    assert 0 < len(value["images"]) - len(with_signs) < 0.2 * len(value["images"])
    assert {item["category_id"] for item in value["annotations"]} == {2, 5, 7, 11}


def test_masks_hold_track_1s_ids_and_ignored_pixels(raw):
    values = set()
    for path in (raw / "test_labels/seg").iterdir():
        values |= set(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).tolist())
    assert values == {0, 1, 2, 8, 10, 13, 255}


def test_the_same_seed_draws_the_same_whatever_the_workers(raw, tmp_path):
    toy(["--out", str(tmp_path / "again"), "--images", "12", "--workers", "1", "--tasks", "det"])
    again = files(tmp_path / "again")
    assert again == {name: data for name, data in files(raw).items() if "dec" in name or "det" in name}
    toy(["--out", str(tmp_path / "other"), "--images", "12", "--workers", "1", "--tasks", "det", "--seed", "1"])
    other = files(tmp_path / "other")
    assert other.keys() == again.keys()
    assert not [name for name, data in other.items() if name.endswith(".jpg") and data == again[name]]


@pytest.mark.parametrize("count", [2, len(VEHICLES)])
def test_other_numbers_of_classes_work(tmp_path, few, count):
    counts = [str(count), str(min(count, len(SHAPES))), str(min(count, len(KINDS)))]
    options = [part for task, number in zip(("cls", "det", "seg"), counts, strict=True)
               for part in (f"--{task}-classes", number)]  # fmt: skip
    toy(["--out", str(tmp_path / "raw"), "--workers", "1", *options])
    build(["--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--workers", "1"])
    metas = {task: TaskMeta.read(tmp_path / "out", task) for task in ("cls", "det", "seg")}
    assert [str(meta.num_classes) for meta in metas.values()] == counts
    assert not any(split.rejected for meta in metas.values() for split in meta.splits.values())
    assert metas["seg"].class_names == list(KINDS)[: int(counts[2])]


@pytest.mark.parametrize("task", ["cls", "det", "seg"])
def test_too_many_classes_are_refused_with_the_maximum(tmp_path, task):
    most = {"cls": len(VEHICLES), "det": len(SHAPES), "seg": len(KINDS)}[task]
    with pytest.raises(UserError, match=f"--{task}-classes 99: choose 2 to {most}, "):
        toy(["--out", str(tmp_path / "raw"), f"--{task}-classes", "99"])
    assert list(tmp_path.iterdir()) == []


def test_more_pictures_than_a_toy_has_are_refused(tmp_path):
    with pytest.raises(UserError, match=f"--images {10**20}: more than 99999 make no toy"):
        toy(["--out", str(tmp_path / "raw"), "--images", str(10**20)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path, few):
    options = ["--out", str(tmp_path), "--tasks", "cls", "--workers", "1"]
    toy(options)  # empty: taken
    before = files(tmp_path)
    with pytest.raises(UserError, match="not empty; choose another folder, or --force"):
        toy(options)
    toy([*options, "--force", "--seed", "1"])
    assert files(tmp_path) != before
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.tex, which is no part"):
        toy([*options, "--force"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        toy(["--out", str(tmp_path / "file")])


def test_the_command_line_is_quick_and_speaks_in_one_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, str(ROOT / "shards/toy.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)

    shown = " ".join(run("--help").stdout.split())
    assert "default: " + ", ".join(f"{task} {count}" for task, count in TRAIN_IMAGES.items()) in shown
    assert run("--out", str(tmp_path / "x"), "--nonsense").returncode == 2
    result = run("--out", str(tmp_path / "x"), "--tasks", "cls,dec")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: --tasks: 'dec' is no task")
    result = run("--out", "/proc/nowhere/x", "--images", "1")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: /proc/nowhere")


def test_defaults_are_enough_for_steady_scores():
    contents = Contents()
    assert all(contents.count(task, "train") >= 240 and contents.count(task, "test") >= 80 for task in TASKS)


# ---- colour ----


def nearest_mean_accuracy(features, labels, classes):
    """Of a nearest-mean classifier, learned on the even samples, on the odd ones."""
    features, labels = np.array(features), np.array(labels)
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    learn = np.arange(len(labels)) % 2 == 0
    means = np.stack([features[learn & (labels == k)].mean(0) for k in range(classes)])
    guesses = ((features[:, None] - means) ** 2).sum(-1).argmin(1)
    return float((guesses == labels)[~learn].mean())


def test_colour_does_not_tell_vehicles_apart():
    colours, histograms, labels = [], [], []
    for number in range(400):
        label = number // 2 % 4
        image, mask = draw_vehicle(np.random.default_rng([3, number]), list(VEHICLES)[label])
        pixels = image[mask > 0].astype(float)
        colours.append(pixels.mean(0))
        histograms.append(np.histogram(pixels.mean(1), 8, (0, 256))[0] / len(pixels))
        labels.append(label)
    assert nearest_mean_accuracy(colours, labels, 4) < 0.4  # chance: 0.25
    assert nearest_mean_accuracy(histograms, labels, 4) < 0.55


def test_colour_does_not_tell_signs_apart():
    colours, labels, kinds = [], [], list(SHAPES)[:4]
    for number in range(200):
        image, signs = draw_signs(np.random.default_rng([3, number]), kinds)
        for sign in signs:
            x, y, width, height = sign.bbox
            # Only the middle of the box: of its corners every shape leaves another part to the background.
            rows = slice(round(y + 0.35 * height), round(y + 0.65 * height))
            middle = image[rows, round(x + 0.35 * width) : round(x + 0.65 * width)]
            colours.append(middle.reshape(-1, 3).mean(0))
            labels.append(kinds.index(sign.kind))
    assert len(labels) > 250
    assert nearest_mean_accuracy(colours, labels, 4) < 0.4  # chance: 0.25


def test_colours_of_surfaces_overlap():
    kinds = KINDS[:6]
    ids = {kind: number for number, kind in enumerate(kinds)}
    hues, colours, labels = [], [], []
    for number in range(80):
        image, mask = draw_road(np.random.default_rng([3, number]), ids)
        for label in range(6):
            pixels = image[mask == label].astype(float)
            if len(pixels) > 50:
                colour = pixels.mean(0)
                colours.append(colour)
                hues.append(colour / colour.sum())
                labels.append(label)
    assert nearest_mean_accuracy(hues, labels, 6) < 0.3  # chance: 0.17
    assert nearest_mean_accuracy(colours, labels, 6) < 0.55
