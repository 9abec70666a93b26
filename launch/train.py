"""Train one ViT for several tasks: `deepspeed launch/train.py --config launch/recipes/toy.yaml --run runs/toy`."""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.command_line import parse_recipe
from ufo_ds.errors import UserError, run_command

DESCRIPTION = "Train one vision transformer jointly for the tasks of a recipe. Every recipe key is an option."
OWN = [
    (("--run",), {"type": str, "help": "folder of the run (log, checkpoints, weights, report)"}),
    (("--resume",), {"action": "store_true", "help": "go on from the newest checkpoint of --run"}),
]


def main() -> None:
    recipe, own = parse_recipe({"prog": "train.py", "description": DESCRIPTION}, OWN, sys.argv[1:])
    if not own.run:
        raise UserError("--run is missing: name the folder of the run, --run runs/NAME")
    from ufo_ds.report import write_report
    from ufo_ds.training.loop import train

    run = Path(own.run)
    if train(recipe, run, resume=own.resume, command=shlex.join(sys.argv)):
        print(f"report: {write_report(run, run / 'report.html')}")


if __name__ == "__main__":
    run_command(main)
