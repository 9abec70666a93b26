"""Segmentation as folders of images and of masks, paired by stem, with or without folders for the splits."""

from __future__ import annotations

from pathlib import Path

from shards.layouts import TaskPlan
from shards.layouts.files import Folder
from shards.layouts.mask_classes import read_mask_classes
from shards.layouts.mask_pairs import mask_folder, plan_masks
from shards.layouts.pool import plan_unlabelled
from shards.layouts.splits import FOLDER_NAMES, find_folders, finish, need_train, unwrap

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
    paths = {split: _mask_path(folder.path) for split, folder in folders.items()}
    masks = {
        split: mask_folder(path, folders[split].path)
        for split, path in paths.items()
        if split != "test" or path.is_dir()
    }
    classes = read_mask_classes(raw, masks)
    splits = {
        split: plan_masks(folder, masks[split], classes.coded) if split in masks else plan_unlabelled(folder)
        for split, folder in folders.items()
    }
    plan = finish(TaskPlan("seg", "masks", classes.classes, splits), divided)
    plan.notes += classes.notes
    return plan


def _image_folders(raw: Path) -> dict[str, Path]:
    """Folders of images by split, or the only one under ""."""
    found = find_folders(raw / IMAGES) or find_folders(raw, IMAGES)
    need_train(raw, found)
    return found or ({"": raw / IMAGES} if (raw / IMAGES).is_dir() else {})


def _mask_path(images: Path) -> Path:
    """Where the masks of a folder of images lie."""
    if images.name == IMAGES:
        return images.with_name(MASKS)
    candidates = [images.parents[1] / MASKS / name for names in FOLDER_NAMES.values() if images.name in names
                  for name in (images.name, *names)]  # fmt: skip
    return next((path for path in candidates if path.is_dir()), candidates[0])
