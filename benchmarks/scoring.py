"""Writing and scoring a submission beside the usual way: `python benchmarks/scoring.py`.

Draws ground truth and predictions of the challenge's size (benchmarks/scoring_data.py), then runs whole commands in
turn: benchmarks/scoring_official.py, and `launch/evaluate.py` or this project's writer. A ratio is that of neighbours;
the median of those is given, with the extremes. CPU seconds are those of the command and all its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from scoring_data import make_data
from tables import header, line

from ufo_ds.workers import Workers, count_cores

FIGURES = ("top1", "mAP50", "mIoU", "average")
OFFICIAL = ROOT / "benchmarks" / "scoring_official.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the challenge's images (default: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=count_cores(), help="processes of ours (default: one a core)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--masks", type=Path, help="a folder of label PNGs to take in place of drawn masks")
    parser.add_argument("--json", type=Path, help="write the raw figures here too")
    parser.add_argument("--write", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(*arguments.write, arguments.workers)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def compare(folder: Path, arguments: argparse.Namespace) -> dict:
    """Both commands, both ways, in turn."""
    data = folder / "data"
    make_data(data, arguments.scale, arguments.seed, arguments.workers, arguments.masks)
    theirs, ours = folder / "official.json", folder / "ours.json"
    truth = ["--cls-gt", data / "cls.txt", "--det-gt", data / "det.json", "--seg-gt", data / "seg"]
    workers = ["--workers", arguments.workers]
    commands = {
        "write": ([OFFICIAL, "write", data, theirs], [__file__, "--write", data, ours, *workers]),
        "score": ([OFFICIAL, "score", theirs, *truth, "--json", folder / "official_scores.json"],
                  [ROOT / "launch" / "evaluate.py", theirs, *truth, "--json", folder / "scores.json", *workers]),
    }  # fmt: skip
    print(f"scale {arguments.scale}, {arguments.workers} processes of ours, {count_cores()} cores, "
          f"load {os.getloadavg()[0]:.1f} at the start")  # fmt: skip
    header("command", "official", "ours", "ratio (extremes)", "CPU, official", "CPU, ours", "ratio",
           "largest process, official", "ours")  # fmt: skip
    found: dict = {}
    for name, pair in commands.items():
        found[name] = [[], []]
        for repeat in range(arguments.repeats):
            for way in (0, 1) if repeat % 2 == 0 else (1, 0):
                found[name][way].append(run(pair[way]))
        _line_of(name, *found[name])
    run([ROOT / "launch" / "evaluate.py", ours, *truth, "--json", folder / "own_scores.json", *workers])
    scores = [json.loads((folder / f"{name}.json").read_text()) for name in ("official_scores", "scores", "own_scores")]
    header("figure", "official", "ours", "difference", "ours on our own file, difference")
    for key in FIGURES:
        values = [score[key] for score in scores]
        line(key, *(f"{value:.9f}" for value in values[:2]), *(f"{abs(value - values[0]):.1e}" for value in values[1:]))
    found["difference"] = max(abs(score[key] - scores[0][key]) for key in FIGURES for score in scores)
    print(f"\nfile: official {theirs.stat().st_size / 1e6:.1f} MB, ours {ours.stat().st_size / 1e6:.1f} MB")
    return found


def _line_of(name: str, theirs: list[dict], ours: list[dict]) -> None:
    middle = [{key: statistics.median(item[key] for item in way) for key in way[0]} for way in (theirs, ours)]
    pairs = sorted(a["wall"] / b["wall"] for a, b in zip(theirs, ours, strict=True))
    line(name, *(f"{way['wall']:.1f} s" for way in middle),
         f"{statistics.median(pairs):.1f} ({pairs[0]:.1f}-{pairs[-1]:.1f})", *(f"{way['cpu']:.1f} s" for way in middle),
         f"{middle[0]['cpu'] / middle[1]['cpu']:.1f}", *(f"{way['mib']:.0f} MiB" for way in middle))  # fmt: skip


def run(command: list) -> dict[str, float]:
    """A script in a process of its own: seconds, CPU seconds with its children, MiB of its largest process."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command} failed:\n{output.read().decode()[-3000:]}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}


# ---- in a process of its own ----


def write(data: Path, out: Path, workers: int) -> None:
    """The predictions in `data` as a submission, the way of `launch/predict.py`."""
    from ufo_ds.submission import write_submission
    from ufo_ds.tasks.classification import score as classification
    from ufo_ds.tasks.detection import score as detection
    from ufo_ds.tasks.segmentation import score as segmentation

    labels = np.load(data / "predictions" / "cls.npy").tolist()
    paths = sorted((data / "predictions" / "seg").glob("*.npy"))
    masks = (segmentation.MaskPrediction(path.stem, np.load(path)) for path in paths)
    boxes = np.load(data / "predictions" / "det.npz")
    corners, sizes = boxes["boxes_xywh"][..., :2], boxes["boxes_xywh"][..., 2:]
    found = zip(np.concatenate([corners, corners + sizes], 2), boxes["labels"], boxes["scores"], strict=True)
    with Workers(workers) as pool:
        seg = segmentation.write_section(list(pool.stream(segmentation.encode, masks)))
    cls = [classification.ClassPrediction(f"{number:05d}.jpg", label) for number, label in enumerate(labels, start=1)]
    det = [detection.BoxPrediction(number, *image) for number, image in enumerate(found, start=1)]
    sections = {"cls": classification.write_section(cls), "dec": detection.write_section(det), "seg": seg}
    write_submission(out, sections)


if __name__ == "__main__":
    main()
