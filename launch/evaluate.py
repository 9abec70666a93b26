"""Score a submission against the ground truth: Top-1, mAP50, mIoU and their average."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.errors import UserError, run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="evaluate.py", description=__doc__,
        epilog="A task is scored where its ground truth is given; one that the submission lacks scores 0.")
    parser.add_argument("submission", type=Path, help="the JSON that predict.py wrote, or anyone else's")
    parser.add_argument("--cls-gt", type=Path, metavar="TXT", help="lines '00001.jpg 0'")
    parser.add_argument("--det-gt", type=Path, metavar="JSON", help="COCO annotations")
    parser.add_argument("--seg-gt", type=Path, metavar="DIR", help="PNG masks of class ids, 255 = ignored")
    parser.add_argument("--seg-classes", type=int, default=19, metavar="N",
                        help="classes that the masks declare; mIoU is the mean over all (default: 19)")
    parser.add_argument("--workers", type=int, metavar="N",
                        help="processes (default: one a core); the figures do not depend on it")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there, too")
    parser.add_argument("--per-class", action="store_true", help="print the figure of every class")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if int(os.environ.get("RANK", "0")):
        return  # under a launcher of several ranks, one is enough
    given = {"cls": arguments.cls_gt, "det": arguments.det_gt, "seg": arguments.seg_gt}
    truths = {name: path for name, path in given.items() if path is not None}
    if not truths:
        raise UserError("no ground truth: give one or more of --cls-gt, --det-gt, --seg-gt")
    if not 1 <= arguments.seg_classes <= 255:
        raise UserError(f"--seg-classes {arguments.seg_classes}: must be in 1..255")
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers {arguments.workers}: must be 1 or more")
    import json

    from ufo_ds.files import replace_file
    from ufo_ds.scoring import format_scores, score_submission
    from ufo_ds.workers import count_cores

    workers = arguments.workers or count_cores()
    scores = score_submission(arguments.submission, truths, arguments.seg_classes, workers)
    for name, score in scores.tasks.items():
        for warning in score.warnings:
            print(f"warning: {name}: {warning}", file=sys.stderr)
    sys.stdout.reconfigure(errors="backslashreplace")  # class names may hold what the terminal cannot show
    print(format_scores(scores, arguments.per_class))
    if arguments.json:
        replace_file(arguments.json, json.dumps(scores.as_json(), indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
