#!/usr/bin/env python
"""Draw a small, learnable download in Track 1's raw layout, with the labels of its test images beside it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shards.options import add_workers, natural, positive, task_names
from ufo_ds.data.schema import TASKS
from ufo_ds.errors import UserError, run_command

if TYPE_CHECKING:
    from shards.drawings.download import Contents

_MOST_IMAGES = 99_999


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="shards/toy.py",
        description=__doc__,
        epilog="Vehicles (cls), signs (det) and street scenes (seg). The same seed draws the same pictures.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the download; must not hold anything")
    parser.add_argument("--images", type=positive, help="training images a task (default: cls 960, det 480, seg 320)")
    parser.add_argument("--seed", type=natural, default=0, help="of all pictures (default: %(default)s)")
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--cls-classes", type=positive, default=6, help="kinds of vehicles (default: %(default)s)")
    parser.add_argument("--det-classes", type=positive, default=4, help="kinds of signs (default: %(default)s)")
    parser.add_argument(
        "--seg-classes",
        type=positive,
        help="kinds of surfaces, with ids from 0 and a classes.txt (default: 6 under Track 1's own ids, of 19)",
    )
    add_workers(parser)
    parser.add_argument("--force", action="store_true", help="replace an earlier download in --out")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw into a folder beside `--out`, and rename it when it is whole."""
    args = _parse(argv)
    tasks = task_names(args.tasks)
    if args.images and args.images > _MOST_IMAGES:
        raise UserError(f"--images {args.images}: more than {_MOST_IMAGES} make no toy; give fewer")
    from shards.drawings.download import Contents

    contents = Contents(tasks, args.images, args.seed, args.cls_classes, args.det_classes, args.seg_classes)
    out = args.out.absolute()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        _check_room(out, args.force)
        try:
            _draw(contents, temporary, args.workers)
            if out.is_dir():
                shutil.rmtree(out)
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror})") from None
    counts = ", ".join(f"{task} " + "/".join(str(contents.count(task, s)) for s in ("train", "val", "test"))
                       for task in tasks)  # fmt: skip
    print(f"{args.out}: drawn (train/val/test): {counts}")
    print(f"next: python shards/build.py --layout track1 --raw {args.out} --out SHARDS")


def _check_room(out: Path, force: bool) -> None:
    """`out` must be absent or empty, or with `force` hold a download and nothing else."""
    from shards.drawings.download import PARTS

    if not out.is_dir():
        if out.exists():
            raise UserError(f"--out {out}: not a folder; choose another")
        return
    names = sorted(path.name for path in out.iterdir())
    if names and not force:
        raise UserError(f"--out {out}: not empty; choose another folder, or --force to replace it")
    if foreign := [name for name in names if name not in PARTS]:
        raise UserError(f"--out {out}: holds {foreign[0]}, which is no part of a drawn download; remove it yourself")


def _draw(contents: Contents, root: Path, workers: int) -> None:
    from shards.drawings.download import draw_picture, make_folders, pictures, write_labels
    from shards.pool import run_jobs

    jobs = pictures(contents, root)
    make_folders(contents, root)
    labels = run_jobs(draw_picture, jobs, workers, len(jobs), "drawing")
    write_labels(contents, root, zip(jobs, labels, strict=True))


if __name__ == "__main__":
    run_command(main)
