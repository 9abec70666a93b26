"""The usual way to write and to score a submission: one process, one image after another.

    python benchmarks/scoring_official.py write DATA submission.json
    python benchmarks/scoring_official.py score submission.json --cls-gt TXT --det-gt JSON --seg-gt DIR --json OUT

Writing: `cv2.findContours` for each class of a mask, contours as lists, one `json.dump`. Scoring: accuracy by a loop;
the boxes written to a file for `COCO.loadRes`, then all of `COCOeval` (four areas, three `maxDets`), `stats[1]`; each
entry of `seg` painted by one `cv2.fillPoly` a class and written as PNG, and when all are there, read back one by one
beside the label and counted by `np.bincount` over the scored pixels, the confusions summed. This is what the challenge
describes and what its participants run, except that short contours are padded when written, so that both ways speak of
the same pixels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scoring_data import SEG_CLASSES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("write")
    writer.add_argument("data", type=Path)
    writer.add_argument("submission", type=Path)
    scorer = commands.add_parser("score")
    scorer.add_argument("submission", type=Path)
    for name in ("cls", "det", "seg"):
        scorer.add_argument(f"--{name}-gt", type=Path, required=True)
    scorer.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.command == "write":
        write(arguments.data, arguments.submission)
    else:
        value = json.loads(arguments.submission.read_text())
        figures = {"top1": top1(value["cls"], arguments.cls_gt), "mAP50": map50(value["dec"], arguments.det_gt),
                   "mIoU": miou(value["seg"], arguments.seg_gt)}  # fmt: skip
        figures["average"] = sum(figures.values()) / 3
        print(figures)
        arguments.json.write_text(json.dumps(figures))


# ---- writing ----


def write(data: Path, submission: Path) -> None:
    """The predictions of benchmarks/scoring_data.py as a submission."""
    labels = np.load(data / "predictions" / "cls.npy")
    boxes = np.load(data / "predictions" / "det.npz")
    value = {
        "cls": [{f"{number:05d}.jpg": int(label)} for number, label in enumerate(labels, start=1)],
        "dec": [
            {"image_id": image, "category_id": int(category), "bbox": [round(float(v), 3) for v in box],
             "score": float(score)}
            for image, found in enumerate(zip(*boxes.values(), strict=True), start=1)
            for box, category, score in zip(*found, strict=True)
        ],
        "seg": [{f"{path.stem}.png": polygons_of(np.load(path))}
                for path in sorted((data / "predictions" / "seg").glob("*.npy"))],
    }  # fmt: skip
    with submission.open("w") as file:
        json.dump(value, file)


def polygons_of(mask: np.ndarray) -> dict[str, list]:
    """Contours by class id."""
    polygons = {}
    for class_id in np.unique(mask).tolist():
        region = (mask == class_id).astype(np.uint8)
        contours, _ = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        polygons[str(class_id)] = []
        for contour in contours:
            points = [[int(x), int(y)] for x, y in contour[:, 0]]
            points += [points[-1]] * (3 - len(points))  # else the scorer drops them
            polygons[str(class_id)].append(points)
    return polygons


# ---- scoring ----


def top1(entries: list[dict], truth: Path) -> float:
    """Share of the submitted images that are right."""
    labels = dict(line.rsplit(maxsplit=1) for line in truth.read_text().splitlines())
    right = 0
    for entry in entries:
        for name, label in entry.items():
            right += int(labels[name]) == label
    return right / len(entries)


def map50(entries: list[dict], truth: Path) -> float:
    """`stats[1]` of COCOeval as it stands."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(entries, file)
        file.flush()
        wanted = COCO(str(truth))
        found = wanted.loadRes(file.name)
    evaluation = COCOeval(wanted, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[1])


def miou(entries: list[dict], truth: Path) -> float:
    """Mean IoU over all classes, from PNG files on both sides."""
    confusion = np.zeros((SEG_CLASSES, SEG_CLASSES), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries:
            for name, polygons in entry.items():
                width, height = Image.open(truth / name).size
                cv2.imwrite(f"{folder}/{name}", painted(polygons, height, width))
        for path in sorted(Path(folder).iterdir()):
            mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            label = cv2.imread(str(truth / path.name), cv2.IMREAD_GRAYSCALE)
            scored = label < SEG_CLASSES
            pairs = SEG_CLASSES * label[scored].astype(np.int64) + mask[scored]
            confusion += np.bincount(pairs, minlength=SEG_CLASSES**2).reshape(SEG_CLASSES, SEG_CLASSES)
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return float(np.mean(hits / np.maximum(union, 1)))


def painted(polygons: dict[str, list], height: int, width: int) -> np.ndarray:
    """A mask of contours; class 0 is what is left."""
    mask = np.zeros((height, width), np.uint8)
    for class_id, contours in polygons.items():
        points = [np.array(contour, np.int32) for contour in contours if len(contour) >= 3]
        if int(class_id) and points:
            cv2.fillPoly(mask, points, int(class_id))
    return mask


if __name__ == "__main__":
    main()
