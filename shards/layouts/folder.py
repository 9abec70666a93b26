"""Classification as one folder of images a class, with or without folders for the splits above them."""

from __future__ import annotations

from pathlib import Path

from shards.layouts import SplitPlan, TaskPlan
from shards.layouts.files import Folder, forget_papers, is_hidden, read_class_names
from shards.layouts.pool import Pool
from shards.layouts.splits import find_folders, finish, need_train, other_folders, unwrap
from ufo_ds.data.schema import ClassInfo
from ufo_ds.errors import UserError

EXPECTS = "a folder of images a class, directly or below train/, val/ and test/"


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The classes and their images under `raw`; None for another task than `cls`, or without a folder."""
    if task != "cls":
        return None
    raw = unwrap(raw, lambda path: "train" in find_folders(path) or _has_class_folder(path))
    paths = find_folders(raw)
    others = other_folders(raw)
    if not others:
        need_train(raw, paths)
    divided = "train" not in paths
    folders = {split: Folder(path, deep=True) for split, path in ({"train": raw} if divided else paths).items()}
    if divided:
        forget_papers(folders["train"])
    classes = read_class_names(raw / "classes.txt") or _named_by_folders(folders)
    if not classes:
        return None if divided else _refuse(paths["train"])
    splits = {split: _plan_split(split, folder, classes) for split, folder in folders.items()}
    plan = finish(TaskPlan("cls", "folder", classes, splits), divided, lambda sample: sample.label)
    plan.notes += [] if divided else [f"cls: {raw / name} is no folder of a split, and not read" for name in others]
    return plan


def _has_class_folder(path: Path) -> bool:
    folders = [entry for entry in path.iterdir() if entry.is_dir() and not is_hidden(entry)]
    return any(entry.is_file() for folder in folders for entry in folder.iterdir())


def _refuse(path: Path) -> None:
    raise UserError(f"{path}: no folder of a class here; it must hold one folder of images for each class")


def _class_of(name: str) -> str:
    """The topmost folder of a name; "" where there is none."""
    return name.partition("/")[0] if "/" in name else ""


def _named_by_folders(folders: dict[str, Folder]) -> list[ClassInfo]:
    """The folders of train and val that are not empty, sorted by name: ids count from 0."""
    labelled = [folder for split, folder in folders.items() if split != "test"]
    names = {_class_of(name) for folder in labelled for name in folder.names} - {""}
    for name in names:
        if not name.isprintable():
            raise UserError(f"{name!r}: the name of a class folder must be printable text in UTF-8; rename it")
    return [ClassInfo(number, name) for number, name in enumerate(sorted(names))]


def _plan_split(split: str, folder: Folder, classes: list[ClassInfo]) -> SplitPlan:
    ids = {item.name: item.id for item in classes}
    pool, found = Pool(folder), {name: _class_of(name) for name in folder.names}
    if split == "test" and not {found[name] for name in folder.images} <= set(ids):
        plan = pool.take(split, dict.fromkeys(found), labelled=False)
    else:
        faults = {name: _fault(top) for name, top in found.items() if top not in ids}
        plan = pool.take(split, {name: ids.get(found[name]) for name in found}, faults)
    return plan


def _fault(top: str) -> str:
    return f"its folder {top!r} is not in classes.txt" if top else "lies in no folder of a class"
