"""Go on from trained weights: `deepspeed launch/finetune.py --config launch/recipes/finetune.yaml ...`."""

import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.command_line import parse_recipe
from ufo_ds.errors import UserError, run_command

DESCRIPTION = """Finetune any run's or exported weights on any shards: other classes, any subset of the tasks.
Model and task settings are those of the weights, unless a recipe file or an option says otherwise."""
OWN = [
    (("--weights",), {"type": str, "help": "a run folder, an export, or a folder of weights"}),
    (("--run",), {"type": str, "help": "folder of the new run"}),
    (("--resume",), {"action": "store_true", "help": "go on from the newest checkpoint of --run"}),
]


def values_of_weights(own) -> dict:
    for option in ("weights", "run"):
        if not getattr(own, option):
            raise UserError(f"--{option} is missing: see --help")
    from ufo_ds.assembly import values_of

    return values_of(Path(own.weights))


def main() -> None:
    recipe, own = parse_recipe(
        {"prog": "finetune.py", "description": DESCRIPTION}, OWN, sys.argv[1:], values_of_weights
    )
    from ufo_ds.report import write_report
    from ufo_ds.training.loop import train

    run = Path(own.run)
    if train(recipe, run, resume=own.resume, weights=Path(own.weights), command=shlex.join(sys.argv)):
        print(f"report: {write_report(run, run / 'report.html')}")


if __name__ == "__main__":
    run_command(main)
