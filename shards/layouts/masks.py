"""Segmentation as folders of images and of masks, paired by stem, with or without splits."""

from __future__ import annotations

from pathlib import Path

from shards.layouts import SplitPlan, TaskPlan
from shards.layouts.files import Folder, stem_of
from shards.layouts.mask_classes import MaskClasses, read_mask_classes
from shards.layouts.mask_pairs import find_tail, mask_folder, pair, plan_masks
from shards.layouts.pool import Pool, plan_unlabelled
from shards.layouts.splits import FOLDER_NAMES, find_folders, finish, need_train, split_of, unwrap
from shards.layouts.voc_lists import complete, read_lists

EXPECTS = "the folders images/ and masks/, with or without train/, val/ and test/ in or above them"
IMAGES = ("images", "JPEGImages")
MASKS = ("masks", "labels", "annotations", "SegmentationClass")
TAILS = ("_masks", "_labels", "annot")
"""Behind the name of a split's folder of images, in that of its masks."""
LISTS = "ImageSets/Segmentation"


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and masks under `raw`; None for another task than `seg`, or without a folder of images."""
    if task != "seg":
        return None
    raw = unwrap(raw, lambda path: bool(_image_folders(path)))
    images = _image_folders(raw)
    if not images:
        return None
    folders = {split or "train": Folder(path) for split, path in images.items()}
    paths = {split: _mask_path(folder.path) for split, folder in folders.items()}
    masks = {
        split: mask_folder(path, folders[split].path)
        for split, path in paths.items()
        if split != "test" or path.is_dir()
    }
    classes = read_mask_classes(raw, masks)
    tails = {split: find_tail(folders[split], found) for split, found in masks.items()}
    if "train" in images:
        divided, splits = False, {
            split: plan_masks(folder, masks[split], classes.coded, tails[split])
            if split in masks
            else plan_unlabelled(folder)
            for split, folder in folders.items()
        }  # fmt: skip
    else:
        splits, divided = _plan_lists(raw, folders["train"], masks["train"], classes, tails["train"])
    plan = finish(TaskPlan("seg", "masks", classes.classes, splits), divided)
    plan.notes += classes.notes
    plan.notes += [
        f"seg: masks are named as their images, with {tail} behind" for tail in sorted({*tails.values()} - {""})
    ]
    return plan


def _plan_lists(
    raw: Path, images: Folder, masks: Folder, classes: MaskClasses, tail: str
) -> tuple[dict[str, SplitPlan], bool]:
    """Splits by the lists that there may be; and whether train is yet to be divided."""
    given = read_lists(raw / LISTS)
    if not given:
        return {"train": plan_masks(images, masks, classes.coded, tail)}, True
    pool, pairs = Pool(images), pair(images, masks, classes.coded, tail)
    names = {stem_of(name): name for name in pairs.labels}
    lists, divided = complete(given, sorted(names))
    splits = {}
    for split, stems in lists.items():
        labels = {name: pairs.labels.get(name) for name in (names.get(stem, f"{stem}.jpg") for stem in stems)}
        labelled = split != "test" or any(labels.values())
        splits[split] = pool.take(split, labels, pairs.faults if labelled else {}, labelled)
    splits["train"].unmatched += pairs.unmatched
    pool.leave(splits["train"], f"in none of the lists of {LISTS}")
    return splits, divided


# ---- places ----


def _image_folders(raw: Path) -> dict[str, Path]:
    """Folders of images by split, or the only one under ""."""
    for name in IMAGES:
        if found := find_folders(raw / name) or find_folders(raw, name):
            need_train(raw, found)
            return found
    beside = find_folders(raw)
    if any(_mask_path(path).is_dir() for path in beside.values()):
        need_train(raw, beside)
        return beside
    return next(({"": raw / name} for name in IMAGES if (raw / name).is_dir()), {})


def _mask_path(images: Path) -> Path:
    """Where the masks of a folder of images lie."""
    if images.name in IMAGES:
        candidates = [images.with_name(name) for name in MASKS]
    elif images.parent.name in IMAGES and (split := split_of(images.name)):
        names = (images.name, *FOLDER_NAMES[split])
        candidates = [images.parents[1] / masks / name for masks in MASKS for name in names]
    else:
        candidates = [images.with_name(images.name + tail) for tail in TAILS]
    return next((path for path in candidates if path.is_dir()), candidates[0])
