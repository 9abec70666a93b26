"""Detection as Ultralytics' YOLO has it: data.yaml, images/ and labels/, a text file of boxes an image.

The format: https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from shards.layouts import Boxes, RelativeBoxes, SplitPlan, TaskPlan
from shards.layouts.files import Folder, forget_papers, read_class_names, stem_of
from shards.layouts.pool import Pool
from shards.layouts.splits import FOLDER_NAMES, find_folders, finish, need_train, unwrap
from shards.layouts.yolo_images import Images
from shards.layouts.yolo_labels import read_labels
from shards.layouts.yolo_yaml import DataYaml, find_yaml, read_yaml
from ufo_ds.data.schema import IMAGE_EXTENSIONS, ClassInfo, Unmatched
from ufo_ds.errors import UserError

EXPECTS = "data.yaml or classes.txt, and the folders images/ and labels/, with or without train/, val/ and test/"
IMAGES, LABELS = "images", "labels"
CLASS_FILES = ("classes.txt", "labels/classes.txt", "obj.names", "labels/train/classes.txt", "train/labels/classes.txt",
               "train/classes.txt", "train/_darknet.labels")  # fmt: skip
Reader = Callable[[Path, int], RelativeBoxes]
"""(label file, image id) -> boxes; `ValueError` as `read_labels`."""
_PAPERS = ("classes.txt", "train.txt", "valid.txt", "val.txt", "test.txt")


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and boxes under `raw`; None for another task than `det`, or without a folder of images."""
    if task != "det":
        return None
    raw = unwrap(raw, lambda path: find_yaml(path) is not None or bool(_images(path, None)))
    yaml = find_yaml(raw)
    given = read_yaml(yaml, raw) if yaml else None
    found = _images(raw, given)
    if not found:
        return None
    classes = given.classes if given else _named(raw)
    # Small samples of large sets name one folder for both.
    divided = "" in found or found["train"] == found.get("val")
    if divided:
        found = {split or "train": images for split, images in found.items() if split != "val"}
    read = partial(read_labels, known={item.id for item in classes}, keypoints=given.keypoints if given else 0)
    if all(images.only_folder for images in found.values()):
        splits = {split: _plan_folder(raw, split, images.folders[0], read) for split, images in found.items()}
    else:
        splits = _plan_lists(raw, found, read)
    return finish(TaskPlan("det", "yolo", classes, splits), divided)


def _named(raw: Path) -> list[ClassInfo]:
    for name in CLASS_FILES:
        if classes := read_class_names(raw / name):
            return classes
    raise UserError(f"{raw}: neither data.yaml nor classes.txt is there; name the classes in one, a name a line")


def _images(raw: Path, given: DataYaml | None) -> dict[str, Images]:
    """The images by split, or the only folder of them under ""."""
    folders = {**find_folders(raw / IMAGES), **find_folders(raw, IMAGES)}
    if not folders:
        folders = {"": raw / IMAGES} if (raw / IMAGES).is_dir() else _beside(raw)
    if given and given.images:
        folders.pop("", None)
    found = {split: Images((path,)) for split, path in folders.items()} | (given.images if given else {})
    if "" not in found:
        need_train(raw, found)
    return found


def _beside(raw: Path) -> dict[str, Path]:
    """Folders in which the labels lie beside the images, as labelImg and CVAT write them."""
    found = find_folders(raw)
    if not any(map(_has_pair, found.values())):
        names = {f"obj_{name}_data": split for split, names in FOLDER_NAMES.items() for name in names}
        found = {split: raw / name for name, split in names.items() if (raw / name).is_dir()}
        if found.keys() == {"train"}:  # CVAT calls it so where there are no splits
            found = {"": found["train"]}
    return found or ({"": raw} if _has_pair(raw) else {})


def _has_pair(folder: Path) -> bool:
    """Whether an image has its labels beside it."""
    names = {path.name for path in folder.iterdir()}
    images = (name for name in names if Path(name).suffix[1:].lower() in IMAGE_EXTENSIONS)
    return any(f"{stem_of(name)}.txt" in names for name in images)


