"""Track 1 as downloaded: labelled `track1_train_data/{cls,dec,seg}`, unlabelled `track1_test_data/...`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from shards.layouts import Boxes, SplitPlan, TaskPlan
from shards.layouts.coco import CocoFile, read_coco
from shards.layouts.files import Folder, Folders, plain_name, read_class_names, read_lines
from shards.layouts.mask_pairs import mask_folder, plan_masks
from shards.layouts.notes import absence_notes
from shards.layouts.pool import plan_listed, plan_unlabelled
from ufo_ds.data.schema import SPLITS, ClassInfo
from ufo_ds.errors import UserError

EXPECTS = "the folders track1_train_data/ and track1_test_data/ of the Track 1 download"

CLS_CLASSES = [ClassInfo(number, f"class_{number:03d}") for number in range(196)]
"""The challenge's 196 car models; the download does not name them."""
DET_COUNT = 45
SEG_NAMES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
SEG_CLASSES = [ClassInfo(number, name) for number, name in enumerate(SEG_NAMES)]
MAX_SEG_CLASSES = 255
"""Masks have 8 bits, and 255 is spoken for."""

IMAGE_FOLDERS = {
    "cls": {
        "train": "track1_train_data/cls/train",
        "val": "track1_train_data/cls/val",
        "test": "track1_test_data/cls/test",
    },
    "det": {
        "train": "track1_train_data/dec/train",
        "val": "track1_train_data/dec/val",
        "test": "track1_test_data/dec/test",
    },
    "seg": {
        "train": "track1_train_data/seg/images/train",
        "val": "track1_train_data/seg/images/val",
        "test": "track1_test_data/seg/images/test",
    },
}


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """What the download under `raw` holds for `task`; None where it has none of its image folders."""
    paths = {split: raw / IMAGE_FOLDERS[task][split] for split in SPLITS}
    folders = {split: Folder(path) for split, path in paths.items() if path.is_dir()}
    if not folders:
        return None
    plan = _PLANNERS[task](raw / "track1_train_data", folders)
    plan.notes += absence_notes(task, IMAGE_FOLDERS[task], folders)
    return plan


# ---- classification ----


def _plan_cls(train_data: Path, folders: Folders) -> TaskPlan:
    classes = read_class_names(train_data / "cls/classes.txt") or CLS_CLASSES
    splits = {
        split: _cls_labelled(folder, train_data / f"cls/{split}.txt", len(classes))
        if split != "test"
        else plan_unlabelled(folder)
        for split, folder in folders.items()
    }
    return TaskPlan("cls", "track1", classes, splits)


def _cls_labelled(folder: Folder, path: Path, class_count: int) -> SplitPlan:
    labels: dict[str, int] = {}
    faults: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        match = re.fullmatch(r"(.+?)\s+([+-]?\d{1,9})", line, re.ASCII)
        if not match:
            raise UserError(f"{path}:{number}: {line!r:.80} is not '<file name> <class id>'")
        name, label = plain_name(match[1], f"{path}:{number}"), int(match[2])
        lines.setdefault(name, number)
        if labels.setdefault(name, label) != label:
            faults[name] = f"listed with labels {labels[name]} and {label}"
        elif not 0 <= label < class_count:
            faults[name] = f"label {label} is outside 0..{class_count - 1}"
    unlisted = f"not listed in {path.name}"
    return plan_listed(folder, labels, faults, unlisted, entry_of=lambda name: f"{path.name}:{lines[name]} {name}")


# ---- detection ----


def _plan_det(train_data: Path, folders: Folders) -> TaskPlan:
    labelled = {split: train_data / f"dec/{split}.json" for split in ("train", "val") if split in folders}
    classes: list[ClassInfo] = []
    splits = {}
    for split, path in labelled.items():
        # Without categories of its own val.json speaks of train.json's.
        coco = read_coco(path, lambda items, first=tuple(classes): list(first) or _numbered_signs(items))
        classes = classes or coco.classes
        if coco.classes != classes:
            raise UserError(
                f"{path}: its categories are not those of train.json "
                f"({_first_difference(coco.classes, classes)}); make them agree"
            )
        splits[split] = _det_labelled(folders[split], coco)
    if "test" in folders:
        list_path = train_data.with_name("track1_test_data") / "dec/test.txt"
        splits["test"] = _det_test(folders["test"], list_path)
    return TaskPlan("det", "track1", classes or _numbered_signs([]), splits)


def _numbered_signs(annotations: list[dict]) -> list[ClassInfo]:
    """The challenge's 45 signs, for a file without `categories`: ids from 1, or from 0 where 0 is used."""
    start = 0 if any(item.get("category_id") == 0 for item in annotations) else 1
    return [ClassInfo(number, f"sign_{number:02d}") for number in range(start, start + DET_COUNT)]


def _first_difference(found: list[ClassInfo], expected: list[ClassInfo]) -> str:
    differing = sorted(set(found) ^ set(expected), key=lambda item: (item.id, item.name))[0]
    return f"only one of them has {differing.id} {differing.name!r}"


def _det_labelled(folder: Folder, coco: CocoFile) -> SplitPlan:
    def entry_of(name: str) -> str:
        return f"{coco.path.name}: image {coco.boxes[name].image_id} {name}"

    unlisted = f"not listed in {coco.path.name}"
    return plan_listed(folder, coco.boxes, coco.faults, unlisted, unmatched=coco.unmatched, entry_of=entry_of)


def _det_test(folder: Folder, path: Path) -> SplitPlan:
    """Test images: the 1-based line of the list is the `image_id`."""
    lines: dict[str, int] = {}
    faults: dict[str, str] = {}
    for number, name in read_lines(path):
        if lines.setdefault(plain_name(name, f"{path}:{number}"), number) != number:
            faults[name] = f"listed on lines {lines[name]} and {number} of {path.name}"
    labels = {name: Boxes(number) for name, number in lines.items()}
    unlisted = f"not listed in {path.name}"
    return plan_listed(
        folder, labels, faults, unlisted, labelled=False, entry_of=lambda name: f"{path.name}:{lines[name]} {name}"
    )


# ---- segmentation ----


def _plan_seg(train_data: Path, folders: Folders) -> TaskPlan:
    path = train_data / "seg/classes.txt"
    classes = read_class_names(path) or SEG_CLASSES
    if len(classes) > MAX_SEG_CLASSES:
        raise UserError(f"{path}: {len(classes)} classes, but 8-bit masks have room for {MAX_SEG_CLASSES}")
    splits = {
        split: plan_masks(folder, mask_folder(train_data / f"seg/label/{split}", folder.path))
        if split != "test"
        else plan_unlabelled(folder)
        for split, folder in folders.items()
    }
    return TaskPlan("seg", "track1", classes, splits)


_PLANNERS: dict[str, Callable[[Path, Folders], TaskPlan]] = {
    "cls": _plan_cls,
    "det": _plan_det,
    "seg": _plan_seg,
}
