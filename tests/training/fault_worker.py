"""One rank of tests/training/test_faults.py: a run with a loss that is not finite on rank 1, in the steps told.

Arguments: recipe, shards, run, task, the steps (comma-separated; "5-" for all from the fifth on).
"""

import os
import sys
from pathlib import Path

from ufo_ds.command_line import parse_recipe
from ufo_ds.errors import run_command
from ufo_ds.model.joint import JointModel
from ufo_ds.training import loop

RECIPE, SHARDS, RUN, TASK, STEPS, *MORE = sys.argv[1:] if __name__ == "__main__" else [""] * 5
step = 0
forward, seed_step = JointModel.forward, loop.seed_step


def is_bad():
    return any(step >= int(part[:-1]) if part.endswith("-") else step == int(part) for part in STEPS.split(","))


def spoiled(self, batch):
    parts = forward(self, batch)
    if batch.task == TASK and self.training and is_bad() and os.environ["RANK"] == "1":
        parts["loss"] = parts["loss"] * float("nan")
    return parts


def counting(seed, number, rank):
    global step
    step = number
    seed_step(seed, number, rank)


def main():
    JointModel.forward, loop.seed_step = spoiled, counting
    recipe, _ = parse_recipe({}, [], ["--config", RECIPE, "--data.shards", SHARDS, *MORE])
    loop.train(recipe, Path(RUN))


if __name__ == "__main__":  # readers import this file too
    run_command(main)
