"""From folders and labels to splits in which every file is accounted for; and what a plan notes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import copy
from pathlib import Path

from shards.layouts import CodedMask, Sample, Source, SplitPlan
from shards.layouts.files import Folder
from ufo_ds.data.schema import SPLITS, Unmatched
from ufo_ds.errors import UserError

Folders = dict[str, Folder]
"""The image folders that there are, by split."""


def plan_folder(
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


def take_entries(folder: Folder, names: Collection[str]) -> Folder:
    """Move the entries of these names, as far as they are there, to a folder of their own."""
    taken = copy(folder)
    taken.images = {name: folder.images.pop(name) for name in names if name in folder.images}
    taken.rejected = {name: folder.rejected.pop(name) for name in names if name in folder.rejected}
    return taken


def plan_unlabelled(folder: Folder) -> SplitPlan:
    """The images of a folder, without labels."""
    samples = {name: Sample(image, None) for name, image in folder.images.items()}
    return plan_folder(folder, samples, {}, False, [])


def plan_masks(
    folder: Folder,
    mask_folder: Path,
    tail: str = "",
    label_of: Callable[[Source], Source | CodedMask] = lambda mask: mask,
) -> SplitPlan:
    """Pair images and masks by stem: by order, one missing file would shift all the rest.

    Args:
        folder: the images.
        mask_folder: the PNG masks.
        tail: that a mask's stem has behind its image's.
        label_of: makes a sample's label of its mask.

    Raises:
        UserError: there is no such folder.
    """
    if not mask_folder.is_dir():
        raise UserError(f"{mask_folder}: no such folder; it must hold the masks of {folder.path}")
    masks = Folder(mask_folder, ("png",))
    by_stem = {Path(name).stem: name for name in masks.images}
    samples: dict[str, Sample] = {}
    faults: dict[str, str] = {}
    for name, image in folder.images.items():
        mask = by_stem.get(Path(name).stem + tail)
        if mask is None:
            faults[name] = f"no mask {Path(name).stem}{tail}.png"
        else:
            samples[name] = Sample(image, label_of(masks.images[mask]))
    stems = {Path(name).stem + tail for name in folder.names}
    unmatched = [Unmatched(name, "no such image file") for stem, name in by_stem.items() if stem not in stems]
    unmatched += [Unmatched(entry.file, entry.reason) for entry in masks.rejected.values()]
    return plan_folder(folder, samples, faults, True, unmatched)


def absence_notes(task: str, folders: Mapping[str, str], there: Mapping[str, object]) -> list[str]:
    """A line for each split whose folder is absent.

    Args:
        task: `cls`, `det` or `seg`.
        folders: where each split's images are looked for.
        there: the splits that were found.
    """
    return [
        f"{task}: no {split} split ({folders[split]} is absent)"
        for split in SPLITS
        if split in folders and split not in there
    ]


def count_notes(task: str, splits: Mapping[str, SplitPlan], official: Mapping[str, int]) -> list[str]:
    """A line for each split that has another number of images than the official download."""
    counts = {name: len(split.samples) + len(split.rejected) for name, split in splits.items()}
    return [
        f"{task}: {name} has {count} images, the official download {official[name]}"
        for name, count in counts.items()
        if name in official and count != official[name]
    ]
