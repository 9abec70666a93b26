"""The one place that talks to the local log, to wandb and to the terminal, on rank 0 only.

`RUN/log.jsonl` holds one JSON object a step (`docs/design.md`, Log), in ascending order of steps. JSON knows
no NaN: a value that is not finite stands as `null` and its key stays, so that a diverged loss is seen.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ufo_ds.columns import flatten
from ufo_ds.environment import write_environment
from ufo_ds.errors import UserError
from ufo_ds.files import replace_file
from ufo_ds.redaction import without_secrets
from ufo_ds.terminal import Terminal

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LOG_NAME", "Tracker", "cut_log", "flatten", "to_json", "write_environment"]

LOG_NAME = "log.jsonl"

_WANDB_ID = "ufo-run-id"
_SETTINGS = {"silent": True, "console": "off", "init_timeout": 45, "login_timeout": 45, "finish_timeout": 300}
"""wandb's own settings, times in seconds; those that the installed version does not know are left out."""


class Tracker:
    """Records what a run does. Every method is free of effect on other ranks than the first.

    wandb is a mirror and never a condition: where it is absent, unreachable or raises, one warning is printed
    and the run goes on with the local log.

    Args:
        run_dir: the run directory; made if absent.
        total_steps: steps of the whole run, those before a resume included.
        tasks: task names, in the order of the terminal's line.
        config: the resolved recipe, for wandb.
        enabled: whether this is the rank that records.
        wandb_mode: `auto`, `online`, `offline` or `disabled`. `auto` obeys `WANDB_MODE`, else is online where
            `WANDB_API_KEY` is set and offline where not.
        project: wandb project.
        name: wandb run name; None: the run directory's name.
        start_step: the last step that the resumed checkpoint has seen. Later lines of an earlier log are cut
            off, with 0 all of them.
    """

    def __init__(self, run_dir: Path, *, total_steps: int, tasks: Sequence[str], config: Mapping[str, Any],
                 enabled: bool, wandb_mode: str = "auto", project: str = "ufo-ds", name: str | None = None,
                 start_step: int = 0) -> None:
        self.enabled = enabled
        self._last_step = start_step
        self._wandb: _Wandb | None = None
        if not enabled:
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        cut_log(run_dir / LOG_NAME, start_step)
        self._log = (run_dir / LOG_NAME).open("a", encoding="utf-8")
        self._terminal = Terminal(total_steps, start_step, tasks)
        mode = _resolve_mode(wandb_mode)
        if mode != "disabled":
            config = without_secrets(to_json(config))
            options = {"project": project, "name": name or run_dir.resolve().name, "config": config}
            self._wandb = _Wandb(run_dir, mode, start_step > 0, options, self.note)

    def log(self, record: Mapping[str, Any]) -> None:
        """Record one step.

        Args:
            record: the step's object as in `docs/design.md`. Numbers may be Python's, numpy's or 0-d tensors,
                matrices nested lists or arrays.

        Raises:
            UserError: the log cannot be written.
        """
        if not self.enabled:
            return
        row = to_json(record)
        assert row["step"] > self._last_step, f"step {row['step']} after step {self._last_step}"
        self._last_step = row["step"]
        try:
            self._log.write(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")
            self._log.flush()
        except OSError as error:  # a torn line is cut off by the next start
            raise UserError(
                f"{self._log.name}: cannot be written ({error.strerror}); make room and --resume goes on"
            ) from None
        self._terminal.show(row)
        if self._wandb:
            self._wandb.log(row["step"], flatten(row))

    def images(self, step: int, pictures: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Show pictures (RGB uint8 [H, W, 3]) by task in wandb, and the conflicts of the task gradients so far."""
        if self.enabled and self._wandb:
            self._wandb.images(step, pictures)

    def note(self, text: str) -> None:
        """Print a line, above the progress bar where there is one."""
        if self.enabled:
            self._terminal.note(text)

    def close(self, failed: bool = False) -> None:
        """End the bar, the log and the wandb run (`failed` marks it so). May be called twice."""
        if not self.enabled or self._log.closed:
            return
        with contextlib.suppress(OSError):  # what could not be written has been told
            self._log.close()
        self._terminal.close()
        if self._wandb:
            self._wandb.finish(failed)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)


# ---- the local log ----


def to_json(value: Any) -> Any:
    """Plain JSON values: arrays and tensors as (nested) lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def cut_log(path: Path, last_step: int) -> None:
    """Cut everything after `last_step` off a log, atomically, and what a kill left half written.

    The resumed run takes these steps again, so that the log stays one object a step in ascending order.
    """
    if not path.exists():
        return
    kept, before = [], 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            step = _step_of(line)
            if before < step <= last_step:
                kept.append(line)
                before = step
    replace_file(path, "".join(kept))


def _step_of(line: str) -> int:
    """The step of a log line; 0, which no step has, for a torn one."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else 0
    except (ValueError, TypeError, KeyError):
        return 0


# ---- wandb ----


def _resolve_mode(mode: str) -> str:
    if mode != "auto":
        return mode
    told = os.environ.get("WANDB_MODE", "")
    if told in ("online", "offline", "disabled"):
        return told
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"


def _of_one_size(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """White borders right and below, so that wandb can lay a list of pictures out."""
    import numpy as np

    height, width = (max((image.shape[axis] for image in images), default=0) for axis in (0, 1))
    return [
        np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), constant_values=255)
        for image in images
    ]


class _Wandb:
    """A wandb run that never raises: the first failure is told once and ends the mirroring."""

    def __init__(self, run_dir: Path, mode: str, resumed: bool, options: dict[str, Any],
                 warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._run: Any = None
        failure = self._start(run_dir, mode, resumed, options)
        if failure and mode == "online" and self._start(run_dir, "offline", False, options) is None:
            failure += "; recording offline, `wandb sync` uploads it later"
        if failure:
            warn(f"warning: wandb: {failure}")

    def _start(self, run_dir: Path, mode: str, resumed: bool, options: dict[str, Any]) -> str | None:
        """Begin the run, or say in a line why not."""
        # Read when wandb is imported, and by its service process.
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            folder = run_dir / "wandb"
            folder.mkdir(exist_ok=True)
            import wandb

            from ufo_ds.heatmap_picture import ConflictHistory

            self._picture = wandb.Image
            self._history = ConflictHistory()
            # wandb copies the command line as it is.
            settings = {**_SETTINGS, "x_disable_meta": without_secrets(sys.argv) != sys.argv}
            known = {key: value for key, value in settings.items() if key in wandb.Settings.model_fields}
            self._run = wandb.init(
                dir=str(run_dir), mode=mode, id=_run_id(folder / _WANDB_ID, resumed),
                resume="allow" if mode == "online" else None, settings=wandb.Settings(**known), **options,
            )
            # A resumed run repeats steps that wandb has seen; its own counter would drop them, an axis not.
            self._run.define_metric("step", hidden=True)
            self._run.define_metric("*", step_metric="step")
        except Exception as error:
            self._run = None
            return _one_line(error)
        return None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        def send(run: Any) -> None:
            self._history.add(step, values)
            run.log({"step": step, **values})

        self._try(send)

    def images(self, step: int, pictures: Mapping[str, Sequence[np.ndarray]]) -> None:
        def send(run: Any) -> None:
            shown = {f"pictures/{task}": [self._picture(image, file_type="jpg") for image in _of_one_size(images)]
                     for task, images in pictures.items()}
            maps = {f"surgery/{name}": self._picture(image, file_type="png")
                    for name, image in self._history.pictures().items()}
            run.log({"step": step, **shown, **maps})

        self._try(send)

    def finish(self, failed: bool) -> None:
        self._try(lambda run: run.finish(exit_code=1 if failed else 0))
        self._run = None

    def _try(self, action: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            self._run = None
            self._warn(f"warning: wandb: {_one_line(error)}; the rest of the run is not mirrored")


def _run_id(path: Path, resumed: bool) -> str:
    """The wandb id of this run directory: a new one, or on a resume the one it had."""
    if not (resumed and path.exists()):
        path.write_text(os.urandom(5).hex(), encoding="ascii")
    return path.read_text(encoding="ascii")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
