"""A disk that runs full, and builds that are stopped: one line, nothing half for whole, and the next run finishes."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_download import jpeg

from ufo_ds.data.shards import ShardSet

ROOT = Path(__file__).resolve().parents[2]
BUILD, SHOW = ROOT / "shards/build.py", ROOT / "shards/show.py"
PIECES = ["--samples-per-shard", "1"]


def build(raw, out, *more, **options):
    command = [sys.executable, BUILD, "--raw", raw, "--out", out, *PIECES, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".build.json"}  # fmt: skip


@pytest.fixture(scope="module")
def large(built, tmp_path_factory):
    """A download of half a megabyte, and its undisturbed shards by name."""
    folder = tmp_path_factory.mktemp("large")
    raw = shutil.copytree(built.raw, folder / "raw")
    for task in ("cls", "seg/images"):
        for number in range(7):
            path = raw / f"track1_train_data/{task}/train/train_{number}.jpg"
            path.write_bytes(jpeg(number, (40, 30), quality=95) + bytes(30_000))
    assert build(raw, folder / "whole").returncode == 0
    return raw, contents(folder / "whole")


FULL = """
mount -t tmpfs -o size=$SIZE none "$DISK" || exit 99
"$@" --workers $WORKERS; status=$?
find "$DISK" -name '*.tmp' -o -name meta.json | sort > "$NOTES"
cp -r "$DISK/." "$KEPT"
exit $status
"""


@pytest.mark.parametrize(("size", "workers"), [("100k", 1), ("300k", 2), ("600k", 2)])
def test_a_full_disk(large, tmp_path, size, workers):
    """A file system of that size, of this test's own; then the disk grows, and the build goes on."""
    raw, whole = large
    disk, kept, notes = tmp_path / "disk", tmp_path / "kept", tmp_path / "notes"
    disk.mkdir()
    kept.mkdir()
    environment = {"SIZE": size, "WORKERS": str(workers), "DISK": str(disk), "NOTES": str(notes), "KEPT": str(kept),
                   "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}  # fmt: skip
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, "sh",
               sys.executable, BUILD, "--raw", raw, "--out", disk, *PIECES]  # fmt: skip
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if "unshare" in ended.stderr or ended.returncode == 99:
        pytest.skip(f"no file systems of one's own here: {ended.stderr.strip()}")
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().split("\n")[-1]
    assert last.startswith("error: ") and "cannot be written (No space left on device)" in last, ended.stderr
    assert "Traceback" not in ended.stderr
    left = notes.read_text().split()
    assert not [name for name in left if name.endswith(".tmp")], left
    for task in ("cls", "det", "seg"):
        if str(disk / task / "meta.json") in left:
            assert len(ShardSet(kept, task, "train")) == 7
    assert build(raw, kept, "--workers", "1").returncode == 0
    assert contents(kept) == whole


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_build(large, tmp_path, sent, workers):
    raw, whole = large
    out = tmp_path / "out"
    command = [sys.executable, BUILD, "--raw", raw, "--out", out, *PIECES, "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("*/*.tar")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(sent)
    said = process.communicate(timeout=60)[1]
    if process.returncode == 0:
        pytest.skip("the build was quicker than the signal")
    assert "Traceback" not in said
    assert process.returncode == (130 if sent == signal.SIGINT else -sent)
    assert not list(out.glob("*/meta.json"))
    shown = subprocess.run([sys.executable, SHOW, out], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 2 and "no meta.json in cls/, det/, seg/" in shown.stderr
    assert build(raw, out, "--workers", "1").returncode == 0
    assert contents(out) == whole
