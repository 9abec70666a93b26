"""Boxes of a split that can be pasted, and how often each class is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ufo_ds.data.companions import Chance, Companion
from ufo_ds.data.shards import ShardSet
from ufo_ds.errors import UserError
from ufo_ds.tasks.detection.label import parse_label
from ufo_ds.tasks.detection.scene import boxes_of, overlap

MIN_SOURCE = 8
"""Pixels of a box's shorter side from which on it is worth pasting."""
MARGIN = 0.15
"""Width of the border around a box, as a share of its longer side, that comes along and fades out."""


@dataclass(frozen=True)
class Cutout:
    """What a companion is wanted for: one of its annotations, by number."""

    annotation: int


class RareBoxes:
    """The boxes of a split that can be pasted; a class is drawn by one over the square root of its frequency.

    Args:
        weights: of the classes, float64 [K]; 0 for one without a box that can be pasted.
        sources: for each class int32 [n, 2], sample and number of the annotation.
    """

    def __init__(self, weights: np.ndarray, sources: list[np.ndarray]) -> None:
        self.cumulative, self.sources = np.cumsum(weights), sources
        self.cumulative /= self.cumulative[-1]

    @classmethod
    def find(cls, shards: ShardSet) -> RareBoxes:
        """Read all labels of a split.

        Raises:
            UserError: a label that is wrong, or no box that can be pasted.
        """
        counts, sources = np.zeros(shards.meta.num_classes, np.int64), [[] for _ in shards.meta.classes]
        for sample in range(len(shards)):
            try:
                annotations = parse_label(shards.read_member(sample, "json")).get("annotations", [])
                labels = [shards.meta.index_of(item["category_id"]) for item in annotations]
            except UserError as error:
                raise UserError(f"{shards.place_of(sample)}: {error}") from None
            clear = _are_clear(annotations)
            for number, (item, label) in enumerate(zip(annotations, labels, strict=True)):
                counts[label] += not item.get("iscrowd", 0)
                if clear[number]:
                    sources[label].append((sample, number))
        if not any(sources):
            problem = f"no box of the {shards.split} split is {MIN_SOURCE} pixels large and clear of others"
            raise UserError(f"key 'tasks.det.copy_paste': {problem}; set it to 0")
        usable = np.array([bool(own) for own in sources])
        return cls(np.where(usable, counts.clip(1) ** -0.5, 0), [np.array(own, np.int32) for own in sources])

    def draw(self, chance: Chance) -> Companion:
        """A box: first a class, then any of its boxes."""
        label = int(np.searchsorted(self.cumulative, chance.uniform(), side="right"))
        own = self.sources[label]
        sample, annotation = own[chance.below(len(own))].tolist()
        return Companion(sample, Cutout(annotation))


def _are_clear(annotations: list[dict[str, Any]]) -> np.ndarray:
    """Bool [N]: no crowds, large enough, and no other box in what is cut out with them."""
    boxes = boxes_of(annotations)
    sides = boxes[:, 2:] - boxes[:, :2]
    border = MARGIN * sides.max(1, initial=0)[:, None]
    cut = np.concatenate([boxes[:, :2] - border, boxes[:, 2:] + border], axis=1)
    touching = overlap(cut[:, None], boxes[None]).sum(1) > (sides > 0).all(1)
    crowd = np.array([bool(item.get("iscrowd", 0)) for item in annotations], bool)
    return (sides.min(1, initial=np.inf) >= MIN_SOURCE) & ~touching & ~crowd & (boxes[:, :2] > 0).all(1)
