"""Samples of every task on one picture, a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from shards.viewing.figures import SplitFigures
from shards.viewing.tables import by_task
from shards.viewing.tiles import Tile, choose, draw_tile
from ufo_ds.drawing import SLATE, WHITE, mask_colours
from ufo_ds.files import replace_file
from ufo_ds.lettering import shorten, text_width, write

_COLUMNS, _WIDE_COLUMNS = 6, 4
"""The fewer for detection in wide pictures: street scenes with many small boxes."""
_WIDTH, _GAP = 1560, 8
_HEAD, _CAPTION = 44, 24
_TITLE_SIZE, _TEXT_SIZE = 22, 13
_SOFT = (176, 184, 196)


def aspect(item: SplitFigures) -> float:
    """Height over width of a split's typical image."""
    sizes = np.array(item.sizes or [(1, 1)], float)
    return float(np.median(sizes[:, 1] / sizes[:, 0]))


def tile_shape(item: SplitFigures, width: int) -> tuple[int, int]:
    """(width, height) of the tiles of a split in pixels, after the typical aspect of its images."""
    return width, int(np.clip(aspect(item), 0.45, 1.2) * width)


def write_sheet(out: Path, figures: Sequence[SplitFigures], count: int, seed: int) -> Path:
    """Write the sheet: of each task `count` samples of its first split.

    Returns:
        `out`.

    Raises:
        UserError: a shard cannot be read, or `out` cannot be written.
    """
    parts = [_part(group[0], count, seed) for group in by_task(figures)]
    sheet = np.vstack([*parts, np.full((_GAP, _WIDTH, 3), SLATE, np.uint8)])
    data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    replace_file(out, data.tobytes())
    return out


def title(item: SplitFigures, shown: int, seed: int) -> str:
    """What stands above the pictures of a task."""
    label = "" if item.split.labelled else ", without labels"
    return f"{item.meta.task} {item.name}{label}: {shown} of {item.split.samples:,} samples, seed {seed}"


def _part(item: SplitFigures, count: int, seed: int) -> np.ndarray:
    numbers, columns = choose(len(item.shards), count, seed), _COLUMNS
    if item.meta.task == "det" and aspect(item) < 0.75:
        columns = _WIDE_COLUMNS
    width, height = tile_shape(item, (_WIDTH - _GAP * (columns + 1)) // columns)
    head = np.full((_HEAD, _WIDTH, 3), SLATE, np.uint8)
    write(head, title(item, len(numbers), seed), (_GAP, _HEAD - 14), WHITE, _TITLE_SIZE)
    rows = [head, *(_legend(item) if item.meta.task == "seg" and item.split.labelled else [])]
    for start in range(0, len(numbers), columns):
        row = np.full((height + _CAPTION + _GAP, _WIDTH, 3), SLATE, np.uint8)
        for place, number in enumerate(numbers[start : start + columns]):
            cell = _cell(draw_tile(item, number, width, height), width, height)
            left = _GAP + place * (width + _GAP)
            row[: cell.shape[0], left : left + width] = cell
        rows.append(row)
    return np.vstack(rows)


def _cell(tile: Tile, width: int, height: int) -> np.ndarray:
    cell = np.full((height + _CAPTION, width, 3), SLATE, np.uint8)
    if tile.picture is not None:
        h, w = tile.picture.shape[:2]
        top, left = (height - h) // 2, (width - w) // 2
        cell[top : top + h, left : left + w] = tile.picture
    base = height + _CAPTION - 7
    caption = shorten(tile.caption, width - 4, _TEXT_SIZE)
    write(cell, caption, (2, base), WHITE, _TEXT_SIZE)
    used = text_width(caption, _TEXT_SIZE) + 12 if caption else 2
    room = width - used - 2
    if not caption or text_width(tile.file_name, _TEXT_SIZE) <= room:  # half a name finds no file
        write(cell, shorten(tile.file_name, room, _TEXT_SIZE), (used, base), _SOFT, _TEXT_SIZE)
    return cell


def _legend(item: SplitFigures) -> list[np.ndarray]:
    """Names of the classes that occur beside their colours, in as many lines as they take."""
    lines, x = [], _WIDTH
    counted = item.masks == len(item.shards)  # or else a class that was not seen may yet be in a picture
    entries: list[tuple[list[int] | None, str]] = [
        (colour, name)
        for colour, name, pixels in zip(
            mask_colours(item.meta.num_classes).tolist(), item.meta.class_names, item.counts, strict=True
        )
        if pixels or not counted
    ]
    for colour, full in [*entries, (None, "ignored")]:
        name = shorten(full, 200, _TEXT_SIZE)
        wide = 22 + text_width(name, _TEXT_SIZE) + 18
        if x + wide > _WIDTH - _GAP:
            lines.append(np.full((24, _WIDTH, 3), SLATE, np.uint8))
            x = _GAP
        lines[-1][4:19, x : x + 15] = _hatch(15) if colour is None else colour
        write(lines[-1], name, (x + 22, 17), WHITE, _TEXT_SIZE)
        x += wide
    return lines


def _hatch(side: int) -> np.ndarray:
    """A swatch of what `overlay_mask` lays over ignored pixels."""
    rows, columns = np.indices((side, side))
    return np.where((rows + columns) // 4 % 2, 90, 150).astype(np.uint8)[..., None]
