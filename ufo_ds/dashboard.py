"""The project's wandb workspace as code: which panels stand in which section, and how it is checked and saved.

The layout below is plain data that needs no package; `wandb-workspaces` turns it into a workspace, offline. Only
`save` talks to wandb. The names of the numbers are those of `tracking.flatten`, over the axis `step`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ufo_ds.errors import UserError
from ufo_ds.files import replace_file

__all__ = ["LAYOUT", "Pictures", "Plot", "Section", "build", "describe", "publish", "save", "to_json", "why_not_saved"]

TASKS = {"cls": "Classification", "det": "Detection", "seg": "Segmentation"}
PAIRS = ("cls-det", "cls-seg", "det-seg")
X_AXIS = "step"
"""The axis that the tracker defines: wandb's own counter does not survive a resume."""

_SMOOTHING = {"smoothing_type": "exponentialTimeWeighted", "smoothing_show_original": True}


# ---- the layout ----
#
# No colours: wandb keys them by run and metric ("{run id}:{name}"), so that a layout for runs to come has none.


@dataclass(frozen=True)
class Plot:
    """Lines over the steps: `names`, or all that match `pattern` (from start to end), which may grow by run."""

    title: str
    names: tuple[str, ...] = ()
    unit: str = ""
    pattern: str | None = None
    log: bool = False
    low: float | None = None
    high: float | None = None
    smooth: float = 0.0
    """Weight 0..1 of the running mean; 0: none. The raw line stays, faint."""


@dataclass(frozen=True)
class Pictures:
    """Images logged under `names`."""

    title: str
    names: tuple[str, ...]
    columns: int = 2


@dataclass(frozen=True)
class Section:
    """One foldable part of the workspace, its panels in rows from left to right."""

    title: str
    panels: tuple[Plot | Pictures, ...]
    columns: int = 3
    rows: int = 1
    is_open: bool = True


def _each_task(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}/{task}" for task in TASKS)


def _pair(name: str) -> str:
    return " and ".join(TASKS[task].lower() for task in name.split("-"))


_SCORES = Section("Scores", columns=2, rows=2, panels=(
    Plot("Average", ("val/average",), "of the tasks' main figures", low=0),
    Plot("Classification", ("val/cls/top1",), "share", low=0),
    Plot("Detection", ("val/det/mAP50", "val/det/mAP"), "average precision", low=0),
    Plot("Segmentation", ("val/seg/mIoU", "val/seg/mIoU_present"), "mean IoU", low=0),
))

_LOSSES = Section("Losses", columns=3, rows=2, panels=(
    *(Plot(title, (f"train/loss/{task}",), "loss", smooth=0.6) for task, title in TASKS.items()),
    # Which parts there are is the head's affair; classification has none.
    *(Plot(f"{TASKS[task]}, parts", pattern=f"train/{task}/.+", unit="part of the loss", smooth=0.6)
      for task in ("det", "seg")),
))

_TASK_GRADIENTS = Section("Task gradients", columns=3, rows=3, panels=(
    *(Plot(f"Cosine, {_pair(pair)}", (f"surgery/cosine/{pair}",), "below 0: they conflict", smooth=0.8)
      for pair in PAIRS),
    Plot("Conflicts", ("surgery/conflicts",), "share of the pairs", low=0, high=1, smooth=0.8),
    Plot("Gradient norm of each task", _each_task("surgery/grad_norm"), "norm, log scale", log=True, smooth=0.6),
    Plot("Largest to smallest norm", ("surgery/norm_ratio",), "ratio, log scale", log=True, smooth=0.6),
    Plot("Weight of each task", _each_task("surgery/weight"), "in the combined gradient", low=0, smooth=0.6),
    Pictures("Conflicts over time", ("surgery/conflicts_over_time",), columns=1),
    Plot("Steps without weights", ("surgery/solver_failed",), "1: the plain sum was taken", low=0, high=1),
))

_BY_DEPTH = Section("By depth", columns=3, rows=2, panels=(
    # One line a block, as many as the trunk has.
    *(Plot(f"Cosine by block, {_pair(pair)}", pattern=f"surgery/blocks/.+/cosine/{pair}",
           unit="below 0: they conflict", smooth=0.8) for pair in PAIRS),
    Plot("Conflicts by block", pattern="surgery/blocks/.+/conflicts", unit="share of the pairs", low=0, high=1,
         smooth=0.8),
    Pictures("Conflicts over depth", ("surgery/conflicts_over_depth",), columns=1),
))

_PICTURES = Section("Pictures", columns=3, panels=tuple(
    Pictures(title, (f"pictures/{task}",)) for task, title in TASKS.items()))

_SPEED = Section("Optimiser and speed", columns=3, rows=2, is_open=False, panels=(
    Plot("Learning rate", ("train/lr",), "rate", low=0),
    Plot("Combined gradient", ("train/grad_norm",), "norm, log scale", log=True, smooth=0.6),
    Plot("Epochs seen", _each_task("train/epoch"), "passes over a task's data", low=0),
    Plot("Throughput", ("perf/images_per_s",), "images/s", low=0, smooth=0.6),
    Plot("Time of a step", ("perf/step_s", "perf/data_s"), "s, in all and waiting for data", low=0, smooth=0.6),
    Plot("Memory", ("perf/memory_mb",), "MiB of rank 0", low=0),
))

LAYOUT = (_SCORES, _LOSSES, _TASK_GRADIENTS, _BY_DEPTH, _PICTURES, _SPEED)

