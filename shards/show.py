#!/usr/bin/env python
"""Look at shards: tables of what they hold, a contact sheet of images with their labels, and a full verification."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shards.options import add_workers, natural, positive, task_names
from ufo_ds.data.schema import META_NAME, SPLITS, TASKS
from ufo_ds.errors import UserError, run_command

_MOST_PICTURES = 1000


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="shards/show.py", description=__doc__)
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="the folder with cls/, det/, seg/")
    parser.add_argument("--task", help="only these, comma-separated (default: all that are there)")
    parser.add_argument("--split", choices=SPLITS,
                        help="only this one (default: all; the pictures of --out are of the first)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="contact sheet: a .png, or a self-contained .html")
    parser.add_argument("--count", type=positive, default=24, help="pictures a task (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="which pictures (default: %(default)s)")
    parser.add_argument("--verify", action="store_true", help="read and decode everything again; status 2 on problems")
    add_workers(parser)
    return parser.parse_args(argv)


def _tasks(root: Path, named: str | None) -> list[str]:
    if named is not None:
        return list(task_names(named, "--task"))
    there = [task for task in TASKS if (root / task / META_NAME).is_file()]
    if not there:
        hint = f"give its parent, {root.parent}" if (root / META_NAME).is_file() else "give what shards/build.py wrote"
        raise UserError(f"{root}: no {META_NAME} in {', '.join(f'{task}/' for task in TASKS)}; {hint}")
    return there


def main(argv: list[str] | None = None) -> None:
    """Verify if wanted, print the tables, draw the sheet."""
    args = _parse(argv)
    if args.out and args.out.suffix.lower() not in (".png", ".html"):
        raise UserError(f"--out {args.out}: name a .png or a .html file")
    if args.count > _MOST_PICTURES:
        raise UserError(f"--count {args.count}: more than {_MOST_PICTURES} pictures make no sheet; give fewer")
    tasks = _tasks(args.shards, args.task)
    if args.verify:
        from shards.shard_check import verify

        verify(args.shards, tasks, [args.split] if args.split else list(SPLITS), args.workers)
    from shards.viewing.figures import read_figures
    from shards.viewing.tables import print_tables

    figures = read_figures(args.shards, tasks, args.split)
    print_tables(figures)
    if args.out:
        if args.out.suffix.lower() == ".png":
            from shards.viewing.sheet import write_sheet as write
        else:
            from shards.viewing.page import write_page as write
        print(write(args.out, figures, args.count, args.seed))


if __name__ == "__main__":
    run_command(main)
