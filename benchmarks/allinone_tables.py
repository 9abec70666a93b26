"""The results of benchmarks/allinone.py as a table and as a chart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tables import header, line

SCORES = (("cls", "top1", "Top-1"), ("det", "mAP50", "mAP50"), ("seg", "mIoU_present", "mIoU, classes present"))
SINGLES = "three single models"
_ROW, _LABEL, _PANEL, _GAP, _TOP = 24, 170, 190, 30, 64
_GREY = "#5b6470"
_COLOURS = {SINGLES: _GREY, "joint": "#2563a8", "own": "#b4541a"}


def by_variant(rows: Sequence[dict]) -> dict[str, dict[int, list[float]]]:
    """Variant -> seed -> [Top-1, mAP50, mIoU, their mean]; the single models of a seed make one variant."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        name = SINGLES if row["variant"].startswith("single ") else row["variant"]
        if name.startswith("tuning "):
            continue
        scores = found.setdefault(name, {}).setdefault(row["seed"], {})
        scores |= {title: row["scores"][task][key] for task, key, title in SCORES if task in row["scores"]}
    complete: dict[str, dict[int, list[float]]] = {}
    for name, seeds in found.items():
        for seed, scores in seeds.items():
            if len(scores) == len(SCORES):
                values = [scores[title] for _, _, title in SCORES]
                complete.setdefault(name, {})[seed] = [*values, statistics.mean(values)]
    order = sorted(complete, key=lambda name: (name != SINGLES, name.endswith("own FFN")))
    return {name: complete[name] for name in order}


def print_table(rows: Sequence[dict]) -> None:
    """Mean and standard deviation over the seeds, and the average's difference to the single models, seed by seed."""
    variants = by_variant(rows)
    header("", "seeds", *(title for _, _, title in SCORES), "average", "average - single")
    for name, seeds in variants.items():
        columns = list(zip(*seeds.values(), strict=True))
        pairs = [
            values[-1] - variants[SINGLES][seed][-1]
            for seed, values in seeds.items()
            if seed in variants.get(SINGLES, {})
        ]
        difference = "" if name == SINGLES or not pairs else _mean(pairs, "+")
        line(name, len(seeds), *(_mean(column) for column in columns), difference)


def _mean(values: Sequence[float], sign: str = "") -> str:
    text = f"{statistics.mean(values):{sign}.3f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.3f}"


def draw_chart(rows: Sequence[dict], path: Path) -> None:
    """An SVG: a panel a score, a row a variant, a dot a seed, a bar for the mean, a line at the single models."""
    variants = by_variant(rows)
    titles = [*(title for _, _, title in SCORES), "average"]
    width = _LABEL + len(titles) * (_PANEL + _GAP)
    height = _TOP + len(variants) * _ROW + 36
    steps = "/".join(str(value) for value in sorted({row["steps"] for row in rows}))
    caption = f"Scores on val after {steps} steps. A dot is a seed, a bar their mean; dashed: the single models' mean."
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LABEL}" y="20" fill="{_GREY}">{caption}</text>',
        *_labels(list(variants)),
    ]
    for number, title in enumerate(titles):
        left = _LABEL + number * (_PANEL + _GAP)
        parts += _panel(left, title, {name: [v[number] for v in seeds.values()] for name, seeds in variants.items()})
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _labels(names: Sequence[str]) -> Iterable[str]:
    for number, name in enumerate(names):
        yield f'<text x="{_LABEL - 10}" y="{_middle(number) + 4}" text-anchor="end">{escape(name)}</text>'


def _panel(left: int, title: str, values: dict[str, list[float]]) -> Iterable[str]:
    everything = [value for column in values.values() for value in column]
    ticks = _ticks(min(everything), max(everything))
    low, high = ticks[0], ticks[-1]
    bottom = _TOP + len(values) * _ROW

    def place(value: float) -> float:
        return round(left + (value - low) / (high - low) * _PANEL, 1)

    yield f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{escape(title)}</text>'
    yield f'<rect x="{left}" y="{_TOP - 8}" width="{_PANEL}" height="{bottom - _TOP + 12}" fill="#f4f5f7"/>'
    for tick in ticks:
        x = place(tick)
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{bottom + 4}" stroke="#dfe2e6"/>'
        yield f'<text x="{x}" y="{bottom + 20}" text-anchor="middle" fill="{_GREY}">{tick:.3g}</text>'
    if SINGLES in values:
        x = place(statistics.mean(values[SINGLES]))
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{bottom + 4}" stroke="{_GREY}" stroke-dasharray="3 3"/>'
    for number, (name, column) in enumerate(values.items()):
        colour = _COLOURS.get(name) or _COLOURS["own" if name.endswith("own FFN") else "joint"]
        y, x = _middle(number), place(statistics.mean(column))
        yield f'<line x1="{x}" x2="{x}" y1="{y - 7}" y2="{y + 7}" stroke="{colour}" stroke-width="3"/>'
        for value in column:
            yield f'<circle cx="{place(value)}" cy="{y}" r="3.5" fill="{colour}" fill-opacity="0.55"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around all values, at most five."""
    for step in (decade * digit for decade in (0.001, 0.01, 0.1) for digit in (1, 2, 5)):
        first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
        if last - first <= 4:
            break
    return [number * step for number in range(first, last + 1)]


def _middle(number: int) -> int:
    return _TOP + number * _ROW + _ROW // 2 - 4
