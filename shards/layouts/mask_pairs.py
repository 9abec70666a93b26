"""Images and their masks in two folders, paired by stem: by order, one missing file would shift all the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shards.layouts import CodedMask, Source, SplitPlan
from shards.layouts.files import Folder, stem_of
from shards.layouts.pool import Pool
from ufo_ds.data.schema import Unmatched
from ufo_ds.errors import UserError


def mask_folder(path: Path, images: Path) -> Folder:
    """The masks of a folder of images; `UserError` where there is no such folder."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; it must hold the masks (PNG) of {images}")
    return Folder(path, ("png",))


def plan_masks(
    images: Folder, masks: Folder, label_of: Callable[[Source], Source | CodedMask] = lambda mask: mask, tail: str = ""
) -> SplitPlan:
    """Pair images and masks.

    Args:
        images: of the split.
        masks: their masks.
        label_of: makes a sample's label of its mask.
        tail: that a mask's stem has behind its image's.
    """
    by_stem = {stem_of(name): name for name in masks.images}
    refused = {stem_of(name): f"mask {name}: {entry.reason}" for name, entry in masks.rejected.items()}
    labels: dict[str, Source | CodedMask | None] = {}
    faults: dict[str, str] = {}
    for name in images.names:
        stem = stem_of(name) + tail
        labels[name] = label_of(masks.images[by_stem[stem]]) if stem in by_stem else None
        if stem not in by_stem:
            faults[name] = refused.get(stem, f"no mask {stem}.png")
    stems = {stem_of(name) + tail for name in labels}
    unmatched = [Unmatched(name, "no such image file") for stem, name in by_stem.items() if stem not in stems]
    unmatched += [Unmatched(entry.file, entry.reason) for entry in masks.rejected.values()]
    return Pool(images).take("", labels, faults, unmatched=unmatched)
