"""Samples of every task on one self-contained HTML page, with the tables beside them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shards.viewing.figures import SplitFigures
from shards.viewing.sheet import tile_shape, title
from shards.viewing.tables import (
    HEADER,
    LEGEND,
    UNIT,
    by_task,
    class_table,
    count_text,
    notes,
    split_row,
)
from shards.viewing.tiles import Tile, choose, draw_tile
from ufo_ds.drawing import box_colours, mask_colours
from ufo_ds.errors import printable
from ufo_ds.files import replace_file

_TEMPLATE = "page.html.j2"
_TILE_WIDTH = {"cls": 320, "det": 480, "seg": 420}
"""Pixels: about twice those on the page, for fine screens."""
_QUALITY = 85
_NAMES = {"cls": "Classification", "det": "Detection", "seg": "Segmentation"}


def write_page(out: Path, figures: Sequence[SplitFigures], count: int, seed: int) -> Path:
    """Write the page: all splits in numbers, and of each task `count` samples of its first split.

    Returns:
        `out`.

    Raises:
        UserError: a shard cannot be read, or `out` cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    groups = by_task(figures)
    page = environment.get_template(_TEMPLATE).render(
        title=f"Shards in {printable(str(figures[0].shards.root))}",
        header=HEADER,
        rows=[split_row(item) for item in figures],
        legend=LEGEND,
        notes=[line for group in groups for line in notes(group)],
        tasks=[_task(group, count, seed) for group in groups],
    )
    replace_file(out, page.encode("utf-8", errors="replace"))
    return out


def _task(group: list[SplitFigures], count: int, seed: int) -> dict[str, Any]:
    first, task = group[0], group[0].meta.task
    numbers = choose(len(first.shards), count, seed)
    shape = tile_shape(first, _TILE_WIDTH[task])
    return {
        "name": task,
        "heading": _NAMES[task],
        "title": title(first, len(numbers), seed),
        "unit": UNIT[task],
        "classes": first.meta.num_classes,
        **_classes(group),
        "aspect": f"{shape[0]} / {shape[1]}",
        "least": 300 if task == "det" and shape[1] < 0.75 * shape[0] else 200,
        "tiles": [_picture(draw_tile(first, number, *shape)) for number in numbers],
    }


def _classes(group: list[SplitFigures]) -> dict[str, Any]:
    """Rows of the class table; a bar shows the first split's count next to the largest."""
    meta, table = group[0].meta, class_table(group)
    colours = {"det": box_colours, "seg": mask_colours}.get(meta.task)
    tints = colours(meta.num_classes).tolist() if colours else None
    most = max((row[1][0] for row in table.rows if row), default=0) or 1
    rows = [
        {
            "id": meta.classes[row[0]].id,
            "name": printable(meta.classes[row[0]].name),
            "counts": [count_text(meta.task, value) for value in row[1]],
            "bar": f"{100 * row[1][0] / most:.1f}",
            "colour": "#{:02x}{:02x}{:02x}".format(*tints[row[0]]) if tints else None,
        }
        if row
        else None
        for row in table.rows
    ]
    ignored = [count_text(meta.task, value) for value in table.ignored]
    return {"splits": table.splits, "rows": rows, "hidden": table.hidden, "ignored": ignored}


def _picture(tile: Tile) -> dict[str, Any]:
    return {
        "uri": _data_uri(tile.picture) if tile.picture is not None else None,
        "file_name": printable(tile.file_name),
        "caption": printable(tile.caption),
    }


def _data_uri(picture: np.ndarray) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
