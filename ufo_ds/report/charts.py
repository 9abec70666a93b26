"""Line charts as inline SVG and HTML, without a plotting library and without a request to anywhere.

The curves are one SVG that is stretched to the room there is; axis labels are HTML beside it, so that they
keep their size on a phone and on paper. What a pointer reads off stands as JSON in `data-chart`, for the
page's script.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

BUCKETS = 400
"""Longer series are drawn, and read off, at so many places."""
_WIDTH, _HEIGHT = 2000, 1000  # of the SVG's own coordinates
_FIGURE = Markup(
    '<figure class="chart"><figcaption><h4>{title}</h4><span class="unit">{unit}</span></figcaption>{legend}'
    '<div class="plot" data-chart="{data}"><div class="y">{y}</div><div class="area">'
    '<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{title}">{curves}'
    '</svg></div><div class="step">step</div><div class="x">{x}</div></div><p class="note">{note}</p>'
    "</figure>"
)
_EMPTY = Markup(
    '<figure class="chart"><figcaption><h4>{title}</h4></figcaption>'
    '<p class="unit">No value that could be drawn.</p><i></i><p class="note">{note}</p></figure>'
)


@dataclass
class Series:
    """One curve.

    Attributes:
        name: in the legend.
        colour: a colour name of the page's style sheet (`cls`, `ink`, `p0`, ...).
        y: float [N], NaN where there is nothing.
        smooth: width of the moving average in points.
        raw: keep the single values faintly behind the average.
        dots: mark every point.
        dashed: the line.
    """

    name: str
    colour: str
    y: np.ndarray
    smooth: int = 1
    raw: bool = True
    dots: bool = False


@dataclass
class Axis:
    """Bounds and ticks of an axis, and where a value lies on it."""

    low: float
    high: float
    ticks: list[float]
    log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """Values -> 0..1 along the axis; NaN where the axis has no place for them."""
        if not self.log:
            return (values - self.low) / (self.high - self.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(values > 0, np.log10(values), np.nan)
        return (logs - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))


def line_chart(title: str, x: np.ndarray, series: Sequence[Series], *,
               x_range: tuple[float, float] | None = None, reach: Sequence[float] = (), log: bool = False,
               unit: str = "", zero_line: bool = False, note: str = "") -> Markup:
    """A chart with legend, axes and read-outs.

    Args:
        title: above the chart.
        x: float [N], ascending; the step.
        series: curves over `x`, the first on top. Those without a finite value are left out.
        x_range: ends of the x axis; default: those of `x`.
        reach: values that the y axis has to reach beside those of the curves.
        log: logarithmic y axis; values that are not positive are left out.
        unit: beside the title.
        zero_line: draw the zero heavier.
        note: a line below.

    Returns:
        HTML of a `figure`; with nothing to draw it says so.
    """
    drawn = [item for item in series if _usable(item.y, log).any()]
    if not drawn:
        return _EMPTY.format(title=title, note=note)
    smoothed = [moving_average(item.y, item.smooth) for item in drawn]
    x_axis = step_axis(x, x_range)
    y_axis = _y_axis(drawn, smoothed, reach, log)
    pairs = list(zip(drawn, smoothed, strict=True))
    places = x_axis.place(x)
    curves = Markup("").join(_curves(item, smooth, places, y_axis) for item, smooth in reversed(pairs))
    return _FIGURE.format(
        title=title, unit=unit, legend=_legend(drawn, smoothed), width=_WIDTH, height=_HEIGHT,
        curves=_grid(x_axis, y_axis, zero_line) + curves, data=_readouts(x, drawn, smoothed, x_axis, y_axis),
        y=tick_labels(y_axis, "bottom"), x=tick_labels(x_axis, "left"),
        note=note,
    )


def sparkline(values: np.ndarray, colour: str) -> Markup:
    """A curve without axes, from 0 to a little above its maximum; empty for fewer than two values."""
    y = values[np.isfinite(values)]
    if len(y) < 2:
        return Markup("")
    axis = Axis(0.0, max(float(y.max()) * 1.1, 1e-9), [])
    path = _path(np.linspace(0, 1, len(y)), axis.place(y))
    return Markup('<svg class="spark c-{}" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">'
                  '<path class="line" d="{}"/></svg>').format(colour, _WIDTH, _HEIGHT, path)


# ---- numbers ----


def format_number(value: float) -> str:
    """Short and legible: `0.25`, `1.5`, `12k`, `5e-5`."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        text = f"{value / 1000:.4g}k" if size >= 1e4 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def moving_average(y: np.ndarray, width: int) -> np.ndarray:
    """Centred moving average of `width` points, without lag; NaN is left out of the means and stays."""
    if width <= 1:
        return y
    known, half = np.isfinite(y), width // 2
    # No running sums: after one huge value all later differences of them would be rounding errors.
    window = np.ones(2 * half + 1)
    parts = np.where(known, y, 0.0), known
    totals, counts = (np.convolve(part, window)[half : half + len(y)] for part in parts)
    return np.where(known, totals / np.maximum(counts, 1), np.nan)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, the first at or below `low`, the last at or above `high`."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around [low, high], with 2 and 5 between them where there are few."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 2:
        stride = math.ceil((last - first) / 6)
        return [10.0**i for i in range(first, last + stride, stride)]
    marks = [factor * 10.0**i for i in range(first, last + 1) for factor in (1, 2, 5)]
    start = max((i for i, mark in enumerate(marks) if mark <= low * 1.0001), default=0)
    end = min((i for i, mark in enumerate(marks) if mark >= high * 0.9999), default=len(marks) - 1)
    return marks[start : max(end, start + 1) + 1]


