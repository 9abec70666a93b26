"""Which charts a run gets: from the columns of its log to figures, each with what can be said in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from ufo_ds.columns import OWN
from ufo_ds.report.charts import Series, format_number, line_chart
from ufo_ds.report.heatmap import conflict_maps
from ufo_ds.report.record import RunLog, RunRecord

TASK_TITLES = {"cls": "Classification", "det": "Detection", "seg": "Segmentation"}
FIGURE_TITLES = {"top1": "Top-1", "mAP50": "mAP50", "mAP": "mAP 50:95", "mIoU": "mIoU",
                 "mIoU_present": "mIoU present"}
PARTS_SHOWN = 8
"""Of a loss; heads with auxiliary outputs have dozens."""
_HOLE = 5
"""A line breaks where measurements are so many times farther apart than usual."""


@dataclass
class ChartGroup:
    """Charts under one heading: `columns` side by side where there is room; folded in where `folded`."""

    title: str
    lead: str
    charts: list[Markup]
    columns: int = 2
    folded: bool = False


def task_title(name: str) -> str:
    """`det` -> `Detection`; a task that is not known here keeps its name."""
    return TASK_TITLES.get(name, name)


def main_figure(name: str, figures: Mapping[str, float]) -> str | None:
    """The name of the figure that stands for a task; None where there is no figure."""
    known = {"cls": "top1", "det": "mAP50", "seg": "mIoU"}.get(name)
    return known if known in figures else next(iter(figures), None)


def task_colours(tasks: Sequence[str]) -> dict[str, str]:
    """Colour names of the style sheet: a known task has its own in every chart."""
    others = [name for name in tasks if name not in TASK_TITLES]
    return {name: name if name in TASK_TITLES else f"x{others.index(name) % 8}" for name in tasks}


def find_tasks(record: RunRecord) -> list[str]:
    """All tasks that the run speaks of, the known ones first."""
    names = {*record.log.under("train/loss/"), *record.gallery}
    names.update(*(item.figures for item in record.evaluations))
    return [name for name in TASK_TITLES if name in names] + sorted(names - set(TASK_TITLES))


def score_chart(record: RunRecord, tasks: Sequence[str]) -> Markup | None:
    """Validation scores over the steps: each task's main figure and the average. None for fewer than two."""
    evaluations = [item for item in record.evaluations if item.step is not None]
    if len(evaluations) < 2 or not len(record.log):
        return None
    colours = task_colours(tasks)
    average = Series("Average", "ink", np.array([item.average for item in evaluations]), dots=True)
    series = [average] if len(tasks) > 1 else []
    for name in tasks:
        if key := main_figure(name, {key: 0.0 for item in evaluations for key in item.figures.get(name, {})}):
            values = [item.figures.get(name, {}).get(key, np.nan) for item in evaluations]
            label = f"{task_title(name)}, {FIGURE_TITLES.get(key, key)}"
            series.append(Series(label, colours[name], np.array(values), dots=True))
    steps = np.array([item.step for item in evaluations], float)
    return line_chart("Validation scores", steps, series, x_range=_span(record.log), reach=(0.0,),
                      unit="0 to 1")


def chart_groups(log: RunLog, tasks: Sequence[str]) -> list[ChartGroup]:
    """All other charts, in the order of the page. Groups of which nothing was logged are left out."""
    if not len(log):
        return []
    groups = _losses(log, tasks), _loss_parts(log, tasks), _surgery(log, tasks), _routing(log, tasks), _speed(log)
    return [group for group in groups if group.charts]


def _losses(log: RunLog, tasks: Sequence[str]) -> ChartGroup:
    colours, charts = task_colours(tasks), []
    for name, values in _in_order(log.under("train/loss/"), tasks).items():
        lost = int((~np.isfinite(values)).sum())
        note = f"Not finite in {lost:,} of {len(values):,} steps." if lost else ""
        charts.append(_chart(log, task_title(name), {"loss": values}, {"loss": colours[name]}, note=note))
    return ChartGroup("Loss", f"Each task on a scale of its own. {_smoothing_note(log)}", charts, columns=3)


