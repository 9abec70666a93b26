"""Markdown tables as they stand in docs/benchmarks.md, and the figures in them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def header(*cells: object) -> None:
    """The head of a table."""
    print()
    line(*cells)
    line(*("---" for _ in cells))


def line(*cells: object) -> None:
    """A line of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of neighbours in time, ascending."""
    return sorted(one / other for one, other in zip(above, below, strict=True))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and, in brackets, quartiles."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    return f"{statistics.median(ordered):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
