#!/usr/bin/env python
"""Pack a raw download into WebDataset tar shards, each with its index, and a meta.json for each task."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shards.options import add_workers, named_values, positive, task_names
from ufo_ds.errors import run_command

_EPILOG = (
    "An interrupted build is finished by running the same command again; an unchanged one is left as it is. "
    "What is written and what is rejected: docs/data.md."
)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="shards/build.py", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--layout", default="track1", help="how --raw is laid out (default: track1; docs/layouts.md)")
    parser.add_argument("--raw", type=Path, required=True, help="folder of the raw download")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards; made if absent")
    parser.add_argument("--tasks", help="only these, comma-separated (default: all that the raw download has)")
    parser.add_argument("--layout-option", action="append", default=[], metavar="NAME=VALUE",
                        help="a choice that the layout offers, such as classes=all of tt100k")  # fmt: skip
    add_workers(parser)
    parser.add_argument(
        "--samples-per-shard", type=positive, default=512, help="at most so many (default: %(default)s)"
    )
    parser.add_argument(
        "--shard-mb",
        type=positive,
        default=512,
        help="raw megabytes a shard, about at most (default: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Plan, pack, report."""
    args = _parse(argv)
    named = task_names(args.tasks) if args.tasks is not None else None
    from shards.builder import Options, build
    from shards.plan import ShardLimits

    limits = ShardLimits(args.samples_per_shard, args.shard_mb * 10**6)
    choices = named_values(args.layout_option, "--layout-option")
    build(Options(args.layout, args.raw, args.out, named, args.workers, limits, choices))


if __name__ == "__main__":
    run_command(main)