def _loss_parts(log: RunLog, tasks: Sequence[str]) -> ChartGroup:
    charts = []
    for name in tasks:
        parts = _known(log.under(f"train/{name}/"))
        largest = sorted(parts, key=lambda part: -np.nanmean(np.abs(parts[part])))[:PARTS_SHOWN]
        hidden = len(parts) - len(largest)
        if parts:
            charts.append(_chart(
                log, task_title(name), {part: parts[part] for part in largest},
                {part: f"x{i}" for i, part in enumerate(largest)}, unit="parts of the loss", faint=False,
                note=f"The {PARTS_SHOWN} largest; {hidden} more in the log." if hidden else ""))
    return ChartGroup("Parts of the losses", "", charts, columns=2, folded=True)


def _surgery(log: RunLog, tasks: Sequence[str]) -> ChartGroup:
    colours = {task_title(name): colour for name, colour in task_colours(tasks).items()}
    charts = []
    if cosines := _pairs(log.under("surgery/cosine/")):
        pair_colours = {name: f"p{i}" if len(cosines) <= 3 else f"x{i % 8}" for i, name in enumerate(cosines)}
        charts.append(_chart(log, "Cosine between task gradients", cosines, pair_colours, reach=(0.0,),
                             zero_line=True, sparse=True, note=_cosine_note(cosines)))
    if np.isfinite(conflicts := log.get("surgery/conflicts")).any():
        charts.append(_chart(log, "Conflicting pairs", {"share": conflicts}, {"share": "ink"}, reach=(0.0,),
                             faint=False, unit="share of the pairs with a negative cosine", sparse=True,
                             note=_conflict_note(conflicts)))
    charts += conflict_maps(log)
    if norms := _by_task(log.under("surgery/grad_norm/"), tasks):
        charts.append(_chart(log, "Gradient norm of each task", norms, colours, unit="log scale", sparse=True,
                             log_scale=True, note=_ratio_note(norms)))
    if np.isfinite(ratio := log.get("surgery/norm_ratio")).any():
        charts.append(_chart(log, "Largest gradient norm over the smallest", {"ratio": ratio}, {"ratio": "ink"},
                             unit="log scale", sparse=True, log_scale=True,
                             note=f"Median {format_number(float(f'{np.nanmedian(ratio):.3g}'))}."))
    if weights := _by_task(log.under("surgery/weight/"), tasks):
        charts.append(_chart(log, "Weight of each task", weights, colours, reach=(0.0,),
                             unit="of its gradient in the combination", note=_failure_note(log)))
    lead = ("On the shared trunk, before they are combined. Below a cosine of zero, a step for one task "
            "undoes some of the other's.")
    return ChartGroup("Task gradients", lead, charts)


def _routing(log: RunLog, tasks: Sequence[str]) -> ChartGroup:
    charts = []
    for name in tasks:
        places = _known(log.under(f"{OWN}{name}/"))
        if places:
            likely = sum(values[np.isfinite(values)][-1] > 0.5 for values in places.values())
            shown = [list(places)[i] for i in np.linspace(0, len(places) - 1, min(len(places), 8)).round().astype(int)]
            charts.append(_chart(
                log, task_title(name), {place.replace("_", " "): places[place] for place in shown},
                {place.replace("_", " "): f"x{i}" for i, place in enumerate(shown)}, reach=(0.0, 1.0), faint=False,
                unit="probability", note=f"At the end its own copy is the likelier in {likely} of {len(places)}."))
    lead = "The probability with which each task takes its own copy of a module, where that is learned."
    return ChartGroup("Routing", lead, charts)


def _speed(log: RunLog) -> ChartGroup:
    zero, speed_note = (0.0,), _speed_note(log)
    wanted: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("train/lr", "Learning rate", "rate", {"reach": zero, "smooth": False}),
        ("train/grad_norm", "Combined gradient", "norm", {"log_scale": True, "unit": "log scale"}),
        ("perf/images_per_s", "Throughput", "images/s", {"reach": zero, "note": speed_note}),
        ("perf/memory_mb", "Memory", "MB", {"reach": zero, "smooth": False, "unit": "of rank 0"}),
    )
    charts = [_chart(log, title, {label: log.columns[name]}, {label: "ink"}, **options)
              for name, title, label, options in wanted if np.isfinite(log.get(name)).any()]
    return ChartGroup("Optimiser and speed", "", charts)


