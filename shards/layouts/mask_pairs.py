"""Images and their masks in two folders, paired by stem: by order, one missing file would shift all the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shards.layouts import CodedMask, Source, SplitPlan
from shards.layouts.files import Folder, stem_of
from shards.layouts.pool import Pool
from ufo_ds.data.schema import Unmatched
from ufo_ds.errors import UserError


@dataclass
class Pairs:
    """Images and masks.

    Attributes:
        labels: of all entries of the folder of images, by name; None without a mask.
        faults: why an image has none, by name.
        unmatched: the masks without an image.
    """

    labels: dict[str, Source | CodedMask | None] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    unmatched: list[Unmatched] = field(default_factory=list)


def mask_folder(path: Path, images: Path) -> Folder:
    """The masks of a folder of images; `UserError` where there is no such folder."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; it must hold the masks (PNG) of {images}")
    return Folder(path, ("png",))


def find_tail(images: Folder, masks: Folder) -> str:
    """What stems of masks have behind their images', such as `_mask`: the commonest; "" where one is equal."""
    stems = {stem_of(name) for name in images.names}
    tails: Counter[str] = Counter()
    for stem in map(stem_of, masks.images):
        if stem in stems:
            return ""
        length = next((n for n in range(len(stem) - 1, 0, -1) if stem[:n] in stems), 0)
        if length and not stem[length].isalnum():
            tails[stem[length:]] += 1
    return tails.most_common(1)[0][0] if tails else ""


def pair(images: Folder, masks: Folder, label_of: Callable[[Source], Source | CodedMask], tail: str = "") -> Pairs:
    """Pair a folder of images with their masks.

    Args:
        images: of one or more splits.
        masks: their masks.
        label_of: makes a sample's label of its mask.
        tail: that a mask's stem has behind its image's.
    """
    by_stem = {stem_of(name): name for name in masks.images}
    refused = {stem_of(name): f"mask {name}: {entry.reason}" for name, entry in masks.rejected.items()}
    pairs = Pairs()
    for name in images.names:
        stem = stem_of(name) + tail
        pairs.labels[name] = label_of(masks.images[by_stem[stem]]) if stem in by_stem else None
        if stem not in by_stem:
            pairs.faults[name] = refused.get(stem, f"no mask {stem}.png")
    stems = {stem_of(name) + tail for name in pairs.labels}
    pairs.unmatched = [Unmatched(name, "no such image file") for stem, name in by_stem.items() if stem not in stems]
    pairs.unmatched += [Unmatched(entry.file, entry.reason) for entry in masks.rejected.values()]
    return pairs


def plan_masks(
    images: Folder, masks: Folder, label_of: Callable[[Source], Source | CodedMask] = lambda mask: mask, tail: str = ""
) -> SplitPlan:
    """A split that is a folder of images with masks; see `pair`."""
    pairs = pair(images, masks, label_of, tail)
    return Pool(images).take("", pairs.labels, pairs.faults, unmatched=pairs.unmatched)
