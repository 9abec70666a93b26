"""Predict a split into the challenge's JSON: `deepspeed launch/predict.py --run DIR --shards SHARDS --out sub.json`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.errors import UserError, run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="predict.py", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="a run folder, an export, or a folder of weights")
    parser.add_argument("--shards", required=True, help="what shards/build.py wrote: a folder, a URL, or pipe:COMMAND")
    parser.add_argument("--split", default="test", help="split to predict (default: test)")
    parser.add_argument("--out", default=Path("submission.json"), type=Path, help="JSON to write")
    parser.add_argument("--tasks", help="only these, e.g. cls,det (default: all that weights and shards have)")
    parser.add_argument("--workers", default=2, type=int, help="reader processes a rank (default: 2)")
    parser.add_argument("--cache", metavar="DIR", help="folder for fetched shards (default: the user's)")
    parser.add_argument("--cache-gib", default=100.0, type=float, help="size limit of that folder (default: 100)")
    parser.add_argument("--threads", type=int, help="CPU threads a rank (default: the cores shared out)")
    parser.add_argument(
        "--objects", action="store_true", help="write cls and seg as objects, not as the official lists"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    tasks = arguments.tasks.split(",") if arguments.tasks else None
    if tasks and not set(tasks) <= {"cls", "det", "seg"}:
        raise UserError(f"--tasks {arguments.tasks}: tasks are cls, det, seg")
    if arguments.workers < 0:
        raise UserError(f"--workers {arguments.workers}: must be 0 or more")
    if not 0 < arguments.cache_gib <= 2**33:
        raise UserError(f"--cache-gib {arguments.cache_gib}: must be above 0")
    from ufo_ds.data.folders import open_folder
    from ufo_ds.prediction import predict

    predict(
        arguments.run,
        open_folder(arguments.shards, cache=arguments.cache, cache_gib=arguments.cache_gib),
        arguments.split,
        arguments.out,
        tasks=tasks,
        workers=arguments.workers,
        as_objects=arguments.objects,
        threads=arguments.threads,
    )


if __name__ == "__main__":
    run_command(main)
