"""How a trained model is asked: views of a picture, and how their answers become one. docs/prediction.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class ClsViews:
    """Views of a picture whose class is asked for; their probabilities are averaged."""

    hflip: bool = False
    """Ask of each view its mirror image, too."""
    scales: tuple[float, ...] = (1.0,)
    """Factors on `tasks.cls.size`, a view each."""


@dataclass
class DetViews:
    """Views of a picture whose boxes are asked for; those that mean one object become one box."""

    hflip: bool = False
    """Ask of each view its mirror image, too, and mirror its boxes back. A model trained with `tasks.det.hflip: 0` has
    never seen mirrored signs, and may take one for another."""
    scales: tuple[float, ...] = (1.0,)
    """Factors on `tasks.det.size`, a view of the whole picture each."""
    tiles: int | None = None
    """Longer side of a tile, in pixels of the original: the picture is also cut into overlapping tiles, each fitted to
    `tasks.det.size`. Pictures that fit into one tile are not cut. null: no tiles."""
    overlap: float = 0.2
    """Share of a tile's side that the next tile shows again, at least, 0..0.75; best above the objects' size."""
    whole: bool = True
    """With `tiles`: ask of the whole picture, too (`scales`)."""
    fusion: Literal["wbf", "nms"] = "wbf"
    """Of the views' boxes for one object, `wbf` takes the mean weighted by the scores, and trusts it the less, the
    fewer views found it (weighted box fusion, arXiv 1910.13302); `nms` takes the one with the largest score."""
    iou: float = 0.55
    """Boxes of one class with a larger IoU than this are one object, in (0, 1]."""


@dataclass
class SegViews:
    """Views of a picture whose pixels' classes are asked for; their probabilities are averaged."""

    hflip: bool = False
    """Ask of each view its mirror image, too."""
    scales: tuple[float, ...] = (1.0,)
    """Factors on `tasks.seg.eval_size` (or the picture's own size), a view each."""
    window: tuple[int, int] | None = None
    """(height, width) of a window in pixels of the view, e.g. `tasks.seg.crop`: the view goes through the network in
    overlapping windows, blended smoothly. null: at one go."""
    overlap: float = 0.5
    """Share of a window's side that the next window shows again, at least, 0..0.75."""


@dataclass
class PredictionConfig:
    """How a trained model is asked. As it stands here: of one view a picture."""

    cls: ClsViews = field(default_factory=ClsViews)
    """Classification."""
    det: DetViews = field(default_factory=DetViews)
    """Detection."""
    seg: SegViews = field(default_factory=SegViews)
    """Segmentation."""
    in_training: bool = False
    """Whether the evaluations of a training run ask so, too. They take as many times longer as there are views."""


Views = ClsViews | DetViews | SegViews


def is_plain(views: Views) -> bool:
    """Whether there is but one view, the one of the training's own evaluation."""
    cut = getattr(views, "tiles", None) or getattr(views, "window", None)
    return not cut and not views.hflip and tuple(views.scales) == (1.0,)
