"""Lay out the project's wandb workspace: `python launch/dashboard.py` (saved only where there is a wandb key)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.errors import run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dashboard.py", description=__doc__,
        epilog="Each save makes a new view of the project; delete the one before in wandb.")
    parser.add_argument("--project", default="ufo-ds", help="the wandb project (default: ufo-ds)")
    parser.add_argument("--entity", default="", metavar="NAME",
                        help="the user or team that owns it (default: WANDB_ENTITY, else the key's own)")
    parser.add_argument("--name", default="UFO-DS", help="what the workspace is called (default: UFO-DS)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the workspace there, too")
    parser.add_argument("--check", action="store_true", help="build and check only, never save")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from ufo_ds.dashboard import publish

    print(publish(arguments.project, arguments.name, arguments.entity, arguments.out, arguments.check))


if __name__ == "__main__":
    run_command(main)
