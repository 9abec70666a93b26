"""Write a model's weights as safetensors with the config that loads them back: `python launch/export.py --run DIR`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(prog="export.py", description=__doc__)
    parser.add_argument(
        "--run", required=True, type=Path, help="a run folder (its best weights) or a folder of weights"
    )
    parser.add_argument("--task", choices=("cls", "det", "seg"), help="one task only (default: all)")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    from ufo_ds.export import export

    export(arguments.run, arguments.out, arguments.task)


if __name__ == "__main__":
    run_command(main)
