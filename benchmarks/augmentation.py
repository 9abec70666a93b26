"""What augmentation costs a picture, and what crops of rare classes bring: `python benchmarks/augmentation.py`.

Costs are CPU time of one reader with one thread, the best of several rounds that take turns. `--masks 'DIR/*.png'` (a
pattern of label PNGs of 19 ids) adds the second table: which of the crops of a picture that has a class hold it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from data_pictures import Scenes
from tables import header, line

from ufo_ds.data.decode import decode_mask
from ufo_ds.data.schema import IGNORE_ID, ClassInfo, RawSample, TaskMeta
from ufo_ds.recipe import ClsConfig, SegConfig
from ufo_ds.tasks.classification.examples import TrainTransform as ClsTransform
from ufo_ds.tasks.segmentation import placing
from ufo_ds.tasks.segmentation.examples import TrainTransform as SegTransform

META = TaskMeta("any", "benchmark", [ClassInfo(i, str(i)) for i in range(19)], {})
CLS: dict[str, dict[str, Any]] = {
    "the defaults": {}, "`random_erasing: 1`": {"random_erasing": 1.0},
    **{f"`auto_augment: {name}`": {"auto_augment": name}
       for name in ("trivialaugment", "autoaugment", "randaugment", "augmix")},
}  # fmt: skip
SEG: dict[str, dict[str, Any]] = {
    "the defaults": {}, "`hue_jitter: 0.1`, `jitter_prob: 0.5`": {"hue_jitter": 0.1, "jitter_prob": 0.5},
    "`rare_crops: 1`": {"rare_crops": 1.0}, "`cat_max_ratio: 0.75`": {"cat_max_ratio": 0.75},
}  # fmt: skip


def costs(rounds: int, pictures: int) -> None:
    """A line for each setting: milliseconds a picture."""
    scenes = Scenes(0)
    mask = np.random.default_rng(0).integers(0, 19, (12, 20)).astype(np.uint8).repeat(60, 0).repeat(64, 1)
    cases: dict[tuple[str, str], tuple[Any, RawSample]] = {}
    car, street = scenes.jpeg(600, 800), scenes.jpeg(720, 1280)
    for name, keys in CLS.items():
        cases["cls", name] = ClsTransform(ClsConfig(**keys), META), RawSample("a.jpg", {"jpg": car, "cls": b"1"})
    for name, keys in SEG.items():
        members = {"jpg": street, "png": cv2.imencode(".png", mask)[1].tobytes()}
        cases["seg", name] = SegTransform(SegConfig(**keys), META), RawSample("a.jpg", members)
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for case, (transform, raw) in cases.items():
            torch.manual_seed(0)
            began = time.process_time()
            for _ in range(pictures):
                transform(raw)
            best[case] = min(best[case], 1e3 * (time.process_time() - began) / pictures)
    header("task", "keys", "ms a picture")
    for (task, name), milliseconds in best.items():
        line(task, name, f"{milliseconds:.1f}")


def crops(pattern: str, crop: tuple[int, int], scale: float, draws: int) -> None:
    """A line for each class: its share of all crops' pixels, and of the crops that could hold it how many do."""
    folder = Path(pattern)
    masks = [decode_mask(path.read_bytes()) for path in sorted(folder.parent.glob(folder.name))]
    counts = sum(np.bincount(mask.ravel(), minlength=256)[:IGNORE_ID] for mask in masks)
    there = sum((np.bincount(mask.ravel(), minlength=256)[:IGNORE_ID] > 0) * draws for mask in masks)
    columns = []
    for rare_crops in (0.0, 1.0):
        torch.manual_seed(0)
        pixels, held = np.zeros(IGNORE_ID), np.zeros(IGNORE_ID)
        for mask in masks:
            for _ in range(draws):
                place = placing.place_crop(mask, crop, scale, SegConfig(rare_crops=rare_crops))
                found = np.bincount(place.paste_mask(mask, IGNORE_ID).numpy().ravel(), minlength=256)[:IGNORE_ID]
                pixels, held = pixels + found, held + (found > 0)
        columns += [100 * pixels / pixels.sum(), 100 * held / np.maximum(there, 1)]
    header("class", "% of all pixels", "% of the crops' pixels", "% of crops", "both with `rare_crops: 1`", "")
    for label in np.flatnonzero(counts)[np.argsort(counts[counts > 0])]:
        line(label, f"{100 * counts[label] / counts.sum():.2f}", *(f"{column[label]:.2f}" for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", metavar="PATTERN")
    parser.add_argument("--crop", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=1.5, help="of the picture before the crop (default: 1.5)")
    parser.add_argument("--draws", type=int, default=8, help="crops a mask (default: 8)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    costs(arguments.rounds, arguments.pictures)
    if arguments.masks:
        crops(arguments.masks, tuple(arguments.crop), arguments.scale, arguments.draws)


if __name__ == "__main__":
    main()
