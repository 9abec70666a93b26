"""Figures of splits as tables of text: cells for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from shards.summary import print_table
from shards.viewing.figures import MOST_HEADERS, SplitFigures
from ufo_ds.errors import printable

ALL_CLASSES, MOST, RAREST = 60, 20, 5
"""Up to so many classes are all listed; of more, those with most and those with fewest samples."""
UNIT = {"cls": "images", "det": "boxes", "seg": "% of pixels"}
HEADER = ("task", "split", "samples", "shards", "MB", "rejected", "labelled", "width", "height", "boxes/image",
          "box side px")  # fmt: skip
LEGEND = ("width, height, boxes/image: min / median / max; box side is sqrt(w x h): "
          "5 % / median / 95 %; MB are 10^6 bytes")  # fmt: skip


@dataclass(frozen=True)
class ClassTable:
    """Classes of a task with their counts a split.

    Attributes:
        task: `cls`, `det` or `seg`.
        splits: names of the columns.
        rows: class index and a count for each split (seg: percent); None stands for the classes between.
        hidden: how many classes that is.
        ignored: percent of the pixels that do not count, for each split (seg).
    """

    task: str
    splits: list[str]
    rows: list[tuple[int, list[float]] | None]
    hidden: int = 0
    ignored: list[float] = field(default_factory=list)


def by_task(figures: Iterable[SplitFigures]) -> list[list[SplitFigures]]:
    """The splits of each task together."""
    return [list(group) for _, group in groupby(figures, key=lambda item: item.meta.task)]


def print_tables(figures: Sequence[SplitFigures]) -> None:
    """Print the splits, then the classes of each task."""
    print_table([HEADER, *(split_row(item) for item in figures)])
    print(LEGEND)
    for group in by_task(figures):
        for line in notes(group):
            print(f"note: {line}")
        table = class_table(group)
        if table.splits:
            _print_classes(group[0], table)


def split_row(item: SplitFigures) -> tuple[str, ...]:
    """The cells under `HEADER`."""
    split, sizes = item.split, np.array(item.sizes or [(0, 0)])
    extent = [_spread(sizes[:, i], (0, 50, 100)) if item.sizes else "-" for i in (0, 1)]
    boxes = _spread(item.boxes, (0, 50, 100)) if item.boxes else ""
    sides = _spread(item.sides, (5, 50, 95)) if item.sides else ""
    return (item.meta.task, item.name, f"{split.samples:,}", str(len(split.shards)), f"{item.bytes / 1e6:,.1f}",
            str(len(split.rejected)), "yes" if split.labelled else "no", *extent, boxes, sides)  # fmt: skip


def notes(group: Sequence[SplitFigures]) -> list[str]:
    """What the figures of a task's splits leave out."""
    lines = []
    for item in group:
        total, where = item.split.samples, f"{item.meta.task} {item.name}"
        if total > MOST_HEADERS:
            lines.append(f"{where}: widths and heights of {MOST_HEADERS:,} of {total:,} images, evenly spread")
        if item.meta.task == "seg" and item.masks and item.masks + item.unreadable < total:
            lines.append(f"{where}: pixels of {item.masks:,} of {total:,} masks, evenly spread")
        if item.unreadable:
            lines.append(f"{where}: {item.unreadable} images or labels cannot be read; --verify names them")
    return lines


def class_table(group: Sequence[SplitFigures]) -> ClassTable:
    """The classes of a task: all of them in the order of their ids, or the most and the least frequent."""
    labelled = [item for item in group if item.split.labelled]
    columns = [_shares(item) if item.meta.task == "seg" else item.counts for item in labelled]
    names, task = [item.name for item in labelled], group[0].meta.task
    if not columns:
        return ClassTable(task, [], [])
    counts = np.stack(columns, axis=1)
    ignored = [100 * item.ignored / _pixels(item) for item in labelled] if task == "seg" else []
    rows = [(index, values.tolist()) for index, values in enumerate(counts)]
    if len(rows) <= ALL_CLASSES:
        return ClassTable(task, names, list(rows), 0, ignored)
    # By the first split, which is the training's where there is one.
    order = np.argsort(-counts[:, 0], kind="stable").tolist()
    shown = [rows[i] for i in order[:MOST]], [rows[i] for i in order[-RAREST:]]
    return ClassTable(task, names, [*shown[0], None, *shown[1]], len(rows) - MOST - RAREST, ignored)


def count_text(task: str, value: float) -> str:
    """A count, or a share in percent."""
    if task != "seg":
        return f"{value:,.0f}"
    return "0" if not value else f"{value:.2f}" if value >= 0.005 else "<0.01"


def _shares(item: SplitFigures) -> np.ndarray:
    return 100 * item.counts / _pixels(item)


def _pixels(item: SplitFigures) -> float:
    return max(1.0, item.counts.sum() + item.ignored)


def _spread(values: Sequence[float] | np.ndarray, percentiles: tuple[int, ...]) -> str:
    return " / ".join(f"{value:.0f}" for value in np.percentile(values, percentiles))


def _print_classes(first: SplitFigures, table: ClassTable) -> None:
    meta = first.meta
    rows = [("id", f"{meta.task} class", *table.splits)]
    for row in table.rows:
        if row is None:
            rows.append(("", f"... {table.hidden} classes between", *([""] * len(table.splits))))
        else:
            info = meta.classes[row[0]]
            rows.append((str(info.id), printable(info.name), *(count_text(meta.task, value) for value in row[1])))
    if table.ignored:
        rows.append(("255", "(ignored)", *(count_text(meta.task, value) for value in table.ignored)))
    print(f"\n{meta.task}: {UNIT[meta.task]} a class")
    print_table(rows)