# ---- from columns to a chart ----


def _chart(log: RunLog, title: str, columns: Mapping[str, np.ndarray], colours: Mapping[str, str], *,
           unit: str = "", reach: Sequence[float] = (), log_scale: bool = False, zero_line: bool = False,
           note: str = "", smooth: bool = True, faint: bool = True, sparse: bool = False) -> Markup:
    """`sparse`: the columns are measured at some of the steps only, and lines join those."""
    rows = _measured(columns) if sparse else slice(None)
    steps = log.steps[rows].astype(float)
    window = _window(len(steps)) if smooth else 1
    series = [Series(name, colours[name], y[rows], smooth=window, raw=faint) for name, y in columns.items()]
    return line_chart(title, steps, series, x_range=_span(log), reach=reach, log=log_scale,
                      unit=unit, zero_line=zero_line, note=note)


def _measured(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Indices of the rows that hold a value, and one row in each long hole between them, for a line to break."""
    known = np.flatnonzero(np.isfinite(np.stack(list(columns.values()))).any(axis=0))
    distances = np.diff(known)
    if not len(distances):
        return known
    return np.union1d(known, known[:-1][distances > _HOLE * np.median(distances)] + 1)


def _window(count: int) -> int:
    return max(1, count // 40)


def _span(log: RunLog) -> tuple[float, float]:
    return float(log.steps[0]), float(log.steps[-1])


def _in_order(columns: Mapping[str, np.ndarray], tasks: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: columns[name] for name in tasks if name in columns}


def _by_task(columns: Mapping[str, np.ndarray], tasks: Sequence[str]) -> dict[str, np.ndarray]:
    return {task_title(name): values for name, values in _in_order(columns, tasks).items()}


def _pairs(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("-", " / "): values for name, values in columns.items()}


def _known(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}


# ---- what can be said in a line ----


def _smoothing_note(log: RunLog) -> str:
    window = _window(len(log))
    return f"Curves are means over {window:,} steps, with the single steps behind them." if window > 1 else ""


def _cosine_note(cosines: Mapping[str, np.ndarray]) -> str:
    means = [f"{name} {np.nanmean(values):+.3f}" for name, values in _known(cosines).items()]
    return f"Means over the run: {', '.join(means)}.".replace("-", "\N{MINUS SIGN}") if means else ""


def _conflict_note(conflicts: np.ndarray) -> str:
    measured = conflicts[np.isfinite(conflicts)]
    steps = "the steps" if len(measured) == len(conflicts) else f"the {len(measured):,} steps that were measured"
    return f"{np.mean(measured > 0):.0%} of {steps} had a conflict."


def _failure_note(log: RunLog) -> str:
    failed = int((log.get("surgery/solver_failed") > 0).sum())
    return f"The solver failed in {failed:,} of {len(log):,} steps; they took the plain sum." if failed else ""


def _ratio_note(norms: Mapping[str, np.ndarray]) -> str:
    medians = {title: float(np.nanmedian(values)) for title, values in _known(norms).items()}
    if len(medians) < 2 or min(medians.values()) <= 0:
        return ""
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    ratio = format_number(float(f"{medians[high] / medians[low]:.2g}"))
    return f"The median of {high.lower()} is {ratio} times that of {low.lower()}."


def _speed_note(log: RunLog) -> str:
    step, data = log.get("perf/step_s"), log.get("perf/data_s")
    if not np.isfinite(speed := log.get("perf/images_per_s")).any():
        return ""
    parts = [f"Median {np.nanmedian(speed):.3g} images/s"]
    if np.isfinite(step).any():
        parts.append(f"{np.nanmedian(step):.3g} s a step")
        if np.isfinite(data).any() and np.nansum(step) > 0:
            parts.append(f"{np.nansum(data) / np.nansum(step):.1%} of the time waiting for data")
    return ", ".join(parts) + "."
