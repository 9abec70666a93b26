"""Training samples as the network gets them, drawn with their labels: what one looks at to set augmentation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from ufo_ds.assembly import read_metas
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.stream import TaskStream
from ufo_ds.distributed import Ranks
from ufo_ds.drawing import SLATE, strip
from ufo_ds.errors import UserError
from ufo_ds.files import replace_file
from ufo_ds.recipe import Recipe
from ufo_ds.recipe.plain import closing_step
from ufo_ds.tasks import get_task
from ufo_ds.training.batches import fit_batches
from ufo_ds.training.mixing import Mixer
from ufo_ds.training.streams import make_streams, steps_of

WIDTH, COLUMNS, GAP = 1280, 4, 8
"""Of a sheet; pixels."""
TITLE_SIZE, NAME_SIZE = 20, 13
QUALITY = 82
SUFFIXES = (".jpg", ".jpeg", ".png")
MOST = 400
"""Pictures on a sheet."""


def write_preview(
    recipe: Recipe, out: Path, *, task: str | None = None, images: int = 16, step: int = 1, world: int = 1
) -> list[Path]:
    """Draw what rank 0 trains on from a step on, a sheet a task.

    Args:
        recipe: of the run.
        out: picture to write; for several tasks one each, with the task's name before the suffix.
        task: name; None: every task of the recipe.
        images: samples a task; batches that follow `step` fill them up.
        step: of the run, from 1.
        world: ranks of the run, between which its batches are divided.

    Returns:
        What was written.

    Raises:
        UserError: what is asked for is not there, samples that cannot be read, `out` cannot be written.
    """
    _check(out, images, step, world)
    metas = read_metas(recipe)
    if task is not None and task not in metas:
        raise UserError(f"--task {task}: this run trains {', '.join(metas)}")
    for note in fit_batches(recipe, metas, world):
        print(f"note: {note}", file=sys.stderr)
    # Batches do not depend on who reads them; for a few, a reader process would start longer than it reads.
    recipe = replace(recipe, data=replace(recipe.data, workers=0))
    recipe.train = replace(recipe.train, steps=recipe.train.steps or steps_of(recipe, metas, world))
    if step > recipe.train.steps:
        raise UserError(f"--step {step}: the run ends with step {recipe.train.steps} (keys train.steps, train.epochs)")
    chosen = {name: meta for name, meta in metas.items() if task in (None, name)}
    streams = make_streams(recipe, chosen, Ranks(0, world, 0, 1), (step - 1) * recipe.train.accumulate)
    mixer, written = Mixer(recipe, chosen, 0), []
    for name, stream in streams.items():
        with stream:
            sheet = _sheet(_title(recipe, name, step, world), _tiles(stream, mixer, chosen[name], images))
        path = out if len(streams) == 1 else out.with_name(f"{out.stem}-{name}{out.suffix}")
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix.lower() != ".png" else []
        replace_file(path, cv2.imencode(path.suffix, sheet[..., ::-1], options)[1].tobytes())
        written.append(path)
    return written


def _check(out: Path, images: int, step: int, world: int) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: name a picture, {' or '.join(SUFFIXES)}")
    if not 1 <= images <= MOST:
        raise UserError(f"--images {images}: must be in 1..{MOST}")
    for option, value in (("step", step), ("ranks", world)):
        if value < 1:
            raise UserError(f"--{option} {value}: must be 1 or more")


def _title(recipe: Recipe, name: str, step: int, world: int) -> str:
    closing = step > closing_step(recipe.train)
    return f"{name} from step {step}, rank 0 of {world}" + (", without strong augmentation" if closing else "")


def _tiles(stream: TaskStream, mixer: Mixer, meta: TaskMeta, count: int) -> Iterator[np.ndarray]:
    """`count` samples drawn, each above its file's name."""
    draw = get_task(meta.task).example_picture
    while count > 0:
        number = stream.step
        batch = mixer(next(stream), number)
        for image, target, source in list(zip(batch.images, batch.targets, batch.sources, strict=True))[:count]:
            yield _tile(draw(_pixels(image), target, meta), source)
        count -= len(batch.sources)


def _pixels(image: Tensor) -> np.ndarray:
    """[3, H, W] of 0..255 -> uint8 [H, W, 3]; floats, which mixing makes, are rounded."""
    whole = image.round().byte() if image.is_floating_point() else image
    return np.ascontiguousarray(whole.permute(1, 2, 0).cpu().numpy())


def _tile(picture: np.ndarray, source: dict[str, Any]) -> np.ndarray:
    width = (WIDTH - GAP * (COLUMNS + 1)) // COLUMNS
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    way = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    return np.vstack([cv2.resize(picture, (width, height), interpolation=way),
                      strip(width, source["file_name"], size=NAME_SIZE)])  # fmt: skip


def _sheet(title: str, tiles: Iterator[np.ndarray]) -> np.ndarray:
    """Tiles of one width in rows under a title, RGB uint8 [H, WIDTH, 3]."""
    rows, drawn = [strip(WIDTH, title, size=TITLE_SIZE)], list(tiles)
    for first in range(0, len(drawn), COLUMNS):
        row = drawn[first : first + COLUMNS]
        canvas = np.full((max(tile.shape[0] for tile in row) + GAP, WIDTH, 3), SLATE, np.uint8)
        for place, tile in enumerate(row):
            left = GAP + place * (tile.shape[1] + GAP)
            canvas[: tile.shape[0], left : left + tile.shape[1]] = tile
        rows.append(canvas)
    return np.vstack(rows)
