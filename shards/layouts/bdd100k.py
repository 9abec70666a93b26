"""BDD100K's 10,000 images with semantic segmentation, as masks of train ids or as colour maps, in both releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.layouts import CodedMask, Source, SplitPlan, TaskPlan
from shards.layouts.files import Folder
from shards.layouts.mask_pairs import mask_folder, plan_masks
from shards.layouts.notes import absence_notes, count_notes
from shards.layouts.pool import plan_unlabelled
from shards.layouts.track1 import SEG_CLASSES
from ufo_ds.data.schema import IGNORE_ID, SPLITS

EXPECTS = "images/10k/ and labels/sem_seg/ of BDD100K, or seg/images/ and seg/labels/ of its first release"
OFFICIAL = {"train": 7000, "val": 1000, "test": 2000}

# Colours of BDD100K's label definition (bdd100k/label/label.py of its toolkit), first the 19 classes by train id.
_CLASS_COLOURS = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)
_IGNORED_COLOURS = (
    (0, 0, 0),  # unlabeled, static, ego vehicle
    (111, 74, 0),  # dynamic
    (81, 0, 81),  # ground
    (250, 170, 160),  # parking
    (230, 150, 140),  # rail track
    (150, 100, 100),  # bridge
    (180, 100, 180),  # garage
    (180, 165, 180),  # guard rail
    (150, 120, 90),  # tunnel
    (250, 170, 100),  # banner
    (220, 220, 250),  # billboard
    (255, 165, 0),  # lane divider
    (220, 220, 100),  # street light
    (255, 70, 0),  # traffic cone
    (220, 220, 220),  # traffic device
    (250, 170, 250),  # traffic sign frame
    (0, 0, 90),  # caravan
    (0, 0, 110),  # trailer
)
"""Of what has no train id. Parking signs and groups of poles are painted as persons and poles, and count as these."""
COLOURS = tuple(
    (int.from_bytes(bytes(colour), "big"), mask_id)
    for mask_id, colours in ((IGNORE_ID, _IGNORED_COLOURS), *enumerate((colour,) for colour in _CLASS_COLOURS))
    for colour in colours
)
"""0xRRGGBB and mask id of each."""


@dataclass(frozen=True)
class _Masks:
    """A folder of masks, with `train/` and `val/` in it.

    Attributes:
        folder: below the download.
        tail: that a mask's stem has behind its image's.
        coloured: whether they show `COLOURS` for the ids.
    """

    folder: str
    tail: str = ""
    coloured: bool = False

    def label(self, mask: Source) -> Source | CodedMask:
        """A mask as the label of a sample."""
        return CodedMask(mask, COLOURS, coloured=True) if self.coloured else mask


_RELEASES = {
    "images/10k": (_Masks("labels/sem_seg/masks"), _Masks("labels/sem_seg/colormaps", coloured=True)),
    "seg/images": (_Masks("seg/labels", "_train_id"), _Masks("seg/color_labels", "_train_color", coloured=True)),
}
"""Folder of the images -> where their masks may be, the best first."""
_BASES = (".", "bdd100k")
"""Below `--raw`: the archives have a folder `bdd100k` around all."""


def plan_task(raw: Path, task: str) -> TaskPlan | None:
    """What the download under `raw` holds for `task`; None for another task than seg, or without its image folders."""
    for base in [raw / name for name in _BASES] if task == "seg" else ():
        for images, masks in _RELEASES.items():
            paths = {split: base / images / split for split in SPLITS}
            folders = {split: Folder(path) for split, path in paths.items() if path.is_dir()}
            if folders:
                return _plan_seg(base, images, masks, folders)
    return None


def _plan_seg(base: Path, images: str, masks: tuple[_Masks, ...], folders: dict[str, Folder]) -> TaskPlan:
    splits: dict[str, SplitPlan] = {}
    notes: list[str] = []
    for split, folder in folders.items():
        if split == "test":
            splits[split] = plan_unlabelled(folder)
            continue
        there = [kind for kind in masks if (base / kind.folder / split).is_dir()]
        kind = there[0] if there else masks[0]
        found = mask_folder(base / kind.folder / split, folder.path)
        splits[split] = plan_masks(folder, found, kind.label, kind.tail)
        if kind.coloured:
            notes.append(f"seg: the ids of {split} are made from the colours in {kind.folder}/{split}")
    notes += absence_notes("seg", {split: f"{images}/{split}" for split in SPLITS}, splits)
    return TaskPlan("seg", "bdd100k", SEG_CLASSES, splits, notes + count_notes("seg", splits, OFFICIAL))
