"""Heat maps of the conflicts between task gradients as inline SVG: over time, and over the trunk's depth.

As in `charts`, an SVG is stretched to the room there is, and labels are HTML beside it. Every column of cells
is a bin of steps; a cell tells its figure when it is pointed at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from ufo_ds.columns import block_cosines, cosines
from ufo_ds.heatmap_picture import colour_limit
from ufo_ds.report.charts import format_number, step_axis, tick_labels
from ufo_ds.report.record import RunLog

BINS = 80
"""At most about so many columns."""
_WIDTH = 2000  # of the SVG's own coordinates; a row is 1 high
_FIGURE = Markup(
    '<figure class="chart wide"><figcaption><h4>{title}</h4><span class="unit">{unit}</span></figcaption>'
    '<p class="scale">conflict <b>{low}</b><i class="below"></i><b>0</b><i class="above"></i><b>{high}</b> agreement'
    '</p><div class="panels">{panels}</div><p class="note">{note}</p></figure>'
)
_PANEL = Markup(
    '<div class="heat {kind}" style="--rows:{count}">{head}<div class="rows">{labels}</div>'
    '<svg viewBox="0 0 {width} {count}" preserveAspectRatio="none" role="img" aria-label="{name}">{cells}</svg>'
    '<div class="step">step</div><div class="x">{x}</div></div>'
)


def conflict_maps(log: RunLog) -> list[Markup]:
    """The conflicts of each pair of tasks over time, and where blocks were logged over the trunk's depth."""
    pairs, blocks = cosines(log.columns), block_cosines(log.columns)
    time = _Bins.of(log, [*pairs.values()])
    depth = _Bins.of(log, [column for rows in blocks.values() for column in rows.values()])
    flat = {"": {_pair(name): time.means(column) for name, column in pairs.items()}} if time else {}
    deep = {_pair(name): {block: depth.means(column) for block, column in rows.items()}
            for name, rows in blocks.items()} if depth else {}
    # One scale, so that both maps can be compared.
    limit = colour_limit(row for panels in (flat, deep) for rows in panels.values() for row in rows.values())
    maps = []
    if time and flat[""]:
        maps.append(_figure("Conflict over time", flat, time, limit, ""))
    if depth and deep:
        note = "The trunk's first block stands on top. A lasting red band is a block that the tasks fight over."
        maps.append(_figure("Conflict over depth", deep, depth, limit, note))
    return maps


def _pair(name: str) -> str:
    return name.replace("-", " / ")


# ---- bins of steps ----


class _Bins:
    """Bins of equal width over the steps that were measured.

    Attributes:
        axis: the x axis; that of the line charts beside it.
        edges: float [C + 1], steps.
    """

    def __init__(self, log: RunLog, measured: np.ndarray) -> None:
        steps = log.steps.astype(float)
        self.axis = step_axis(steps)
        self._ends = steps[0], steps[-1]
        known = steps[measured]
        usual = float(np.median(np.diff(known))) if len(known) > 1 else 1.0
        # A multiple of it, so that bins hold equally many measurements and none of them is empty.
        self.width = usual * math.ceil((steps[-1] - steps[0]) / (BINS * usual) or 1)
        start = known[0] - usual / 2
        count = math.floor((known[-1] - start) / self.width) + 1
        self.edges = start + np.arange(count + 1) * self.width
        self._column = np.clip((steps - start) // self.width, 0, count - 1).astype(int)

    @classmethod
    def of(cls, log: RunLog, columns: list[np.ndarray]) -> _Bins | None:
        """Bins for these columns (float [N] each); None where they hold nothing."""
        measured = np.zeros(len(log), bool)
        for column in columns:  # one by one: they may be many
            measured |= np.isfinite(column)
        return cls(log, np.flatnonzero(measured)) if measured.any() else None

    def means(self, column: np.ndarray) -> np.ndarray:
        """Mean of each bin, float [C], of a column float [N]; NaN where the bin holds nothing."""
        known = np.isfinite(column)
        count = len(self.edges) - 1
        totals = np.bincount(self._column[known], column[known], count)
        numbers = np.bincount(self._column[known], minlength=count)
        return np.where(numbers > 0, totals / np.maximum(numbers, 1), np.nan)

    def names(self) -> list[str]:
        """`step 12` or `steps 10 to 19`, C of them."""
        # The outermost bins may reach beyond the log.
        edges = np.clip(self.edges, self._ends[0], self._ends[1] + 1)
        spans = [(first, after - 1) for first, after in pairwise(np.ceil(edges - 1e-6).astype(int).tolist())]
        return [f"steps {first:,} to {last:,}" if last > first else f"step {first:,}" for first, last in spans]


# ---- drawing ----


def _figure(title: str, panels: Mapping[str, Mapping[str, np.ndarray]], bins: _Bins, limit: float,
            note: str) -> Markup:
    drawn = Markup("").join(_panel(name, rows, bins, limit) for name, rows in panels.items())
    unit = f"mean cosine, {max(1, round(bins.width)):,} steps a column" if bins.width > 1 else "cosine"
    return _FIGURE.format(title=title, unit=unit, low=format_number(-limit), high=format_number(limit),
                          panels=drawn, note=note)


def _panel(name: str, rows: Mapping[str, np.ndarray], bins: _Bins, limit: float) -> Markup:
    x = np.clip(bins.axis.place(bins.edges), 0, 1)
    places = (x * _WIDTH).round().astype(int)
    texts = bins.names()
    cells = Markup("").join(_row(i, label, row, places, texts, limit)
                            for i, (label, row) in enumerate(rows.items()))
    labels = Markup("").join(Markup("<span>{}</span>").format(label) for label in rows)
    head = Markup("<h5>{}</h5>").format(name) if name else ""
    return _PANEL.format(kind="deep" if name else "flat", count=len(rows), head=head, labels=labels, width=_WIDTH,
                         name=name or "pairs of tasks", cells=cells, x=tick_labels(bins.axis, "left"))


def _row(number: int, label: str, row: np.ndarray, places: np.ndarray, texts: list[str], limit: float) -> Markup:
    """Cells: the neutral colour below, that of the sign over it, the stronger the larger the cosine."""
    known = np.flatnonzero(np.isfinite(row))
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else []
    parts = [Markup('<rect class="zero" x="{}" y="{}" width="{}" height="1"/>').format(
                 places[run[0]], number, places[run[-1] + 1] - places[run[0]]) for run in runs]
    for i in known:
        value = float(row[i])
        parts.append(Markup(
            '<rect class="{}" x="{}" y="{}" width="{}" height="1" fill-opacity="{:.2g}">'
            "<title>{}, {}: {}</title></rect>").format(
                "below" if value < 0 else "above", places[i], number, places[i + 1] - places[i],
                min(1.0, abs(value) / limit), label, texts[i], format_number(float(f"{value:.3f}"))))
    return Markup("").join(parts)
