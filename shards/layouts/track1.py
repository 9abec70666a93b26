"""Track 1 as downloaded: labelled `track1_train_data/{cls,dec,seg}`, unlabelled `track1_test_data/...`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from shards.layouts import Boxes, Sample, SplitPlan, TaskPlan
from shards.layouts.coco import CocoFile, read_coco
from shards.layouts.files import Folder, plain_name, read_class_names, read_lines
from ufo_ds.data.schema import SPLITS, ClassInfo, Unmatched
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

Folders = dict[str, Folder]
"""The image folders that there are, by split."""


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """What the download under `raw` holds for `task`; None where it has none of its image folders."""
    paths = {split: raw / IMAGE_FOLDERS[task][split] for split in SPLITS}
    folders = {split: Folder(path) for split, path in paths.items() if path.is_dir()}
    if not folders:
        return None
    plan = _PLANNERS[task](raw / "track1_train_data", folders)
    plan.notes += [
        f"{task}: no {split} split ({IMAGE_FOLDERS[task][split]} is absent)" for split in SPLITS if split not in folders
    ]
    return plan


def _plan_folder(
    folder: Folder,
    samples: dict[str, Sample],
    faults: dict[str, str],
    labelled: bool,
    unmatched: list[Unmatched],
) -> SplitPlan:
    """Account for every entry of a folder.

    Args:
        folder: the images.
        samples: by file name, in natural order; those without a usable image file are passed over.
        faults: why an image is not usable, by file name.
        labelled: whether the samples have labels.
        unmatched: label entries without a file.
    """
    for name, reason in faults.items():
        if name in folder.images:
            folder.reject(name, reason)
    kept = [sample for name, sample in samples.items() if name in folder.images]
    return SplitPlan(labelled, kept, list(folder.rejected.values()), unmatched)


# ---- classification ----


def _plan_cls(train_data: Path, folders: Folders) -> TaskPlan:
    classes = read_class_names(train_data / "cls/classes.txt") or CLS_CLASSES
    splits = {
        split: _cls_labelled(folder, train_data / f"cls/{split}.txt", len(classes))
        if split != "test"
        else _unlabelled(folder)
        for split, folder in folders.items()
    }
    return TaskPlan("cls", "track1", classes, splits)


def _unlabelled(folder: Folder) -> SplitPlan:
    samples = {name: Sample(image, None) for name, image in folder.images.items()}
    return _plan_folder(folder, samples, {}, False, [])


def _cls_labelled(folder: Folder, path: Path, class_count: int) -> SplitPlan:
    labels, faults, unmatched = _read_labels(path, folder, class_count)
    faults |= {name: f"not listed in {path.name}" for name in folder.images if name not in labels}
    samples = {name: Sample(folder.images[name], label) for name, label in labels.items() if name in folder.images}
    return _plan_folder(folder, samples, faults, True, unmatched)


def _read_labels(path: Path, folder: Folder, class_count: int) -> tuple[dict[str, int], dict, list[Unmatched]]:
    """Read `<file> <class id>` lines: labels in the list's order, faults by file, lines without a file."""
    labels: dict[str, int] = {}
    faults: dict[str, str] = {}
    unmatched: list[Unmatched] = []
    for number, line in read_lines(path):
        match = re.fullmatch(r"(.+?)\s+([+-]?\d{1,9})", line, re.ASCII)
        if not match:
            raise UserError(f"{path}:{number}: {line!r:.80} is not '<file name> <class id>'")
        name, label = plain_name(match[1], f"{path}:{number}"), int(match[2])
        if name not in folder:
            unmatched.append(Unmatched(f"{path.name}:{number} {name}", "no such image file"))
        elif labels.setdefault(name, label) != label:
            faults[name] = f"listed with labels {labels[name]} and {label}"
        elif not 0 <= label < class_count:
            faults[name] = f"label {label} is outside 0..{class_count - 1}"
    return labels, faults, unmatched


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
    samples = {name: Sample(folder.images[name], boxes) for name, boxes in coco.boxes.items() if name in folder.images}
    faults = coco.faults | {name: f"not listed in {coco.path.name}" for name in folder.images if name not in samples}
    absent = [
        Unmatched(f"{coco.path.name}: image {boxes.image_id} {name}", "no such image file")
        for name, boxes in coco.boxes.items()
        if name not in folder
    ]
    return _plan_folder(folder, samples, faults, True, absent + coco.unmatched)


def _det_test(folder: Folder, path: Path) -> SplitPlan:
    """Test images: the 1-based line of the list is the `image_id`."""
    lines: dict[str, int] = {}
    faults: dict[str, str] = {}
    for number, name in read_lines(path):
        if lines.setdefault(plain_name(name, f"{path}:{number}"), number) != number:
            faults[name] = f"listed on lines {lines[name]} and {number} of {path.name}"
    faults |= {name: f"not listed in {path.name}" for name in folder.images if name not in lines}
    samples = {
        name: Sample(folder.images[name], Boxes(number)) for name, number in lines.items() if name in folder.images
    }
    absent = [
        Unmatched(f"{path.name}:{number} {name}", "no such image file")
        for name, number in lines.items()
        if name not in folder
    ]
    return _plan_folder(folder, samples, faults, False, absent)


# ---- segmentation ----


def _plan_seg(train_data: Path, folders: Folders) -> TaskPlan:
    path = train_data / "seg/classes.txt"
    classes = read_class_names(path) or SEG_CLASSES
    if len(classes) > MAX_SEG_CLASSES:
        raise UserError(f"{path}: {len(classes)} classes, but 8-bit masks have room for {MAX_SEG_CLASSES}")
    splits = {
        split: _seg_labelled(folder, train_data / f"seg/label/{split}") if split != "test" else _unlabelled(folder)
        for split, folder in folders.items()
    }
    return TaskPlan("seg", "track1", classes, splits)


def _seg_labelled(folder: Folder, mask_folder: Path) -> SplitPlan:
    """Pair images and masks by stem: by order, one missing file would shift all the rest."""
    if not mask_folder.is_dir():
        raise UserError(f"{mask_folder}: no such folder; it must hold the masks of {folder.path}")
    masks = Folder(mask_folder, ("png",))
    by_stem = {Path(name).stem: name for name in masks.images}
    samples: dict[str, Sample] = {}
    faults: dict[str, str] = {}
    for name, image in folder.images.items():
        mask = by_stem.get(Path(name).stem)
        if name.lower().endswith(".png"):
            faults[name] = "a PNG image has no place beside its PNG mask; convert it to JPEG"
        elif mask is None:
            faults[name] = f"no mask {Path(name).stem}.png"
        else:
            samples[name] = Sample(image, masks.images[mask])
    stems = {Path(name).stem for name in (*folder.images, *folder.rejected)}
    unmatched = [Unmatched(name, "no such image file") for stem, name in by_stem.items() if stem not in stems]
    unmatched += [Unmatched(entry.file, entry.reason) for entry in masks.rejected.values()]
    return _plan_folder(folder, samples, faults, True, unmatched)


_PLANNERS: dict[str, Callable[[Path, Folders], TaskPlan]] = {
    "cls": _plan_cls,
    "det": _plan_det,
    "seg": _plan_seg,
}