def label_folder(raw: Path, images: Path) -> Path:
    """Where the labels of a folder of images lie: the last `images` of its path in `raw` becomes `labels`.

    Where there is no such folder, they may lie beside the images.
    """
    parts = list(images.relative_to(raw).parts)
    for place in reversed(range(len(parts))):
        if parts[place] == IMAGES:
            labels = raw.joinpath(*parts[:place], LABELS, *parts[place + 1 :])
            return labels if labels.is_dir() or not _has_pair(images) else images
    return images


def _plan_folder(raw: Path, split: str, images: Path, read: Reader) -> SplitPlan:
    """A split that is a folder."""
    folder, labels_at = Folder(images, deep=True), label_folder(raw, images)
    texts = _texts(labels_at, {stem_of(name) for name in folder.images})
    if labels_at == images:
        _forget_texts(folder, texts)
    plan = _take(Pool(folder), split, folder.names, texts, read, labels_at)
    plan.unmatched += _without_image(folder, texts)
    return plan


def _plan_lists(raw: Path, found: dict[str, Images], read: Reader) -> dict[str, SplitPlan]:
    """Splits that share folders, or have several: an image's name is its path from the folder that holds all."""
    places = sorted(set().union(*(images.places for images in found.values())))
    folder = Folder(Path(os.path.commonpath(places)), deep=True)
    prefixes = {place: _prefix(folder, place) for place in places}
    for name in folder.names:
        if not name.startswith(tuple(prefixes.values())):
            folder.forget(name)
    texts: dict[str, Path] = {}
    for place, prefix in prefixes.items():
        stems = {stem_of(name).removeprefix(prefix) for name in folder.images if name.startswith(prefix)}
        texts |= {prefix + name: path for name, path in _texts(label_folder(raw, place), stems).items()}
    if any(label_folder(raw, place) == place for place in places):
        _forget_texts(folder, texts)
    pool, splits = Pool(folder), {}
    for split, images in found.items():
        listed = {path.relative_to(folder.path).as_posix() for path in images.files}
        whole = tuple(prefixes[place] for place in images.folders)
        names = [name for name in folder.names if name in listed or name.startswith(whole)]
        splits[split] = _take(pool, split, names, texts, read, label_folder(raw, min(images.places)))
        splits[split].unmatched += [Unmatched(line, "no such image file") for line in images.missing]
    splits["train"].unmatched += _without_image(folder, texts)
    pool.leave(splits["train"], "in none of the lists")
    return splits


def _prefix(folder: Folder, place: Path) -> str:
    return "" if place == folder.path else f"{place.relative_to(folder.path).as_posix()}/"


def _take(pool: Pool, split: str, names: list[str], texts: dict[str, Path], read: Reader, labels_at: Path) -> SplitPlan:
    """Image ids are places among the sorted names, from 1."""
    labelled = any(f"{stem_of(name)}.txt" in texts for name in names)
    if not labelled and split != "test":
        raise UserError(f"{labels_at}: no label file here for any image of {split}; "
                        "it must hold text files of boxes, named as the images are")  # fmt: skip
    labels: dict[str, Boxes] = {}
    faults: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        labels[name] = RelativeBoxes(number, annotations=[]) if labelled else Boxes(number)
        path = texts.get(f"{stem_of(name)}.txt")
        if path is None:  # an image without objects
            continue
        try:
            labels[name] = read(path, number)
        except ValueError as fault:
            faults[name] = str(fault)
    return pool.take(split, labels, faults, labelled)


def _without_image(folder: Folder, texts: Iterable[str]) -> list[Unmatched]:
    stems = {stem_of(name) for name in folder.names}
    return [Unmatched(name, "no such image file") for name in texts if stem_of(name) not in stems]


def _texts(folder: Path, stems: set[str]) -> dict[str, Path]:
    """The label files by their names from `folder`: text files, but for what tools write beside them."""
    paths = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
    texts = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in texts.items() if name not in _PAPERS or stem_of(name) in stems}


def _forget_texts(folder: Folder, texts: Iterable[str]) -> None:
    """Pass over what lies beside the images and belongs there: their labels, and papers."""
    forget_papers(folder)
    for name in texts:
        folder.forget(name)
