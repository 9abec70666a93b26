"""The report: what the page says, handed to the template `ufo_ds/report.html.j2`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

import ufo_ds
from ufo_ds.drawing import mask_colours
from ufo_ds.files import replace_file
from ufo_ds.report.charts import sparkline
from ufo_ds.report.curves import (
    FIGURE_TITLES,
    chart_groups,
    find_tasks,
    main_figure,
    score_chart,
    task_colours,
    task_title,
)
from ufo_ds.report.record import Evaluation, RunRecord, read_run

_TEMPLATES = Path(ufo_ds.__file__).parent
_LEGEND_CLASSES = 60


@dataclass
class Card:
    """A score: its name, the figures on val and test (texts), lesser figures, and a small curve."""

    title: str
    figure: str
    colour: str
    val: str | None
    test: str | None
    details: list[tuple[str, str, str]]
    curve: Markup


def write_report(run_dir: Path, out: Path, scores: Mapping[str, Any] | None = None,
                 title: str | None = None) -> Path:
    """Write the run as one self-contained HTML page.

    Args:
        run_dir: the run directory. What it lacks, the page names.
        out: the page; its folder is made if absent. Replaced atomically.
        scores: figures on test, as `launch/evaluate.py --json` writes them (`top1`, `mAP50`, `average`, ...).
        title: of the page; default: the run directory's name.

    Returns:
        `out`.

    Raises:
        UserError: there is no such run directory, or `out` cannot be written.
    """
    import jinja2

    record = read_run(run_dir)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["sha256"] = _sha256
    page = environment.get_template("report.html.j2").render(_content(record, scores or {}, title))
    replace_file(out, page.encode("utf-8", errors="replace"))
    return out


def _content(record: RunRecord, scores: Mapping[str, Any], title: str | None) -> dict[str, Any]:
    tasks = find_tasks(record)
    return {
        "title": title or record.name,
        "facts": _facts(record),
        "cards": _cards(record, tasks, _figures(scores)),
        "evaluation_note": _evaluation_note(record),
        "score_chart": score_chart(record, tasks),
        "groups": chart_groups(record.log, tasks),
        "galleries": [_gallery(record, name, colour) for name, colour in task_colours(tasks).items()
                      if record.gallery.get(name)],
        "recipe": record.recipe_text,
        "environment": _environment_rows(record.environment),
        "missing": _missing(record),
        "version": ufo_ds.__version__,
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _sha256(text: str) -> str:
    """Of a script, as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


