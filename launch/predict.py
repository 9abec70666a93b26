"""Predict a split into the challenge's JSON: `deepspeed launch/predict.py --run DIR --shards SHARDS --out sub.json`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.command_line import parse_section
from ufo_ds.errors import UserError, run_command

DESCRIPTION = """Predict a split into the challenge's JSON. How the model is asked (mirror images, scales, tiles,
windows) says the weights' section `prediction`; each of its keys is an option, and wins there."""
OWN = [
    (("--run",), {"type": str, "help": "a run folder, an export, or a folder of weights"}),
    (("--shards",), {"type": str, "help": "what shards/build.py wrote: a folder, a URL, or pipe:COMMAND"}),
    (("--split",), {"type": str, "default": "test", "help": "split to predict"}),
    (("--out",), {"type": str, "default": "submission.json", "help": "JSON to write"}),
    (("--tasks",), {"type": str, "help": "only these, e.g. cls,det (default: all that weights and shards have)"}),
    (("--plain",), {"action": "store_true", "help": "ignore the weights' section `prediction`: one view a picture"}),
    (("--workers",), {"type": int, "default": 2, "help": "reader processes a rank"}),
    (("--cache",), {"type": str, "metavar": "DIR", "help": "folder for fetched shards (default: the user's)"}),
    (("--cache-gib",), {"type": float, "default": 100.0, "help": "size limit of that folder"}),
    (("--threads",), {"type": int, "help": "CPU threads a rank (default: the cores shared out)"}),
    (("--objects",), {"action": "store_true", "help": "write cls and seg as objects, not as the official lists"}),
]


def main() -> None:
    views, own = parse_section({"prog": "predict.py", "description": DESCRIPTION}, OWN, sys.argv[1:], "prediction")
    for option in ("run", "shards"):
        if not getattr(own, option):
            raise UserError(f"--{option} is missing: see --help")
    tasks = own.tasks.split(",") if own.tasks else None
    if tasks and not set(tasks) <= {"cls", "det", "seg"}:
        raise UserError(f"--tasks {own.tasks}: tasks are cls, det, seg")
    if own.workers < 0:
        raise UserError(f"--workers {own.workers}: must be 0 or more")
    if not 0 < own.cache_gib <= 2**33:
        raise UserError(f"--cache-gib {own.cache_gib}: must be above 0")
    from ufo_ds.data.folders import open_folder
    from ufo_ds.prediction import predict

    predict(
        Path(own.run),
        open_folder(own.shards, cache=own.cache, cache_gib=own.cache_gib),
        own.split,
        Path(own.out),
        tasks=tasks,
        workers=own.workers,
        as_objects=own.objects,
        threads=own.threads,
        plain=own.plain,
        views=views,
    )


if __name__ == "__main__":
    run_command(main)
