"""What detection's augmentation costs a picture and what it shows: `python benchmarks/augmentation_det.py`.

Pictures of 2048 x 2048 with three signs of 16 to 48 pixels, as those of TT100K. Costs are CPU time of one reader with
one thread, the best of several rounds that take turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import torch
from data_pictures import Scenes
from tables import header, line

from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.examples import QUARTER, TrainTransform
from ufo_ds.tasks.detection.rare import Cutout

META = TaskMeta("det", "benchmark", [ClassInfo(0, "sign")], {})
SIDE, SIGNS = 2048, 3
CASES: dict[str, tuple[dict[str, Any], int, int]] = {  # keys, pictures of a mosaic besides the own, objects pasted
    "the defaults": ({}, 0, 0),
    "`scale_jitter: [0.1, 2.0]`": ({"scale_jitter": (0.1, 2.0)}, 0, 0),
    "`crop_to_box: 1`": ({"crop_to_box": 1.0}, 0, 0),
    "`mosaic: 1`": ({}, 3, 0),
    "`copy_paste: 1`, 1 object": ({}, 0, 1),
    "`copy_paste: 1`, 3 objects": ({}, 0, 3),
}


def pictures(count: int) -> list[RawSample]:
    """Samples of which the first is as large as the others."""
    scenes = Scenes(0)
    samples = []
    for number in range(count):
        sides = scenes.generator.integers(16, 49, SIGNS).tolist()
        corners = scenes.generator.integers(0, SIDE - 50, (SIGNS, 2)).tolist()
        boxes = [{"bbox": [*corner, side, side], "category_id": 0} for corner, side in zip(corners, sides, strict=True)]
        label = json.dumps({"image_id": number, "annotations": boxes}).encode()
        samples.append(RawSample(f"{number}.jpg", {"jpg": scenes.jpeg(SIDE, SIDE), "json": label}))
    return samples


def costs(samples: list[RawSample], rounds: int) -> None:
    """A line for each setting: milliseconds a training image, and how many times that of the defaults."""
    best = dict.fromkeys(CASES, float("inf"))
    for _ in range(rounds):
        for name, (keys, quarters, pasted) in CASES.items():
            transform = TrainTransform(DetConfig(**keys), META)
            torch.manual_seed(0)
            began = time.process_time()
            for number, raw in enumerate(samples):
                others = [samples[(number + place + 1) % len(samples)] for place in range(quarters + pasted)]
                uses = [QUARTER] * quarters + [Cutout(0)] * pasted
                transform(raw, list(zip(others, uses, strict=True)))
            best[name] = min(best[name], 1e3 * (time.process_time() - began) / len(samples))
    header("keys", "ms an image", "times the defaults")
    for name, milliseconds in best.items():
        line(name, f"{milliseconds:.1f}", f"{milliseconds / best['the defaults']:.2f}")


def empty_crops(samples: list[RawSample], draws: int) -> None:
    """A line for each setting: of crops of 640 x 640 pixels near the pictures' own scale, those without a box."""
    header("keys", "images without a box", "boxes an image")
    for value in (0.0, 0.5, 1.0):
        config = DetConfig(size=(640, 640), scale_jitter=(2.4, 3.6), crop_to_box=value)
        torch.manual_seed(0)
        boxes = [len(TrainTransform(config, META)(raw).target["boxes"]) for _ in range(draws) for raw in samples]
        empty = 100 * boxes.count(0) / len(boxes)
        line(f"`crop_to_box: {value:g}`", f"{empty:.0f} %", f"{sum(boxes) / len(boxes):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--draws", type=int, default=10, help="crops a picture (default: 10)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    samples = pictures(arguments.pictures)
    costs(samples, arguments.rounds)
    empty_crops(samples, arguments.draws)


if __name__ == "__main__":
    main()
