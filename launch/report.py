"""Write a run as one self-contained HTML page: `python launch/report.py --run DIR`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.errors import UserError, run_command
from ufo_ds.files import read_text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run directory")
    parser.add_argument("--scores", type=Path, metavar="JSON",
                        help="figures on test, from evaluate.py --json")
    parser.add_argument("--out", type=Path, metavar="HTML", help="default: report.html in the run directory")
    parser.add_argument("--title", help="default: the run directory's name")
    return parser.parse_args()


def read_scores(path: Path) -> dict:
    import json

    try:
        value = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give what evaluate.py --json wrote") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: is no JSON object; give what evaluate.py --json wrote")
    return value


def main() -> None:
    arguments = parse_arguments()
    from ufo_ds.report import write_report

    scores = read_scores(arguments.scores) if arguments.scores else None
    out = arguments.out or arguments.run / "report.html"
    print(write_report(arguments.run, out, scores, arguments.title))


if __name__ == "__main__":
    run_command(main)