_COLUMNS = ("val/average", "val/cls/top1", "val/det/mAP50", "val/seg/mIoU")
"""Beside each run's name in the list of runs."""


# ---- as a workspace ----


def build(project: str, name: str, entity: str = "") -> Any:
    """The layout as a `wandb_workspaces` workspace, checked; nothing is sent.

    Args:
        project: the wandb project that it is for.
        name: what the workspace is called.
        entity: who owns the project. "" while nobody is known; `save` then asks wandb.

    Raises:
        UserError: the package is absent, wandb does not allow a name, or the package does not read back what it wrote.
    """
    if not project.strip() or len(project) > 128 or any(sign in "/\\#?%:" for sign in project):
        raise UserError(f"--project {project!r}: wandb wants 1 to 128 characters without / \\ # ? % :")
    ws, wr = _packages()
    try:
        workspace = ws.Workspace(
            entity=entity, project=project, name=name,
            sections=[_section(ws, wr, section) for section in LAYOUT],
            settings=ws.WorkspaceSettings(x_axis=X_AXIS),
            runset_settings=ws.RunsetSettings(pinned_columns=[f"summary:{column}" for column in _COLUMNS]),
        )
        _check(ws, workspace)
    except ValueError as error:  # pydantic's ValidationError is one
        raise UserError(f"wandb-workspaces does not take the layout or the name {name!r}: {error}") from None
    return workspace


def _packages() -> tuple[Any, Any]:
    # Read when wandb is imported: what there is to say is said here, in one line.
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(f"wandb-workspaces cannot be imported ({error}); pip install 'ufo-ds[dashboard]'") from None
    return ws, wr


def _section(ws: Any, wr: Any, section: Section) -> Any:
    return ws.Section(
        name=section.title, is_open=section.is_open, panels=[_panel(wr, panel) for panel in section.panels],
        layout_settings=ws.SectionLayoutSettings(columns=section.columns, rows=section.rows),
        panel_settings=ws.SectionPanelSettings(x_axis=X_AXIS),
    )


def _panel(wr: Any, panel: Plot | Pictures) -> Any:
    if isinstance(panel, Pictures):
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.names), num_columns=panel.columns)
    return wr.LinePlot(
        title=panel.title, x=X_AXIS, y=list(panel.names), title_x=X_AXIS, title_y=panel.unit,
        metric_regex=f"^{panel.pattern}$" if panel.pattern else None, log_y=panel.log or None,
        range_y=(panel.low, panel.high),
        **({"smoothing_factor": panel.smooth, **_SMOOTHING} if panel.smooth else {"smoothing_type": "none"}),
    )


def _check(ws: Any, workspace: Any) -> None:
    """Read back what would be sent, by the package's own strict models: nothing may get lost on the way."""
    from wandb_workspaces.workspaces import internal

    sent = to_json(workspace)
    again = ws.Workspace._from_model(internal.View.model_validate(sent))
    if to_json(again) != sent:
        raise ValueError("it reads back something else than it wrote")


def to_json(workspace: Any) -> dict[str, Any]:
    """What `save` would send, as plain JSON values; `spec` is the layout."""
    # The package has no public word for it; setup.cfg holds it below the next minor version.
    return workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def describe() -> str:
    """How many sections and panels there are, in a few words."""
    counts = ", ".join(f"{section.title} {len(section.panels)}" for section in LAYOUT)
    return f"{len(LAYOUT)} sections, {sum(len(section.panels) for section in LAYOUT)} panels ({counts})"


# ---- to wandb ----


def why_not_saved() -> str | None:
    """What keeps this machine from wandb, and the remedy; None: there is a key. Asks nobody."""
    if not _has_key():
        return "there is no wandb key here; set WANDB_API_KEY or run `wandb login`, then run this again"
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "disabled"):
        return f"WANDB_MODE is {mode}; unset it, then run this again"
    return None


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    try:
        from wandb.sdk.lib import wbauth

        settings = wandb.setup().settings
        return bool(settings.api_key or wbauth.read_netrc_auth(host=settings.base_url))
    except wandb.errors.AuthenticationError:
        return True  # a key of the wrong form: saving says so
    except (ImportError, AttributeError, TypeError):
        return False  # a wandb with other internals: only the environment tells


def save(workspace: Any) -> str:
    """Save as a new view of its project, and give its address.

    Raises:
        UserError: wandb cannot be reached, or refuses.
    """
    try:
        if not workspace.entity:
            import wandb

            api = wandb.Api()
            workspace.entity = os.environ.get("WANDB_ENTITY") or api.settings.get("entity") or api.default_entity or ""
        if not workspace.entity:
            raise ValueError("it names no entity for this key")
        workspace.save()
        return workspace.url
    except Exception as error:  # the package passes on whatever its transport raises
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"wandb: not saved ({text}); check the network, the key, and that {workspace.project!r} is a "
                        "project of --entity, which its first run makes it") from None


def publish(project: str, name: str, entity: str = "", out: Path | None = None, check: bool = False) -> str:
    """Build and check the workspace, write it to `out`, save it where there is a key; what was done, in one line."""
    workspace = build(project, name, entity)
    told = f"{name!r} for project {project!r}: {describe()} built and checked"
    if out:
        replace_file(out, json.dumps(to_json(workspace), indent=1) + "\n")
        told += f"; written to {out}"
    reason = "--check was given" if check else why_not_saved()
    return f"{told}; not saved: {reason}" if reason else f"{told}; saved: {save(workspace)}"
