"""Stanford Cars (Krause et al., 3DRR 2013): 196 models, with the development kit's .mat files or as one archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.layouts import SplitPlan, TaskPlan
from shards.layouts.files import Folder, plain_name
from shards.layouts.matlab import read_mat
from shards.layouts.notes import absence_notes, count_notes
from shards.layouts.pool import Pool, plan_unlabelled
from ufo_ds.data.schema import ClassInfo
from ufo_ds.errors import UserError, shown

EXPECTS = "cars_train/, cars_test/ and devkit/ of Stanford Cars, or car_ims/ and cars_annos.mat"
OFFICIAL = {"train": 8144, "val": 8041, "test": 8041}
CLASS_COUNT = 196

_KITS = ("devkit", "car_devkit/devkit", "car_devkit", ".")
"""Where the .mat files may be: as unpacked, as some mirrors have them, or beside the images."""
_TRAIN = ("cars_train", "cars_train/cars_train")
_TEST = ("cars_test", "cars_test/cars_test")
"""Some mirrors have the folder in a folder of the same name."""
_TEST_LABELS = "cars_test_annos_withlabels.mat"
UNLISTED = "not listed in the annotations"


@dataclass(frozen=True)
class _Entry:
    """A line of `annotations`.

    Attributes:
        where: it stands, for a message.
        name: of the image file.
        label: class id from 0, as Track 1 counts; None without labels.
        fault: why the image cannot be used; "" where it can.
        test: whether it belongs to the test part (`cars_annos.mat` only).
    """

    where: str
    name: str
    label: int | None
    fault: str
    test: bool = False


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """What the download under `raw` holds for `task`; None for another task than cls, or without its image folders."""
    if task != "cls":
        return None
    train, test = _first_folder(raw, _TRAIN), _first_folder(raw, _TEST)
    if train or test:
        return _plan_kit(raw, train, test)
    together = _first_folder(raw, ("car_ims",))
    return _plan_archive(raw, together) if together else None


def _first_folder(raw: Path, names: tuple[str, ...]) -> Path | None:
    """The innermost of some folders that is there."""
    there = [raw / name for name in names if (raw / name).is_dir()]
    return there[-1] if there else None


def _find(raw: Path, name: str) -> Path | None:
    return next((raw / kit / name for kit in _KITS if (raw / kit / name).exists()), None)


def _must_find(raw: Path, name: str, remedy: str) -> Path:
    path = _find(raw, name)
    if path is None:
        raise UserError(f"{raw / _KITS[0] / name}: no such file; {remedy}")
    return path


# ---- images in two folders, and the development kit ----


def _plan_kit(raw: Path, train: Path | None, test: Path | None) -> TaskPlan:
    remedy = "unpack the development kit car_devkit.tgz there (cars_annos.mat speaks of other file names)"
    classes = _read_classes(_must_find(raw, "cars_meta.mat", remedy))
    splits: dict[str, SplitPlan] = {}
    if train:
        entries = list(_entries(_must_find(raw, "cars_train_annos.mat", remedy), len(classes)))
        splits["train"] = _plan_folder("train", Folder(train), entries)
    if test:
        split, plan = _plan_test(raw, Folder(test), len(classes))
        splits[split] = plan
    return _finish(classes, splits)


def _plan_test(raw: Path, folder: Folder, class_count: int) -> tuple[str, SplitPlan]:
    """The official test images: `val` where their labels are there, so that they can be scored."""
    path = _find(raw, _TEST_LABELS) or _find(raw, "cars_test_annos.mat")
    if path is None:
        return "test", plan_unlabelled(folder)
    entries = list(_entries(path, class_count))
    split = "val" if entries[0].label is not None else "test"
    return split, _plan_folder(split, folder, entries)


# ---- images in one folder, and one list ----


def _plan_archive(raw: Path, images: Path) -> TaskPlan:
    path = _must_find(raw, "cars_annos.mat", f"it must list the images of {images}")
    classes = _read_classes(path)
    entries = list(_entries(path, len(classes)))
    pool = Pool(Folder(images))
    parts = {split: [entry for entry in entries if entry.test == (split == "val")] for split in ("train", "val")}
    splits = {split: _take(pool, split, listed) for split, listed in parts.items() if listed}
    pool.leave(next(iter(splits.values())), UNLISTED)
    return _finish(classes, splits)


def _finish(classes: list[ClassInfo], splits: dict[str, SplitPlan]) -> TaskPlan:
    notes = absence_notes("cls", {"train": _TRAIN[0], "val": f"{_TEST[0]} with {_TEST_LABELS}"}, splits)
    if len(classes) != CLASS_COUNT:
        notes.append(f"cls: {len(classes)} classes, the official download has {CLASS_COUNT}")
    return TaskPlan("cls", "stanford_cars", classes, splits, notes + count_notes("cls", splits, OFFICIAL))


def _plan_folder(split: str, folder: Folder, entries: list[_Entry]) -> SplitPlan:
    """The images of a folder as a list has them."""
    pool = Pool(folder)
    plan = _take(pool, split, entries)
    pool.leave(plan, UNLISTED)
    return plan


def _take(pool: Pool, split: str, entries: list[_Entry]) -> SplitPlan:
    """The images that the list has for a split; it is labelled where the first entry is."""
    listed: dict[str, _Entry] = {}
    faults: dict[str, str] = {}
    for entry in entries:
        first = listed.setdefault(entry.name, entry)
        if first.label != entry.label:
            faults[entry.name] = f"listed twice, as {first.where} and {entry.where}, with different classes"
        elif entry.fault:
            faults[entry.name] = f"{entry.where}: {entry.fault}"
    labels = {name: entry.label for name, entry in listed.items()}
    labelled = entries[0].label is not None
    return pool.take(split, labels, faults, labelled, entry_of=lambda name: f"{listed[name].where} {name}")


# ---- the .mat files ----


def _read_classes(path: Path) -> list[ClassInfo]:
    """The names of `class_names`, ids from 0. `UserError` where they are not names."""
    names = read_mat(path, ["class_names"]).get("class_names")
    if not isinstance(names, list) or not names:
        raise UserError(f"{path}: class_names is no list of names; get the file again from the download")
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name or not name.isprintable():
            raise UserError(f"{path}: class_names({number}) is {shown(name)}, not a name in printable text")
    return [ClassInfo(number, name) for number, name in enumerate(names)]


def _entries(path: Path, class_count: int) -> Iterator[_Entry]:
    """The lines of `annotations`. `UserError` where they are not such lines."""
    columns = read_mat(path, ["annotations"]).get("annotations")
    name_key = "fname" if isinstance(columns, dict) and "fname" in columns else "relative_im_path"
    if not isinstance(columns, dict) or not columns.get(name_key):
        raise UserError(f"{path}: annotations is no structure with fname; get the file again from the download")
    names, count = columns[name_key], len(columns[name_key])
    classes, tests = columns.get("class"), columns.get("test", [None] * count)
    if classes is None and name_key == "relative_im_path":
        raise UserError(f"{path}: annotations have no class; get the file again from the download")
    for number, (name, test) in enumerate(zip(names, tests, strict=True), start=1):
        where = f"{path.name}: annotations({number})"
        if isinstance(name, str):
            name = name.removeprefix("car_ims/")
        name = plain_name(name, f"{path}: annotations({number}).{name_key}")
        label, fault = (None, "") if classes is None else _label(classes[number - 1], class_count)
        yield _Entry(where, name, label, fault, bool(_whole(test)))


def _label(value: Any, class_count: int) -> tuple[int | None, str]:
    """The kit counts from 1: the id from 0, and what is wrong with it."""
    number = _whole(value)
    if number is None or not 1 <= number <= class_count:
        return -1, f"class {shown(value if number is None else number)} is outside 1..{class_count}"
    return number - 1, ""


def _whole(value: Any) -> int | None:
    """A matrix of one whole number as that number."""
    if isinstance(value, np.ndarray) and len(value) == 1 and np.isfinite(value[0]) and value[0] == int(value[0]):
        return int(value[0])
    return None
