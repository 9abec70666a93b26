"""benchmarks/data.py runs, and what it compares is the same work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from data_pictures import drawn_pictures, random_payloads
from data_stores import SHARD_SAMPLES, digest, installed_stores
from tables import ratios, spread

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "data.py"


def test_every_store_gives_back_what_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr("data_stores.SHARD_SAMPLES", 8)
    assert SHARD_SAMPLES > 8
    samples = [*random_payloads(10, 0), *drawn_pictures(9, 1)]
    wanted = digest(iter(samples))
    assert wanted != digest(iter(samples[:-1] + samples[:1]))
    for kind in installed_stores():
        store = kind(tmp_path / kind.__name__, samples)
        assert digest(store.in_order()) == wanted, kind.name
        assert digest(store.at_random([*range(18, -1, -1)])) == wanted, kind.name
        assert list(map(dict, store.in_order())) == samples, kind.name


def test_ratios_are_of_neighbours():
    assert ratios([2.0, 9.0, 3.0], [1.0, 3.0, 2.0]) == [1.5, 2.0, 3.0]
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == "3.00 (2.00-4.00)"


@pytest.mark.multiprocess
def test_the_quick_run_prints_a_table_of_every_part(tmp_path):
    where = ["--folder", str(tmp_path), "--json", str(tmp_path / "found.json")]
    run = subprocess.run([sys.executable, str(PROGRAM), "--quick", *where], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert sorted(found) == ["build", "pipeline", "read", "reduced", "resume"] and all(found.values())
    tables = [line for line in run.stdout.splitlines() if line.startswith("| ---")]
    assert len(tables) == 9  # reads of two kinds in two orders, pipeline, reduced, two of resuming, build
    assert {row["task"] for row in found["pipeline"]} == {"cls", "det", "seg"}
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]  # it removes what it wrote
