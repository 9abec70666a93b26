"""Detection as Ultralytics' YOLO has it: data.yaml, images/ and labels/, a text file of boxes an image.

The format: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

from pathlib import Path

from shards.layouts import Boxes, RelativeBoxes, SplitPlan, TaskPlan
from shards.layouts.files import Folder, forget_papers, read_class_names, stem_of
from shards.layouts.pool import Pool
from shards.layouts.splits import add_notes, find_folders, hold_out, unwrap
from shards.layouts.yolo_labels import read_labels
from shards.layouts.yolo_yaml import DataYaml, find_yaml, read_yaml
from ufo_ds.data.schema import ClassInfo, Unmatched
from ufo_ds.errors import UserError

EXPECTS = "data.yaml or classes.txt, and the folders images/ and labels/, with or without train/, val/ and test/"
IMAGES, LABELS = "images", "labels"
CLASS_FILES = ("classes.txt", "labels/classes.txt", "obj.names")
_PAPERS = ("classes.txt", "train.txt", "val.txt", "test.txt")


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and boxes under `raw`; None for another task than `det`, or without a folder of images."""
    if task != "det":
        return None
    raw = unwrap(raw, lambda path: find_yaml(path) is not None or bool(_image_folders(path, None)))
    yaml = find_yaml(raw)
    given = read_yaml(yaml, raw) if yaml else None
    folders = _image_folders(raw, given)
    if not folders:
        return None
    classes = given.classes if given else _named(raw)
    # Small samples of large sets name one folder for both.
    divided = "" in folders or folders["train"] == folders.get("val")
    if divided:
        folders = {split or "train": path for split, path in folders.items() if split != "val"}
    splits = {split: _plan_split(raw, split, path, classes) for split, path in folders.items()}
    if divided:
        splits = {**hold_out(splits.pop("train")), **splits}
    return add_notes(TaskPlan("det", "yolo", classes, splits), divided)


def _named(raw: Path) -> list[ClassInfo]:
    for name in CLASS_FILES:
        if classes := read_class_names(raw / name):
            return classes
    raise UserError(f"{raw}: neither data.yaml nor classes.txt is there; name the classes in one, a name a line")


def _image_folders(raw: Path, given: DataYaml | None) -> dict[str, Path]:
    """Folders of images by split, or the only one under ""."""
    found = {**find_folders(raw / IMAGES), **find_folders(raw, IMAGES), **(given.folders if given else {})}
    if found and "train" not in found:
        raise UserError(f"{raw}: has images for {', '.join(found)}, but none for train; add them")
    return found or ({"": raw / IMAGES} if (raw / IMAGES).is_dir() else {})


def label_folder(raw: Path, images: Path) -> Path:
    """Where the labels of a folder of images lie: the last `images` of its path in `raw` becomes `labels`."""
    parts = list(images.relative_to(raw).parts)
    for place in reversed(range(len(parts))):
        if parts[place] == IMAGES:
            return raw.joinpath(*parts[:place], LABELS, *parts[place + 1 :])
    return images


def _plan_split(raw: Path, split: str, images: Path, classes: list[ClassInfo]) -> SplitPlan:
    """Image ids are places among the sorted names, from 1."""
    folder, labels_at = Folder(images, deep=True), label_folder(raw, images)
    texts = _texts(labels_at, {stem_of(name) for name in folder.images})
    if labels_at == images:
        forget_papers(folder)
        for name in texts:
            folder.rejected.pop(name, None)
    names = folder.names
    labelled = bool(texts)
    if not labelled and split != "test":
        raise UserError(f"{labels_at}: no label file here; it must hold a text file of boxes for images of {images}")
    known = {item.id for item in classes}
    labels: dict[str, Boxes] = {}
    faults: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        labels[name] = RelativeBoxes(number, annotations=[]) if labelled else Boxes(number)
        path = texts.get(f"{stem_of(name)}.txt")
        if path is None:  # an image without objects
            continue
        try:
            labels[name] = read_labels(path, number, known)
        except ValueError as fault:
            faults[name] = str(fault)
    stems = {stem_of(name) for name in names}
    unmatched = [Unmatched(name, "no such image file") for name in texts if stem_of(name) not in stems]
    return Pool(folder).take(split, labels, faults, labelled, unmatched)


def _texts(folder: Path, stems: set[str]) -> dict[str, Path]:
    """The label files by their names from `folder`: text files, but for what tools write beside them."""
    paths = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
    texts = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in texts.items() if name not in _PAPERS or stem_of(name) in stems}