def step_axis(x: np.ndarray, x_range: tuple[float, float] | None = None) -> Axis:
    """The axis of the steps float [N], ascending, or of another range; from 0 where it begins near it."""
    low, high = x_range or (float(x[0]), float(x[-1]))
    if low < 0.05 * high:
        low = 0.0
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, [tick for tick in nice_ticks(low, high, 6) if low <= tick <= high])


def _y_axis(series: Sequence[Series], smoothed: Sequence[np.ndarray], reach: Sequence[float],
            log: bool) -> Axis:
    # The outermost raw values are left out: one spike must not press the curves flat.
    seen = [np.quantile(item.y[_usable(item.y, log)], (0.005, 0.995)) for item in series]
    seen += [item[_usable(item, log)] for item in smoothed]
    values = np.concatenate([*seen, np.asarray(reach, float)])
    low, high = float(values.min()), float(values.max())
    ticks = log_ticks(low, high) if log else nice_ticks(low, high, 4)
    return Axis(ticks[0], ticks[-1], ticks, log)


def _usable(y: np.ndarray, log: bool) -> np.ndarray:
    """Bool [N]: what an axis can hold. Beyond 1e30 a run has diverged, and ticks would overflow."""
    with np.errstate(invalid="ignore"):
        return (np.abs(y) < 1e30) & (y > 1e-30 if log else True)


# ---- drawing ----


def _grid(x_axis: Axis, y_axis: Axis, zero_line: bool) -> Markup:
    rows = [(1 - float(y_axis.place(np.array(tick)))) * _HEIGHT for tick in y_axis.ticks]
    columns = [float(x_axis.place(np.array(tick))) * _WIDTH for tick in x_axis.ticks]
    lines = [f"M0 {row:.0f}H{_WIDTH}" for row in rows] + [f"M{column:.0f} 0V{_HEIGHT}" for column in columns]
    heavy = ""
    if zero_line and y_axis.low < 0 < y_axis.high:
        row = (1 - float(y_axis.place(np.array(0.0)))) * _HEIGHT
        heavy = Markup('<path class="zero" d="M0 {:.0f}H{}"/>').format(row, _WIDTH)
    return Markup('<path class="grid" d="{}"/>{}').format("".join(lines), heavy)


