"""Tsinghua-Tencent 100K (Zhu et al., CVPR 2016), with its own annotations of 2016 or of 2021."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from shards.layouts import Boxes, SplitPlan, TaskPlan
from shards.layouts.coco import checked_annotation
from shards.layouts.files import Folder, Folders, plain_name, read_lines
from shards.layouts.notes import absence_notes, count_notes
from shards.layouts.pool import plan_listed
from shards.layouts.tt100k_classes import OPTION, choose_classes, class_notes
from shards.layouts.tt100k_file import Picture, SignFile, read_signs
from ufo_ds.data.schema import Unmatched
from ufo_ds.errors import UserError

EXPECTS = "train/, test/ and annotations.json (2016) or annotations_all.json (2021) of TT100K"
OPTIONS = {"classes": OPTION}
OFFICIAL = {"train": 6105, "val": 3071}
"""Of 2016."""

_BASES = (".", "data", "tt100k_2021")
"""Below `--raw`: the archives have a folder around all."""
_FILES = ("annotations_all.json", "annotations.json")
_SPLITS = {"train": "train", "test": "val"}
"""Folder -> split. The official test images have labels, so they are for validation."""
_IDS = "ids.txt"


def plan_task(raw: Path, task: str, classes: str = "45") -> TaskPlan | None:
    """What the download under `raw` holds for `task`; None for another task than det, or without its image folders.

    Args:
        raw: folder of the download.
        task: `cls`, `det` or `seg`.
        classes: which are kept, see `OPTIONS`.
    """
    for base in [raw / name for name in _BASES] if task == "det" else ():
        folders = {split: base / name for name, split in _SPLITS.items() if (base / name).is_dir()}
        if folders:
            return _plan_det(base, {split: _image_folder(path) for split, path in folders.items()}, classes)
    return None


def _image_folder(path: Path) -> Folder:
    folder = Folder(path)
    folder.forget(_IDS)  # lies there as a list, not as an image
    return folder


def _plan_det(base: Path, folders: Folders, choice: str) -> TaskPlan:
    files = [base / name for name in _FILES if (base / name).exists()]
    if not files:
        raise UserError(f"{base / _FILES[1]}: no such file, nor {_FILES[0]}; it must list the images of {base}")
    signs = read_signs(files[0])
    by_split = {
        split: [picture for picture in signs.pictures if picture.folder == name] for name, split in _SPLITS.items()
    }
    counts = Counter(sign.category for pictures in by_split.values() for picture in pictures for sign in picture.signs)
    classes = choose_classes(choice, counts, signs.types)
    ids = {item.name: item.id for item in classes}
    splits = {split: _plan_split(folder, signs, by_split[split], ids) for split, folder in folders.items()}
    next(iter(splits.values())).unmatched += signs.unmatched
    notes = absence_notes("det", {split: name for name, split in _SPLITS.items()}, splits)
    notes += class_notes(choice, counts) + _loss_notes(by_split, ids, signs)
    notes += [f"det: {path.name} is not used, {files[0].name} is" for path in files[1:]]
    if files[0].name == _FILES[1]:
        notes += count_notes("det", splits, OFFICIAL)
    return TaskPlan("det", "tt100k", classes, splits, notes)


def _loss_notes(by_split: dict[str, list[Picture]], ids: dict[str, int], signs: SignFile) -> list[str]:
    """What of the annotations is not in the shards."""
    notes = []
    for split, pictures in by_split.items():
        kept = [sum(sign.category in ids for sign in picture.signs) for picture in pictures]
        count, total = sum(kept), sum(len(picture.signs) for picture in pictures)
        if count < total:
            notes.append(
                f"det: {split}: {total - count} of {total} boxes are of other classes and dropped; "
                f"{kept.count(0)} of {len(kept)} images have none, and stay as background"
            )
    others = sum(picture.folder == "other" for picture in signs.pictures)
    if others or (signs.path.parent / "other").is_dir():
        notes.append(f"det: other/ is of neither part and not used ({others} of its images are in {signs.path.name})")
    return notes


def _plan_split(folder: Folder, signs: SignFile, pictures: list[Picture], ids: dict[str, int]) -> SplitPlan:
    labels: dict[str, Boxes | None] = {}
    faults: dict[str, str] = {}
    for picture in pictures:
        if picture.name in labels:
            faults[picture.name] = f"{signs.path.name} lists it twice"
            continue
        labels[picture.name] = None
        try:
            labels[picture.name] = _boxes(picture, ids)
        except ValueError as fault:
            faults[picture.name] = str(fault)
    unmatched, unlisted = _compare_ids(folder, faults), f"not listed in {signs.path.name}"
    return plan_listed(
        folder, labels, faults, unlisted, unmatched=unmatched,
        entry_of=lambda name: f"{signs.path.name}: {folder.path.name}/{name}",
    )  # fmt: skip


def _boxes(picture: Picture, ids: dict[str, int]) -> Boxes:
    """The label of an image, with the signs of the chosen classes. `ValueError` says what is wrong with it."""
    if picture.fault:
        raise ValueError(picture.fault)
    boxes = Boxes(picture.image_id, annotations=[])
    for number, sign in enumerate(picture.signs):
        if sign.category not in ids:
            continue
        label = f"objects[{number}]"
        try:
            item = {"bbox": sign.bbox, "category_id": ids[sign.category]}
            boxes.annotations.append(checked_annotation(item, {ids[sign.category]}))
        except ValueError as fault:
            raise ValueError(f"{label}: {fault}") from None
        boxes.annotation_names.append(label)
    return boxes


def _compare_ids(folder: Folder, faults: dict[str, str]) -> list[Unmatched]:
    """Hold the images against `ids.txt`, where there is one: enter those it lacks; returns what it has beyond them."""
    path = folder.path / _IDS
    if not path.exists():
        return []
    place = f"{folder.path.name}/{_IDS}"
    listed = {plain_name(line, f"{path}:{number}"): number for number, line in read_lines(path)}
    for name in folder.images:
        if Path(name).stem not in listed:
            faults.setdefault(name, f"not listed in {place}")
    stems = {Path(name).stem for name in folder.names}
    return [
        Unmatched(f"{place}:{number} {name}", "no such image file")
        for name, number in listed.items()
        if name not in stems
    ]
