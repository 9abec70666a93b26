"""Heat maps of the conflicts between task gradients, as pictures for wandb: over time, and over depth.

Colours run from orange-red (cosine below zero, a conflict) over grey to blue; what was not measured is white.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np

from ufo_ds.columns import block_cosines, cosines
from ufo_ds.lettering import Colour, shorten, text_width, write

COLUMNS = 120
"""A history keeps at most so many."""
CONFLICT: Colour = (196, 58, 20)
NEUTRAL: Colour = (233, 232, 227)
AGREEMENT: Colour = (32, 101, 176)

_LIMITS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
_GROUND, _INK, _SOFT = (255, 255, 255), (29, 33, 41), (103, 108, 117)
_WIDTH, _MARGIN, _LETTERS = 720, 16, 14  # of the cells together; around them; all in pixels


class BinnedMeans:
    """Means of named values over the steps, in memory that does not grow with them.

    A column holds a number of successive measurements; when all columns are full, neighbours are joined, and
    the resolution halves.

    Args:
        columns: at most so many; even.
    """

    def __init__(self, columns: int = COLUMNS) -> None:
        assert columns % 2 == 0
        self.span: tuple[int, int] | None = None
        """First and last step that were added."""
        self._columns, self._width, self._added = columns, 1, 0
        self._totals: dict[str, np.ndarray] = {}  # [sum, count] x columns

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add what was measured at a step; NaN counts as not measured."""
        if self._added == self._columns * self._width:
            for name, total in self._totals.items():
                joined = total.reshape(2, -1, 2).sum(axis=2)
                self._totals[name] = np.pad(joined, ((0, 0), (0, self._columns // 2)))
            self._width *= 2
        column = self._added // self._width
        for name, value in values.items():
            total = self._totals.setdefault(name, np.zeros((2, self._columns)))
            if np.isfinite(value):
                total[:, column] += value, 1
        self._added += 1
        self.span = (self.span or (step,))[0], step

    def means(self) -> dict[str, np.ndarray]:
        """The means float [C] by name, C the columns in use; NaN where there is nothing."""
        used = -(-self._added // self._width)
        return {name: np.where(count > 0, total / np.maximum(count, 1), np.nan)[:used]
                for name, (total, count) in self._totals.items()}


class ConflictHistory:
    """The cosines between task gradients since the start, or the resume, of a run."""

    def __init__(self) -> None:
        # Two, as blocks may be measured more rarely than the whole trunk, and each fills its columns.
        self._time, self._depth = BinnedMeans(), BinnedMeans()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take what concerns it from a step's numbers, named as `columns.flatten` names them."""
        if whole := cosines(values):
            self._time.add(step, whole)
        blocks = {f"{pair}/{block}": value
                  for pair, of_pair in block_cosines(values).items() for block, value in of_pair.items()}
        if blocks:
            self._depth.add(step, blocks)

    def pictures(self) -> dict[str, np.ndarray]:
        """RGB uint8 [H, W, 3]: `conflicts_over_time`, and `conflicts_over_depth` where blocks were logged."""
        drawn = {}
        if self._time.span:
            drawn["conflicts_over_time"] = heatmap(
                "Cosine between task gradients", {"": self._time.means()}, self._time.span, row_height=28)
        if self._depth.span:
            panels: dict[str, dict[str, np.ndarray]] = {}
            for name, means in self._depth.means().items():
                pair, _, block = name.partition("/")
                panels.setdefault(pair, {})[block] = means
            drawn["conflicts_over_depth"] = heatmap(
                "Cosine between task gradients by block of the trunk", panels, self._depth.span, row_height=18)
        return drawn


def colour_limit(values: Iterable[np.ndarray]) -> float:
    """The cosine at which colours are full, a round number; few and far values may lie beyond it."""
    sizes = np.abs(np.concatenate([np.ravel(item) for item in values] or [np.zeros(0)]))
    sizes = sizes[np.isfinite(sizes)]
    wanted = float(np.quantile(sizes, 0.98)) if len(sizes) else 1.0
    return next((limit for limit in _LIMITS if limit >= wanted - 1e-9), 1.0)


def cell_colours(cosine: np.ndarray, limit: float) -> np.ndarray:
    """Cosines float [...], NaN where not measured -> uint8 [..., 3]; colours are full from `limit` on."""
    strength = np.clip(np.nan_to_num(np.abs(cosine)) / limit, 0, 1)[..., None]
    end = np.where((cosine < 0)[..., None], CONFLICT, AGREEMENT)
    colour = NEUTRAL + strength * (end - np.array(NEUTRAL))
    return np.where(np.isnan(cosine)[..., None], _GROUND, colour.round()).astype(np.uint8)


def heatmap(title: str, panels: Mapping[str, Mapping[str, np.ndarray]], steps: tuple[int, int],
            row_height: int) -> np.ndarray:
    """Draw cosines over time.

    Args:
        title: above all.
        panels: by their titles (empty: none), rows by their labels, float [C] each, NaN where not measured.
        steps: the first and the last one, below the panels.
        row_height: pixels.

    Returns:
        RGB uint8 [H, W, 3].
    """
    limit = colour_limit(row for rows in panels.values() for row in rows.values())
    labels = [label for rows in panels.values() for label in rows]
    left = _MARGIN + min(160, max(text_width(label, _LETTERS) for label in labels)) + 10
    parts = [_band(left, 30, (_MARGIN, 22, title, _INK)), _legend(left, limit)]
    for name, rows in panels.items():
        parts.append(_band(left, 28 if name else 6, (left, 20, name, _INK)))
        parts += [_row(left, label, cells, limit, row_height) for label, cells in rows.items()]
    first, last = f"step {steps[0]:,}", f"{steps[1]:,}"
    right = left + _WIDTH - text_width(last, _LETTERS)
    parts.append(_band(left, 32, (left, 18, first, _SOFT), (right, 18, last, _SOFT)))
    return np.vstack(parts)


def _band(left: int, height: int, *texts: tuple[int, int, str, Colour]) -> np.ndarray:
    """An empty band of the picture with texts, each at x and the base line's y."""
    band = np.full((height, left + _WIDTH + _MARGIN, 3), _GROUND, np.uint8)
    for x, y, text, colour in texts:
        if text:
            write(band, text, (x, y), colour, _LETTERS)
    return band


def _row(left: int, label: str, cells: np.ndarray, limit: float, height: int) -> np.ndarray:
    label = shorten(label, left - _MARGIN - 10, _LETTERS)
    x = left - 10 - text_width(label, _LETTERS)
    band = _band(left, height, (x, (height + _LETTERS) // 2 - 2, label, _SOFT))
    shape = (_WIDTH, height - 1 if height > 20 else height)  # a gap between tall rows
    band[: shape[1], left : left + _WIDTH] = cv2.resize(
        cell_colours(cells[None], limit), shape, interpolation=cv2.INTER_NEAREST_EXACT)
    return band


def _legend(left: int, limit: float) -> np.ndarray:
    """The scale of the colours, with its numbers and what they mean."""
    low, high = f"conflict  -{limit:g}", f"{limit:g}  agreement"
    start, width = _MARGIN + text_width(low, _LETTERS) + 10, 160
    band = _band(left, 26, (_MARGIN, 17, low, _SOFT), (start + width + 10, 17, high, _SOFT))
    band[6:19, start : start + width] = cell_colours(np.linspace(-limit, limit, width), limit)
    band[4:21, start + width // 2] = _SOFT  # zero
    return band
