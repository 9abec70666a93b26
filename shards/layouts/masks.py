"""Segmentation as folders of images and of masks, paired by stem, with or without folders for the splits."""

from __future__ import annotations

from pathlib import Path

from shards.layouts import CodedMask, SplitPlan, TaskPlan
from shards.layouts.files import Folder, stem_of
from shards.layouts.mask_classes import MaskClasses, read_mask_classes
from shards.layouts.pool import Pool
from shards.layouts.splits import FOLDER_NAMES, find_folders, finish, need_train, unwrap
from ufo_ds.data.schema import Unmatched
from ufo_ds.errors import UserError

EXPECTS = "the folders images/ and masks/, with or without train/, val/ and test/ in or above them"
IMAGES, MASKS = "images", "masks"


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """The images and masks under `raw`; None for another task than `seg`, or without a folder of images."""
    if task != "seg":
        return None
    raw = unwrap(raw, lambda path: bool(_image_folders(path)))
    images = _image_folders(raw)
    if not images:
        return None
    divided = "train" not in images
    folders = {split or "train": Folder(path) for split, path in images.items()}
    masks = {split: Folder(path, ("png",)) for split in folders if (path := _mask_folder(folders[split].path)).is_dir()}
    if "train" not in masks:
        raise UserError(f"{_mask_folder(folders['train'].path)}: no such folder; it must hold the masks (PNG)")
    classes = read_mask_classes(raw, masks)
    splits = {split: _plan_split(split, folder, masks.get(split), classes) for split, folder in folders.items()}
    plan = finish(TaskPlan("seg", "masks", classes.classes, splits), divided)
    plan.notes += classes.notes
    return plan


def _image_folders(raw: Path) -> dict[str, Path]:
    """Folders of images by split, or the only one under ""."""
    found = find_folders(raw / IMAGES) or find_folders(raw, IMAGES)
    need_train(raw, found)
    return found or ({"": raw / IMAGES} if (raw / IMAGES).is_dir() else {})


def _mask_folder(images: Path) -> Path:
    """Where the masks of a folder of images lie."""
    if images.name == IMAGES:
        return images.with_name(MASKS)
    candidates = [images.parents[1] / MASKS / name for names in FOLDER_NAMES.values() if images.name in names
                  for name in (images.name, *names)]  # fmt: skip
    return next((path for path in candidates if path.is_dir()), candidates[0])


def _plan_split(split: str, images: Folder, masks: Folder | None, classes: MaskClasses) -> SplitPlan:
    pool = Pool(images)
    if masks is None and split == "test":
        return pool.take(split, dict.fromkeys(images.names), labelled=False)
    if masks is None:
        raise UserError(f"{_mask_folder(images.path)}: no such folder; it must hold the masks of {images.path}")
    by_stem = {stem_of(name): name for name in masks.images}
    refused = {stem_of(name): f"mask {name}: {entry.reason}" for name, entry in masks.rejected.items()}
    labels: dict[str, CodedMask | None] = {}
    faults: dict[str, str] = {}
    for name in images.names:
        stem = stem_of(name)
        labels[name] = classes.coded(masks.images[by_stem[stem]]) if stem in by_stem else None
        if stem not in by_stem:
            faults[name] = refused.get(stem, f"no mask {stem}.png in {masks.path.name}")
    stems = {stem_of(name) for name in labels}
    unmatched = [Unmatched(name, "no such image file") for stem, name in by_stem.items() if stem not in stems]
    unmatched += [Unmatched(item.file, item.reason) for item in masks.rejected.values()]
    return pool.take(split, labels, faults, unmatched=unmatched)
