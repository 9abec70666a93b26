"""Reads a run directory for the report: the log as columns, scores, recipe, environment, classes, pictures.

Whatever is absent or broken reads as nothing: a run that died early deserves a report most of all.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from ufo_ds.columns import BLOCKS, flatten
from ufo_ds.environment import ENVIRONMENT_NAME
from ufo_ds.errors import UserError
from ufo_ds.tracking import LOG_NAME

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
LARGE_FILE = 200_000
"""Picture files above this many bytes are made smaller for the page."""
LARGE_SIDE = 1280
"""Pixels of the longer side to which they shrink."""
_LAST_STEP = 10**15  # beyond it floats, which the axes count in, skip steps


@dataclass
class RunLog:
    """The log as columns.

    Attributes:
        steps: int64 [N], ascending.
        columns: float64 [N] by name, as `columns.flatten` names them, those of blocks float32; NaN where a
            step has no such value.
        unreadable: lines that were left out.
    """

    steps: np.ndarray
    columns: dict[str, np.ndarray]
    unreadable: int

    def __len__(self) -> int:
        return len(self.steps)

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The columns whose name begins with `prefix`, by the rest of their name."""
        found = [name for name in self.columns if name.startswith(prefix)]
        return {name[len(prefix) :]: self.columns[name] for name in found}

    def get(self, name: str) -> np.ndarray:
        """A column; all NaN where it was never logged."""
        return self.columns.get(name, np.full(len(self.steps), np.nan))


@dataclass
class Evaluation:
    """The figures after a step: `figures[task][name]`, and their average over the tasks."""

    step: int | None
    figures: dict[str, dict[str, float]]
    average: float


@dataclass
class Picture:
    """A picture of the gallery: file name, bytes, type (`image/jpeg`), height and width, caption."""

    name: str
    data: bytes
    mime: str
    shape: tuple[int, int]
    caption: str


@dataclass
class RunRecord:
    """What a run directory holds."""

    name: str
    log: RunLog
    evaluations: list[Evaluation]
    recipe_text: str
    recipe: dict[str, Any]
    environment: dict[str, Any]
    classes: dict[str, list[tuple[int, str]]]
    gallery: dict[str, list[Picture]]

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the highest average."""
        return max(self.evaluations, key=lambda item: item.average, default=None)


def read_run(run_dir: Path) -> RunRecord:
    """Read a run directory. `UserError` where there is none."""
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such run directory; give the --run of the training")
    log = read_log(run_dir / LOG_NAME)
    evaluations = _evaluations(log)
    # The log has every evaluation; without it scores.json has the last one.
    if not evaluations and (last := read_scores(_read_json(run_dir / "scores.json"))):
        evaluations = [last]
    recipe_text = _read_text(run_dir / "recipe.yaml")
    return RunRecord(
        name=run_dir.resolve().name, log=log, evaluations=evaluations,
        recipe_text=recipe_text, recipe=_parse_recipe(recipe_text),
        environment=_object(_read_json(run_dir / ENVIRONMENT_NAME)),
        classes=_read_classes(run_dir), gallery=_read_gallery(run_dir / "gallery"),
    )


# ---- the log ----


def read_log(path: Path) -> RunLog:
    """Read a log as columns; lines that are not a step's object are counted and left out."""
    steps, columns = array("q"), {}
    unreadable = 0
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    values = {name: float(value) for name, value in flatten(row).items()}
                    # A step at or below the last is no step of this log; the axes need ascending ones.
                    known = _LAST_STEP > (step := int(row["step"])) > (steps[-1] if steps else -1)
                except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError):
                    known = False
                if not known:
                    unreadable += 1
                    continue
                _append(columns, len(steps), values)
                steps.append(step)
    full = {name: np.pad(np.asarray(column), (0, len(steps) - len(column)), constant_values=np.nan)
            for name, column in columns.items()}
    return RunLog(np.asarray(steps, np.int64), full, unreadable)


def _append(columns: dict[str, array], row: int, values: Mapping[str, float]) -> None:
    """Add a row; a column that earlier rows did not have is NaN there."""
    for name, value in values.items():
        # Blocks have dozens of columns, for which single precision does.
        column = columns.get(name)
        if column is None:
            column = columns[name] = array("f" if name.startswith(BLOCKS) else "d")
        if missing := row - len(column):
            column.extend([np.nan] * missing)
        column.append(value)


# ---- scores ----


def _evaluations(log: RunLog) -> list[Evaluation]:
    columns = log.under("val/")
    if not columns:
        return []
    rows = np.flatnonzero(np.isfinite(np.stack(list(columns.values()))).any(axis=0))
    return [_evaluation(int(log.steps[row]), {name: float(values[row]) for name, values in columns.items()})
            for row in rows]


def _evaluation(step: int | None, values: Mapping[str, float]) -> Evaluation:
    figures: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        task, _, figure = name.partition("/")
        if figure and np.isfinite(value):
            figures.setdefault(task, {})[figure] = float(value)
    average = values.get("average", np.nan)
    if not np.isfinite(average):
        average = np.mean([next(iter(item.values())) for item in figures.values()]) if figures else 0.0
    return Evaluation(step, figures, float(average))


def read_scores(value: Any) -> Evaluation | None:
    """An object `{"step", "val": {task: {figure: x}, "average"}}` -> an evaluation; None where it is none."""
    value = _object(value)
    step = value.get("step")
    try:
        flat = {name.removeprefix("val/"): x for name, x in flatten({"val": value.get("val", value)}).items()}
    except (TypeError, AttributeError):
        return None
    evaluation = _evaluation(step if isinstance(step, int) else None, flat)
    return evaluation if evaluation.figures else None


# ---- the rest ----


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path) or "null")
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _parse_recipe(text: str) -> dict[str, Any]:
    try:
        return _object(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return {}


def _read_classes(run_dir: Path) -> dict[str, list[tuple[int, str]]]:
    """Class ids and names by task, as they stand beside the weights."""
    for kind in ("best", "last"):
        tasks = _object(_object(_read_json(run_dir / "weights" / kind / "config.json")).get("tasks"))
        with contextlib.suppress(TypeError, KeyError, ValueError):
            classes = {str(name): [(int(item["id"]), str(item["name"])) for item in task["classes"]]
                       for name, task in tasks.items()}
            if classes:
                return classes
    return {}


def _read_gallery(folder: Path) -> dict[str, list[Picture]]:
    """Pictures by task, in the order of their file names; files that are no picture are left out."""
    gallery = {}
    for task_folder in sorted(path for path in folder.glob("*") if path.is_dir()):
        captions = _object(_read_json(task_folder / "captions.json"))
        paths = sorted(path for path in task_folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
        pictures = [_read_picture(path, str(captions.get(path.name, ""))) for path in paths]
        gallery[task_folder.name] = [picture for picture in pictures if picture]
    return gallery


def _read_picture(path: Path, caption: str) -> Picture | None:
    try:
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except (OSError, cv2.error):
        return None
    if image is None:
        return None
    if len(data) > LARGE_FILE:
        factor = min(1.0, LARGE_SIDE / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    mime = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    return Picture(path.name, data, mime, image.shape[:2], caption)
