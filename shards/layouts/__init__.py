"""Raw layouts, one module each, and what a layout hands to the builder.

A layout is a module with

* `EXPECTS`: one phrase, where it looks for its data;
* `plan_task(raw, task) -> TaskPlan | None`: what `raw` holds for one task; None where it has none of its
  folders. What makes the labels as a whole unusable is a `UserError`; what is wrong with one image is a
  `Rejection`;
* `OPTIONS`, where the user has a choice: what each keyword argument of `plan_task` beyond these two means.

Planning reads labels and directory entries, never pixels: those are checked while packing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from ufo_ds.data.schema import ClassInfo, Rejection, Unmatched
from ufo_ds.errors import UserError

LAYOUTS = {
    "track1": "shards.layouts.track1",
    "stanford_cars": "shards.layouts.stanford_cars",
    "tt100k": "shards.layouts.tt100k",
    "bdd100k": "shards.layouts.bdd100k",
    "folder": "shards.layouts.folder",
    "coco": "shards.layouts.coco_folders",
    "voc": "shards.layouts.voc",
    "yolo": "shards.layouts.yolo",
    "masks": "shards.layouts.masks",
}
"""Layout name -> module; a further layout is one module and one line here."""


@dataclass(frozen=True)
class Source:
    """A raw file as it was when the plan was made."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Boxes:
    """The label of a detection image.

    Attributes:
        image_id: as the submission names the image.
        width: declared, pixels; None where the raw data do not say.
        height: declared, pixels; None likewise.
        annotations: `bbox` (xywh, pixels), `category_id`, `iscrowd`, `area`; None for an unlabelled image.
        annotation_names: how an error names each of them.
    """

    image_id: int
    width: int | None = None
    height: int | None = None
    annotations: list[dict] | None = None
    annotation_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RelativeBoxes(Boxes):
    """The same with each `bbox` in shares of the image's width and height, 0..1, and no `area`: pixels come later."""


@dataclass(frozen=True)
class CodedMask:
    """A mask file that need not hold its ids as training reads them.

    Attributes:
        source: the PNG.
        codes: value of a pixel -> class id or 255; None: values are ids. Of `coloured` ones, 0xRRGGBB.
        coloured: whether pixels are compared by their colours, or by what is stored (a palette's indices).
    """

    source: Source
    codes: tuple[tuple[int, int], ...] | None = None
    coloured: bool = False


Label = int | Boxes | Source | CodedMask | None
"""A class id, boxes, a mask file, or nothing."""


@dataclass(frozen=True)
class Sample:
    """An image that is to be written, if its pixels turn out sound.

    Attributes:
        image: the file.
        label: what it shows.
        name: of the image in its split, where that is not the bare file name: a path with slashes.
    """

    image: Source
    label: Label
    name: str = ""

    @property
    def file_name(self) -> str:
        """Name of the image file, unique in its split up to the extension."""
        return self.name or self.image.path.name


@dataclass
class SplitPlan:
    """What a split is to hold.

    Attributes:
        labelled: whether the samples have labels.
        samples: in their natural order.
        rejected: image files found, but not to be written.
        unmatched: label entries without a file.
    """

    labelled: bool
    samples: list[Sample] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)


@dataclass
class TaskPlan:
    """What a task is to hold; `splits` lists those present, `notes` says in words what is absent."""

    task: str
    layout: str
    classes: list[ClassInfo]
    splits: dict[str, SplitPlan]
    notes: list[str] = field(default_factory=list)


class Layout(Protocol):
    """A module of this package."""

    EXPECTS: str
    plan_task: Callable[..., TaskPlan | None]


def load_layout(name: str) -> Layout:
    """The layout of that name; `UserError` names those there are."""
    if name not in LAYOUTS:
        raise UserError(f"--layout {name}: unknown, choose one of {', '.join(LAYOUTS)}")
    return cast(Layout, import_module(LAYOUTS[name]))


def check_choices(layout: Layout, name: str, choices: Iterable[str]) -> None:
    """See that a layout has options of these names; `UserError` says which it has."""
    known: dict[str, str] = getattr(layout, "OPTIONS", {})
    for choice in choices:
        if choice not in known:
            there = "; ".join(f"{option}: {meaning}" for option, meaning in known.items()) or "none"
            raise UserError(f"--layout-option {choice}: no option of the layout {name}, which has {there}")
