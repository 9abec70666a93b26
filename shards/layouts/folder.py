"""Classification as one folder of images a class, with or without folders for the splits above them."""

from __future__ import annotations

from pathlib import Path

from shards.layouts import SplitPlan, TaskPlan
from shards.layouts.files import Folder, forget_papers, is_hidden, read_class_names
from shards.layouts.pool import Pool
from shards.layouts.splits import find_folders, finish, folders_in, need_train, other_folders, unwrap
from ufo_ds.data.schema import ClassInfo
from ufo_ds.errors import UserError, listed

LISTED = 12
EXPECTS = "a folder of images a class, directly or below train/, val/ and test/"


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The classes and their images under `raw`; None for another task than `cls`, or without a folder."""
    if task != "cls":
        return None
    raw = unwrap(raw, lambda path: "train" in find_folders(path) or _has_class_folder(path))
    paths = {split: unwrap(path, _holds_classes) for split, path in find_folders(raw).items()}
    others = other_folders(raw)
    if not others:
        need_train(raw, paths)
    divided = "train" not in paths
    folders = {split: Folder(path, deep=True) for split, path in ({"train": raw} if divided else paths).items()}
    if divided:
        forget_papers(folders["train"])
    given = read_class_names(raw / "classes.txt")
    classes = given or _named_by_folders(folders["train"])
    if not classes:
        return None if divided else _refuse(paths["train"])
    if not given:
        _check_depth(folders["train"], classes)
    unknown = "not in classes.txt" if given else "no class of train"
    splits = {split: _plan_split(split, folder, classes, unknown) for split, folder in folders.items()}
    plan = finish(TaskPlan("cls", "folder", classes, splits), divided, lambda sample: sample.label)
    plan.notes.append(f"cls: {len(classes)} classes: {listed([item.name for item in classes], LISTED)}")
    plan.notes += [] if divided else [f"cls: {raw / name} is no folder of a split, and not read" for name in others]
    return plan


def _holds_classes(path: Path) -> bool:
    """Whether a split's classes lie here, and not in the one folder in it, as archives have it."""
    here = _nothing_but_folders(path)
    return len(here) != 1 or not _nothing_but_folders(here[0])


def _nothing_but_folders(path: Path) -> list[Path]:
    """The folders of a folder; none where there is anything beside them."""
    entries = [entry for entry in path.iterdir() if not is_hidden(entry)]
    return entries if all(entry.is_dir() for entry in entries) else []


def _has_class_folder(path: Path) -> bool:
    return any(entry.is_file() for folder in folders_in(path) for entry in folder.iterdir())


def _refuse(path: Path) -> None:
    raise UserError(f"{path}: no folder of a class here; it must hold one folder of images for each class")


def _class_of(name: str) -> str:
    """The topmost folder of a name; "" where there is none."""
    return name.partition("/")[0] if "/" in name else ""


def _named_by_folders(folder: Folder) -> list[ClassInfo]:
    """The folders of train that hold images, sorted by name: ids count from 0."""
    names = {_class_of(name) for name in folder.images} - {""}
    for name in names:
        if not name.isprintable():
            raise UserError(f"{name!r}: the name of a class folder must be printable text in UTF-8; rename it")
    return [ClassInfo(number, name) for number, name in enumerate(sorted(names))]


def _check_depth(folder: Folder, classes: list[ClassInfo]) -> None:
    """`UserError` where the folders look like those above the classes."""
    remedy = "give the folder above the classes as --raw, or write the classes' names into classes.txt there"
    inside: dict[str, set[str]] = {item.name: set() for item in classes}
    for name in folder.images:
        top, _, rest = name.partition("/")
        if rest:
            inside[top].add(rest.partition("/")[0] if "/" in rest else "")
    for top, inner in inside.items():
        if len(inner) > 1 and "" not in inner:
            some = ", ".join(sorted(inner)[:3])
            raise UserError(f"{folder.path / top}: no image here, but folders of images ({some}, ...); {remedy}")
    if len(classes) == 1:
        raise UserError(f"{folder.path}: one folder of images alone ({classes[0].name}) makes one class; {remedy}")


def _plan_split(split: str, folder: Folder, classes: list[ClassInfo], unknown: str) -> SplitPlan:
    ids = {item.name: item.id for item in classes}
    pool, found = Pool(folder), {name: _class_of(name) for name in folder.names}
    if split == "test" and not {found[name] for name in folder.images} <= set(ids):
        plan = pool.take(split, dict.fromkeys(found), labelled=False)
    else:
        faults = {name: _fault(top, unknown) for name, top in found.items() if top not in ids}
        plan = pool.take(split, {name: ids.get(found[name]) for name in found}, faults)
    return plan


def _fault(top: str, unknown: str) -> str:
    return f"its folder {top!r} is {unknown}" if top else "lies in no folder of a class"