# ---- the head ----


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """What stands at the top of the page, as far as it is known."""
    environment, log = record.environment, record.log
    planned = _at(record.recipe, "train", "steps")
    steps = f"{log.steps[-1]:,}" if len(log) else "0"
    if isinstance(planned, int) and (not len(log) or planned != log.steps[-1]):
        steps += f" of {planned:,}"
    facts = [
        ("Trunk", _at(record.recipe, "model", "trunk")),
        ("Gradients", _at(record.recipe, "surgery", "method")),
        ("Steps", steps),
        ("Training time", _duration(float(np.nansum(log.get("perf/step_s"))))),
        ("Ranks", _ranks(environment)),
        ("Revision", _revision(environment)),
        ("Started", _date(environment)),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _duration(seconds: float) -> str:
    """`2 h 05 min`; empty for nothing. The steps' own time, without evaluations."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s" if rest else ""


def _ranks(environment: Mapping[str, Any]) -> str:
    world = environment.get("world_size")
    gpus = environment.get("gpus")
    kinds = sorted({str(name) for name in gpus}) if isinstance(gpus, list) else []
    return f"{world} on {', '.join(kinds) or 'CPU'}" if world else ""


def _revision(environment: Mapping[str, Any]) -> str:
    revision = _at(environment, "git", "revision")
    if not revision:
        return ""
    return str(revision)[:10] + (", with changes" if _at(environment, "git", "dirty") else "")


def _date(environment: Mapping[str, Any]) -> str:
    """Of the first start, where the run was resumed."""
    earlier = environment.get("earlier")
    first = earlier[0] if isinstance(earlier, list) and earlier else environment
    return str(_at(first, "date") or "")[:16].replace("T", " ")


# ---- scores ----


def _figures(scores: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name from flat or nested scores."""
    flat: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat.update(_figures(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[str(name)] = float(value)
    return flat


def _cards(record: RunRecord, tasks: Sequence[str], test: Mapping[str, float]) -> list[Card]:
    """The average first, then each task."""
    best, colours = record.best, task_colours(tasks)
    cards = [_task_card(record.evaluations, best, name, colours[name], test) for name in tasks]
    if len(tasks) > 1:
        curve = sparkline(np.array([item.average for item in record.evaluations]), "ink")
        val, of_test = _text(best.average if best else None), _text(test.get("average"))
        cards.insert(0, Card("Average", "of the tasks", "ink", val, of_test, [], curve))
    return [card for card in cards if card.val or card.test]


def _task_card(evaluations: Sequence[Evaluation], best: Evaluation | None, name: str, colour: str,
               test: Mapping[str, float]) -> Card:
    figures = best.figures.get(name, {}) if best else {}
    key = main_figure(name, figures or test) or name
    details = [(FIGURE_TITLES.get(other, other), _text(value) or "", _text(test.get(other)) or "")
               for other, value in figures.items() if other != key]
    curve = np.array([item.figures.get(name, {}).get(key, np.nan) for item in evaluations])
    return Card(task_title(name), FIGURE_TITLES.get(key, key), colour, _text(figures.get(key)),
                _text(test.get(key)), details, sparkline(curve, colour))


def _text(value: float | None) -> str | None:
    return None if value is None or not np.isfinite(value) else f"{value:.3f}"


def _evaluation_note(record: RunRecord) -> str:
    best = record.best
    if best is None:
        return ""
    last = record.evaluations[-1]
    note = "Validation figures are those of the best average"
    note += f", at step {best.step:,}." if best.step is not None else "."
    return note if last is best else f"{note} The last evaluation averaged {last.average:.3f}."


# ---- pictures and tables ----


def _gallery(record: RunRecord, name: str, colour: str) -> dict[str, Any]:
    pictures = [{"name": item.name, "caption": item.caption,
                 "source": f"data:{item.mime};base64,{base64.b64encode(item.data).decode()}"}
                for item in record.gallery[name]]
    aspects = [width / height for height, width in (item.shape for item in record.gallery[name])]
    return {"name": name, "title": task_title(name), "colour": colour, "pictures": pictures,
            "wide": float(np.median(aspects)) > 1.7,
            "legend": _legend(record.classes.get(name, [])) if name == "seg" else []}


def _legend(classes: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """CSS colour and name of each class of the masks."""
    if not classes or max(class_id for class_id, _ in classes) > 254 or min(classes)[0] < 0:
        return []
    colours = mask_colours(max(class_id for class_id, _ in classes) + 1)
    return [("#{:02x}{:02x}{:02x}".format(*colours[class_id].tolist()), name)
            for class_id, name in classes[:_LEGEND_CLASSES]]


def _environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value for the table; the earlier starts of a resumed run as a count."""
    rows = []
    for name, value in environment.items():
        if name == "earlier" and isinstance(value, list):
            rows.append(("resumed", f"{len(value)} times"))
        elif isinstance(value, Mapping):
            rows += [(str(inner), str(item)) for inner, item in value.items() if item is not None]
        elif isinstance(value, list):
            rows.append((str(name), ", ".join(map(str, value)) or "none"))
        else:
            rows.append((str(name), str(value)))
    return rows


def _missing(record: RunRecord) -> list[str]:
    """What the run directory lacks, a sentence each."""
    log = record.log
    pairs = [
        (len(log), "No steps in log.jsonl: there are no curves."),
        (not log.unreadable, f"Lines of log.jsonl that cannot be read, left out here: {log.unreadable}."),
        (record.evaluations, "No evaluation yet: there are no validation scores."),
        (any(record.gallery.values()), "No pictures in gallery/: predictions cannot be shown."),
        (record.recipe_text, "No recipe.yaml."),
        (record.environment, "No environment.json: versions and revision are not known."),
    ]
    return [text for present, text in pairs if not present]
