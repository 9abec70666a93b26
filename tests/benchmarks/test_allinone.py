"""The table and the chart of joint against single models."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from allinone_tables import SINGLES, _ticks, by_variant  # noqa: E402

KEYS = {"cls": "top1", "det": "mAP50", "seg": "mIoU_present"}


def row(variant, seed, **scores):
    return {"variant": variant, "seed": seed, "steps": 7, "scores": {t: {KEYS[t]: v} for t, v in scores.items()}}


ROWS = [
    row("PCGrad", 0, cls=0.4, det=0.5, seg=0.6),
    row("single cls", 0, cls=0.1), row("single det", 0, det=0.2), row("single seg", 0, seg=0.3),
    row("single cls", 1, cls=0.4), row("single det", 1, det=0.5), row("single seg", 1, seg=0.6),
    row("PCGrad", 1, cls=0.4, det=0.5, seg=0.9),
    row("single cls", 2, cls=0.9),
    row("tuning {cls: 1, det: 1, seg: 1}", 1000, cls=0.9, det=0.9, seg=0.9),
]  # fmt: skip


def test_single_models_of_a_seed_are_one_row_and_only_where_all_three_are_there():
    found = by_variant(ROWS)
    assert list(found) == [SINGLES, "PCGrad"]
    assert found[SINGLES] == {0: pytest.approx([0.1, 0.2, 0.3, 0.2]), 1: pytest.approx([0.4, 0.5, 0.6, 0.5])}


def test_differences_are_taken_seed_by_seed_and_the_chart_is_sound(tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(item) + "\n" for item in ROWS))
    command = [sys.executable, str(FOLDER / "allinone.py"), "--results", str(results), "--chart", "chart.svg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    scores = "0.400 ± 0.000 | 0.500 ± 0.000 | 0.750 ± 0.212 | 0.550 ± 0.071 | +0.200 ± 0.141"
    assert f"| PCGrad | 2 | {scores} |" in done.stdout
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    circles = [item for item in root.iter() if item.tag.endswith("circle")]
    assert len(circles) == 4 * (2 + 2)
    width, height = map(float, root.get("viewBox").split()[2:])
    assert all(0 < float(c.get("cx")) < width and 0 < float(c.get("cy")) < height for c in circles)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.033, 0.12), (0.2001, 0.2002), (0.0, 1.0), (0.49, 0.51)])
def test_ticks_hold_all_values_and_are_few(low, high):
    ticks = _ticks(low, high)
    assert ticks[0] <= low and high <= ticks[-1] and 2 <= len(ticks) <= 5
