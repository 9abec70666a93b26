"""What a recipe needs, without a GPU: `python launch/plan.py --config launch/recipes/track1_vitb.yaml --gpus 8`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.command_line import parse_recipe
from ufo_ds.errors import UserError, run_command

DESCRIPTION = """Parameters, memory of a rank, traffic and arithmetic of a step, passes over the data: what a run
of a recipe will need. With --data.shards the classes, samples and shards are those of the data,
else the classes are Track 1's."""
OWN = [
    (("--gpus",), {"type": int, "default": 8, "help": "ranks to plan for (default: 8)"}),
    (
        ("--tflops",),
        {"type": float, "default": 125.0, "help": "TFLOP/s one GPU sustains (default: 125, 40 %% of an A100's bf16)"},
    ),
    (("--json",), {"type": str, "help": "write the figures here too"}),
]


def main() -> None:
    recipe, own = parse_recipe({"prog": "plan.py", "description": DESCRIPTION}, OWN, sys.argv[1:])
    if own.gpus < 1:
        raise UserError(f"--gpus {own.gpus}: must be at least 1")
    if not 0 < own.tflops < 1e9:
        raise UserError(f"--tflops {own.tflops}: must be above 0")
    from ufo_ds.files import replace_file
    from ufo_ds.planning.plan import make_plan
    from ufo_ds.planning.text import as_text, as_values

    plan = make_plan(recipe, own.gpus, lambda text: print(text, file=sys.stderr, flush=True))
    print(as_text(plan, recipe, own.tflops))
    if own.json:
        replace_file(Path(own.json), json.dumps(as_values(plan), indent=1))


if __name__ == "__main__":
    run_command(main)
