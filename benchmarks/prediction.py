"""What each way to ask a trained model gains on a labelled split, and what it costs: docs/prediction.md.

    python benchmarks/prediction.py --weights RUN --shards SHARDS [--tasks cls,det,seg] [--tiles PIXELS] [--images N]

One row a way: the task's scores, the difference to the plain way, and seconds an image. One process, any device.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from tables import header, line

from ufo_ds.assembly import load_model
from ufo_ds.command_line import override_section
from ufo_ds.data.folders import open_folder
from ufo_ds.data.shards import open_shards
from ufo_ds.distributed import ObjectExchange, find_device, find_ranks, limit_threads
from ufo_ds.recipe import PredictionConfig, Recipe
from ufo_ds.tasks import get_task
from ufo_ds.training.evaluation import Evaluator

FLIP = {"hflip": True}
BESIDE = {"cls": None, "det": "mAP", "seg": "mIoU_present"}


def ways_of(name: str, recipe: Recipe, tile: int) -> dict[str, dict[str, Any]]:
    """The ways to ask of a task, by what the table calls them: keys of its section of `prediction`."""
    scales = {f"scales {', '.join(map(str, each))}": {"scales": each} for each in ([1.0, 1.25], [0.8, 1.0, 1.25])}
    three = {"scales": [0.8, 1.0, 1.25]}
    ways = {"plain": {}, "hflip": FLIP, **scales, "three scales, hflip": FLIP | three}
    if name == "det":
        tiles = {"tiles": tile}
        ways |= {"three scales, nms": three | {"fusion": "nms"}, f"whole and tiles of {tile}": tiles}
        ways |= {f"whole and tiles of {tile}, nms": tiles | {"fusion": "nms"}}
        ways |= {f"tiles of {tile} alone": tiles | {"whole": False}}
    if name == "seg":
        window = {"window": list(recipe.tasks.seg.crop)}
        shown = "x".join(map(str, window["window"]))
        ways |= {f"windows of {shown}": window, f"windows of {shown}, three scales, hflip": window | FLIP | three}
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--tasks", default="cls,det,seg")
    parser.add_argument("--tiles", type=int, default=160, help="longer side of a tile, pixels")
    parser.add_argument("--images", type=int, help="only the first so many of each task")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    ranks = find_ranks()
    limit_threads(ranks, arguments.threads)
    model, recipe, metas = load_model(arguments.weights)
    device = find_device(ranks)
    model.to(device)
    recipe.data.workers, recipe.train.gallery, recipe.train.eval_images = 0, 0, arguments.images
    folder = open_folder(arguments.shards)
    for name in arguments.tasks.split(","):
        shards = open_shards(folder, name, arguments.split)
        key, beside, plain = get_task(name).score_key, BESIDE[name], None
        header(name, key, "gain", beside or "", "s an image")
        for way, views in ways_of(name, recipe, arguments.tiles).items():
            asked = {name: views, "in_training": True}
            recipe.prediction = override_section(PredictionConfig(), "prediction", asked)
            evaluator = Evaluator(recipe, metas, {name: shards}, ObjectExchange(ranks), device)
            start = time.perf_counter()
            scores = evaluator.scores(model)[0][name]
            seconds = (time.perf_counter() - start) / min(len(shards), arguments.images or len(shards))
            plain = scores[key] if plain is None else plain
            gain = f"{scores[key] - plain:+.4f}" if views else ""
            other = f"{scores[beside]:.4f}" if beside else ""
            line(way, f"{scores[key]:.4f}", gain, other, f"{seconds:.3f}")


if __name__ == "__main__":
    main()
