#!/usr/bin/env python
"""Index tar shards that others wrote, and with --task and --split let UFO-DS train from them. Tars stay as they are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shards.options import add_workers
from ufo_ds.data.schema import SPLITS, TASKS
from ufo_ds.errors import UserError, run_command

_EPILOG = "What is checked, refused and left out: docs/data.md, 'Shards that others wrote'."


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="shards/index.py", description=__doc__, epilog=_EPILOG)
    parser.add_argument("tars", type=Path, nargs="+", metavar="TAR|DIR", help="uncompressed tars, or folders of *.tar")
    parser.add_argument("--task", choices=TASKS, help="check the samples for this task and write its meta.json")
    parser.add_argument("--split", choices=SPLITS, help="that the tars are; goes with --task")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="DIR/<task>/ gets links to the tars, their indexes and meta.json; not needed where the "
                             "tars already stand in <task>/<split>-000000.tar, ...")  # fmt: skip
    parser.add_argument("--classes", type=Path, metavar="FILE",
                        help="class names, a line each; for det also a COCO JSON with categories "
                             "(default: the ids that the labels use)")  # fmt: skip
    add_workers(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Index alone, or take the tars in as a split."""
    args = _parse(argv)
    if (args.task is None) != (args.split is None):
        raise UserError("--task and --split go together: give both, or neither for the indexes alone")
    if args.task is None and (args.out or args.classes):
        raise UserError(f"{'--out' if args.out else '--classes'} needs --task and --split")
    from shards.foreign.take_in import TakeIn, find_tars, index_beside, take_in

    tars = find_tars(args.tars, args.split)
    if args.task is None:
        index_beside(tars)
    else:
        take_in(tars, TakeIn(args.task, args.split, args.out, args.classes, args.workers))


if __name__ == "__main__":
    run_command(main)
