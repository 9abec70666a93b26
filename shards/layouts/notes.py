"""What a plan notes of a public download: absent splits, and other numbers of images than the official ones."""

from __future__ import annotations

from collections.abc import Mapping

from shards.layouts import SplitPlan
from ufo_ds.data.schema import SPLITS


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
