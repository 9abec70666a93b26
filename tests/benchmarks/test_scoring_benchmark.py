"""benchmarks/scoring.py runs, and both of its ways come to the same figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.multiprocess


@pytest.mark.parametrize("given", [False, True], ids=["drawn masks", "masks of a folder"])
def test_both_ways_have_the_same_figures(tmp_path, given):
    arguments = ["--scale", "0.004", "--repeats", "1", "--workers", "2", "--json", str(tmp_path / "found.json")]
    if given:
        blocks = np.random.default_rng(0).integers(0, 19, (9, 12), np.uint8).repeat(10, 0).repeat(10, 1)
        (tmp_path / "masks").mkdir()
        Image.fromarray(blocks).save(tmp_path / "masks" / "a.png")
        arguments += ["--masks", str(tmp_path / "masks")]
    result = subprocess.run([sys.executable, str(ROOT / "benchmarks" / "scoring.py"), *arguments],
                            capture_output=True, text=True, timeout=200)  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["difference"] <= 1e-9
    assert len(found["score"]) == 2 and found["score"][0][0]["wall"] > 0
    # Neither everything right nor nothing: or equal figures would say little.
    lines = result.stdout.splitlines()
    rows = [line.split("|")[2] for line in lines if line.startswith(("| mAP50", "| mIoU", "| top1"))]
    assert len(rows) == 3 and all(0.05 < float(value) < 0.999 for value in rows)
