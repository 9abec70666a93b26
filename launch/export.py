"""Write a model or one task of it: `python launch/export.py --run DIR --out DIR [--task det] [--onnx]`.

Safetensors with the config that loads them back, and on request ONNX. The export is compared with the model it comes
from before it is put in place.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script of the checkout, installed or not

from ufo_ds.errors import UserError, run_command

OPSET = 23


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="export.py", description=__doc__)
    parser.add_argument(
        "--run", required=True, type=Path, help="a run folder (its best weights) or a folder of weights"
    )
    parser.add_argument("--task", choices=("cls", "det", "seg"), help="one task only (default: all)")
    parser.add_argument("--depth", type=int, help="only so many leading blocks (of a model trained elastic)")
    parser.add_argument("--heads", type=int, help="only so many leading attention heads of each block")
    parser.add_argument("--mlp", type=float, help="only this share of the hidden units, in (0, 1]")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="also write OUT/<task>.onnx (pip install 'ufo-ds[onnx]')")
    parser.add_argument("--opset", type=int, help=f"ONNX opset, 18 to 23 (default: {OPSET}); with --onnx")
    parser.add_argument("--shards", help="compare on real images of these shards (default: on noise)")
    parser.add_argument("--split", default="val", help="their split (default: val)")
    parser.add_argument("--images", default=4, type=int, help="images a task to compare on (default: 4)")
    parser.add_argument("--batch", default=2, type=int, help="images at a time in the comparison (default: 2)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    for name in ("images", "batch", "threads", "depth", "heads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")
    if arguments.mlp is not None and not 0 < arguments.mlp <= 1:
        raise UserError(f"--mlp {arguments.mlp}: must be in (0, 1]")
    if arguments.opset and not arguments.onnx:
        raise UserError(f"--opset {arguments.opset}: only with --onnx")
    import torch

    from ufo_ds.data.folders import open_folder
    from ufo_ds.export import ImageSource, export
    from ufo_ds.recipe import Width

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    folder = open_folder(arguments.shards) if arguments.shards else None
    export(
        arguments.run,
        arguments.out,
        arguments.task,
        size=Width(arguments.depth, arguments.heads, arguments.mlp),
        opset=(arguments.opset or OPSET) if arguments.onnx else None,
        images=ImageSource(folder, arguments.split, arguments.images),
        batch=arguments.batch,
    )


if __name__ == "__main__":
    run_command(main)
