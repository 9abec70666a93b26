"""Shared fixtures: several ranks of a script on this machine, real data where it is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from entry_points import free_port
from warm_python import ROOT, warm


def pytest_configure():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the core to other processes


def pytest_unconfigure():
    warm.close()


@pytest.fixture(scope="session")
def real_data():
    """The real data sets for measuring, or a skip."""
    folder = Path(os.environ.get("UFO_DS_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "track1_mini").is_dir():
        pytest.skip(f"no real data in {folder}; set UFO_DS_DATA to the folder that holds track1_mini and bdd24")
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A drawn download of 13 training images a task (`raw`) and its `shards`; not to be changed."""
    folder = tmp_path_factory.mktemp("toy")
    build = ["shards/build.py", "--layout", "track1", "--raw", folder / "raw", "--out", folder / "shards"]
    for words in (["shards/toy.py", "--out", folder / "raw", "--images", 13, "--seed", 5], build):
        subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def start_ranks():
    """Run a script on several ranks as a launcher would; returns each rank's (status, stdout, stderr)."""

    def start(script, ranks, *arguments, timeout=300, env=None):
        port, processes = free_port(), []
        for rank in range(ranks):
            environment = {
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                **(env or {}),
            }
            processes.append(warm.start([sys.executable, script, *arguments], env=environment))
        try:
            outputs = [process.communicate(timeout=timeout) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]

    return start


@pytest.fixture
def check_ranks(start_ranks):
    """Like `start_ranks`, but every rank must end well; returns their stdouts."""

    def start(script, ranks, *arguments, **options):
        results = start_ranks(script, ranks, *arguments, **options)
        for status, stdout, stderr in results:
            assert status == 0, f"{stdout[-2000:]}\n{stderr[-4000:]}"
        return [stdout for _, stdout, _ in results]

    return start