def _curves(item: Series, smooth: np.ndarray, x: np.ndarray, y_axis: Axis) -> Markup:
    """Raw values faintly, the smoothed curve on them, dots on top; `x` is 0..1."""
    parts = []
    if item.raw and item.smooth > 1:
        parts.append(("raw", _path(*_envelope(x, y_axis.place(item.y)))))
    places = y_axis.place(smooth)
    at = _sample(len(x))
    if item.dots:
        known = np.isfinite(places)
        parts.append(("line", _path(x[known], places[known])))
        dots = [f"{_point(a, b)}h0" for a, b in zip(x[known], places[known], strict=True)]
        parts.append(("dots", "".join(dots)))
    else:
        parts.append(("line", _path(x[at], places[at])))
    paths = Markup("").join(Markup('<path class="{}" d="{}"/>').format(kind, path) for kind, path in parts)
    return Markup('<g class="c-{}">{}</g>').format(item.colour, paths)


def _sample(count: int) -> np.ndarray:
    """Indices of at most `BUCKETS` points, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, BUCKETS)).round().astype(int))


def _envelope(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of each bucket by turns, so that no spike is lost in a long series."""
    if len(x) <= 2 * BUCKETS:
        return x, y
    starts = np.linspace(0, len(x), BUCKETS, endpoint=False).astype(int)
    lowest, highest = np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)
    return np.repeat(x[starts], 2), np.stack([lowest, highest], axis=1).ravel()


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Places 0..1 -> path data; a NaN begins a new piece, a lonely point becomes a dot."""
    known = np.isfinite(y)
    pieces: list[str] = []
    for i in np.flatnonzero(known):
        if i == 0 or not known[i - 1]:
            alone = i + 1 == len(y) or not known[i + 1]
            pieces.append(_point(x[i], y[i]) + ("h0" if alone else ""))
        else:
            pieces.append("L" + _point(x[i], y[i])[1:])
    return "".join(pieces)


def _point(x: float, y: float) -> str:
    return f"M{x * _WIDTH:.0f} {(1 - min(max(y, 0.0), 1.0)) * _HEIGHT:.0f}"


def _legend(series: Sequence[Series], smoothed: Sequence[np.ndarray]) -> Markup:
    """Names with their last values, which paper shows too."""
    entries = [Markup('<li class="c-{}"><i></i>{} <b>{}</b></li>').format(
                   item.colour, item.name, format_number(float(f"{smooth[np.isfinite(smooth)][-1]:.3g}")))
               for item, smooth in zip(series, smoothed, strict=True)]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


def tick_labels(axis: Axis, side: str) -> Markup:
    """The numbers of an axis, placed from `side` (`left`, `bottom`)."""
    return Markup("").join(
        Markup('<span style="{}:{:.2f}%">{}</span>').format(side, 100 * float(axis.place(np.array(tick))),
                                                            format_number(tick))
        for tick in axis.ticks)


def _readouts(x: np.ndarray, series: Sequence[Series], smoothed: Sequence[np.ndarray], x_axis: Axis,
              y_axis: Axis) -> str:
    at = np.arange(len(x)) if any(item.dots for item in series) else _sample(len(x))
    data = {"x": [_short(value) for value in x[at].tolist()], "x0": x_axis.low, "x1": x_axis.high,
            "y0": y_axis.low, "y1": y_axis.high, "log": y_axis.log,
            "s": [{"n": item.name, "c": item.colour, "y": [_short(value) for value in smooth[at].tolist()]}
                  for item, smooth in zip(series, smoothed, strict=True)]}
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _short(value: float) -> float | int | None:
    """Four significant digits; None for NaN; an integer stays one."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 1e9 else float(f"{value:.4g}")
