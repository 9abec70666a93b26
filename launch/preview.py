"""See what a recipe trains on: `python launch/preview.py --config launch/recipes/toy.yaml --data.shards SHARDS`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.command_line import parse_recipe
from ufo_ds.errors import run_command

DESCRIPTION = """Draw training samples as the network gets them, augmented, mixed and with their labels: a sheet a task.
Every recipe key is an option, so that a setting can be tried without a recipe file."""
OWN = [
    (("--task",), {"choices": ("cls", "det", "seg"), "help": "one task only (default: all of the recipe)"}),
    (("--images",), {"type": int, "default": 16, "help": "samples a task (default: 16)"}),
    (("--step",), {"type": int, "default": 1, "help": "the step of the run whose batches come first (default: 1)"}),
    (("--ranks",), {"type": int, "default": 1, "help": "ranks of the run; those of rank 0 are drawn (default: 1)"}),
    (("--out",), {"type": str, "default": "preview.jpg", "help": "picture; of several tasks NAME-<task>.jpg each"}),
]


def main() -> None:
    recipe, own = parse_recipe({"prog": "preview.py", "description": DESCRIPTION}, OWN, sys.argv[1:])
    from ufo_ds.training.preview import write_preview

    for path in write_preview(
        recipe, Path(own.out), task=own.task, images=own.images, step=own.step, world=own.ranks
    ):
        print(path)


if __name__ == "__main__":
    run_command(main)
