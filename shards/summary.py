"""What a build tells its user at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ufo_ds.data.schema import META_NAME, TaskMeta
from ufo_ds.errors import printable

_SHOWN = 5
_HEADER = ("task", "split", "found", "written", "rejected", "unmatched", "shards", "MB", "")


class Built(Protocol):
    """A task that is finished."""

    meta: TaskMeta
    unchanged: bool


def print_summary(builds: Sequence[Built], out: Path) -> None:
    """Print a table of the splits, the first rejections, and where all of them are listed."""
    rows = [row for build in builds for row in _rows(build)]
    if rows:
        print_table([_HEADER, *rows])
    for build in builds:
        _print_losses(build.meta, out)
    if builds and all(build.unchanged for build in builds):
        print(f"{out} is complete and unchanged: nothing to do")


def _rows(build: Built) -> list[tuple[str, ...]]:
    return [
        (
            build.meta.task,
            name,
            *(
                str(n)
                for n in (
                    split.found,
                    split.samples,
                    len(split.rejected),
                    len(split.unmatched),
                    len(split.shards),
                )
            ),
            f"{sum(shard.bytes for shard in split.shards) / 1e6:.1f}",
            "unchanged" if build.unchanged else "",
        )
        for name, split in build.meta.splits.items()
    ]


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns, the first two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def _print_losses(meta: TaskMeta, out: Path) -> None:
    lines = []
    for name, split in meta.splits.items():
        lines += [f"rejected   {meta.task} {name}: {item.file}: {item.reason}" for item in split.rejected]
        lines += [f"unmatched  {meta.task} {name}: {item.entry}: {item.reason}" for item in split.unmatched]
    for line in lines[:_SHOWN]:
        print(printable(line))
    if lines:
        print(f"all {len(lines)} of {meta.task} are listed in {out / meta.task / META_NAME}")
