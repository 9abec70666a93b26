"""The builder as a whole: repeatable, killable, sparing of work, plain in its errors."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from small_download import ROOT, Download, jpeg

from shards import pack
from ufo_ds.data.schema import TaskMeta

BUILD = str(ROOT / "shards/build.py")


def run(*arguments, **options):
    """Run the builder as a command, away from the checkout."""
    command = [sys.executable, BUILD, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", **options)


def arguments(download, out=None):
    return ["--layout", "track1", "--raw", download.raw, "--out", out or download.out]


@pytest.fixture
def written(monkeypatch):
    """Names of the shards that were really written, in this process."""
    names = []
    original = pack._write_shard

    def write(plan, tick):
        names.append(f"{plan.folder.name}/{plan.name}")
        return original(plan, tick)

    monkeypatch.setattr(pack, "_write_shard", write)
    return names


def test_a_build_does_not_depend_on_the_workers(download, contents, tmp_path):
    download.build("--samples-per-shard", "2")
    result = run(*arguments(download, tmp_path / "other"), "--workers", "2", "--samples-per-shard", "2")
    assert result.returncode == 0, result.stderr
    assert contents(download.out) == contents(tmp_path / "other")


def test_meta_knows_nothing_of_times_and_places(tmp_path, contents):
    first, second = Download(tmp_path / "a"), Download(tmp_path / "b")
    for path in first.raw.rglob("*.jpg"):
        (second.raw / path.relative_to(first.raw)).write_bytes(path.read_bytes())
        os.utime(path, (1, 1))
    assert contents(first.build()) == contents(second.build())


def test_an_unchanged_build_is_left_alone(download, contents, written, capsys):
    before = contents(download.build())
    del written[:]
    times = {path: path.stat().st_mtime_ns for path in download.out.rglob("*")}
    capsys.readouterr()
    download.build()
    assert written == [] and contents(download.out) == before
    assert times == {path: path.stat().st_mtime_ns for path in download.out.rglob("*")}
    assert f"{download.out} is complete and unchanged: nothing to do" in capsys.readouterr().out


def test_a_moved_download_is_unchanged(download, written):
    download.build()
    del written[:]
    download.raw = download.raw.rename(download.raw.with_name("moved"))
    download.build()
    assert written == []


def test_changed_raw_data_are_rebuilt_and_only_those(download, written):
    download.build("--samples-per-shard", "1")
    del written[:]
    with (download.data / "cls/train.txt").open("a") as file:
        file.write("train_0.jpg 0\n")  # says nothing new
    download.image("cls", "val", "val_1.jpg").write_bytes(jpeg(77))
    download.image("cls", "test", "test_1.jpg").unlink()
    download.build("--samples-per-shard", "1")
    assert written == ["cls/val-000001.tar"]
    assert sorted(path.name for path in (download.out / "cls").glob("test-*")) == ["test-000000.idx", "test-000000.tar"]
    assert download.meta("cls").splits["test"].samples == 1


@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.idx", "meta.json"])
@pytest.mark.parametrize("how", ["removed", "cut"])
def test_a_damaged_build_is_mended(download, contents, written, name, how):
    before = contents(download.build())
    del written[:]
    path = download.out / "cls" / name
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-600] if name != "train-000000.idx" else b"v1.2 7\n")
    download.build()
    assert contents(download.out) == before
    assert written == ([] if name == "meta.json" else ["cls/train-000000.tar"])


def test_a_shard_of_the_right_size_with_other_bytes_is_not_taken_over(download, contents):
    before = contents(download.build())
    path = download.out / "cls/train-000000.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    (download.out / "cls/meta.json").unlink()
    download.build()
    assert contents(download.out) == before


def test_other_files_in_the_folder_stay(download):
    (download.out / "cls").mkdir(parents=True)
    (download.out / "cls/notes.txt").write_text("mine")
    (download.out / "cls/train-000009.tar").write_text("stale")
    (download.out / "cls/.train-000000.tar.123.tmp").write_text("half")
    download.build()
    names = {path.name for path in (download.out / "cls").iterdir()}
    assert "notes.txt" in names
    assert not names & {"train-000009.tar", ".train-000000.tar.123.tmp"}
    assert not [name for name in names if name.endswith(".state")]


def wait_for(condition, process):
    deadline = time.monotonic() + 30
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["*/.train-00000[1-9].tar.*.tmp", "det/.*.state", "seg/train-000000.tar"])
def test_a_killed_build_shows_no_meta_and_is_finished_by_the_next(tmp_path, contents, workers, when):
    download = Download(tmp_path)
    big = jpeg(1, (1500, 1000), quality=95)
    for task in ("cls", "det"):
        for number in range(7):
            download.image(task, "train", f"train_{number}.jpg").write_bytes(big + bytes([number]))
    download.edit_json(lambda v: [image.pop(key) for image in v["images"] for key in ("width", "height")])
    options = ["--samples-per-shard", "1", "--workers", str(workers)]
    process = subprocess.Popen([sys.executable, BUILD, *map(str, arguments(download)), *options],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    wait_for(lambda: any(download.out.glob(when)), process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(download.out.glob("*/meta.json"))
    result = run(*arguments(download), *options)
    assert result.returncode == 0, result.stderr
    whole = run(*arguments(download, tmp_path / "whole"), "--samples-per-shard", "1", "--workers", "1")
    assert whole.returncode == 0
    assert contents(download.out) == contents(tmp_path / "whole")


def test_a_finished_shard_is_taken_over(download, written):
    (download.data / "seg/label/val/val_0.png").write_bytes(b"broken")
    for number in (1, 2):
        (download.data / f"seg/label/val/val_{number}.png").write_bytes(b"broken")
    download.fail()
    assert not (download.out / "seg/meta.json").exists()
    del written[:]
    download.fail()
    assert written == ["seg/val-000000.tar"]


def test_two_builds_at_a_time_are_refused(download):
    from shards.folder import locked

    with locked(download.out):
        assert "another build is writing there" in download.fail()


def test_workers_end_with_their_parent(tmp_path):
    download = Download(tmp_path)
    big = jpeg(1, (2000, 1500))
    for number in range(7):
        download.image("cls", "train", f"train_{number}.jpg").write_bytes(big)
    process = subprocess.Popen([sys.executable, BUILD, *map(str, arguments(download)), "--workers", "2",
                                "--samples-per-shard", "1"], stderr=subprocess.DEVNULL)  # fmt: skip
    children = []

    def started():
        children[:] = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True,
                                     text=True).stdout.split()  # fmt: skip
        return len(children) >= 2 and any(download.out.glob("cls/*.tar"))

    wait_for(started, process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{child}") for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if os.path.exists(f"/proc/{child}")]


# ---- the command line ----


def test_help_is_quick_and_imports_nothing_heavy():
    start = time.monotonic()
    result = run("--help")
    assert result.returncode == 0 and "--samples-per-shard" in result.stdout
    assert time.monotonic() - start < 2


def test_the_summary_counts_and_shows_the_losses(download, capsys):
    for number in range(4):
        download.image("cls", "train", f"note{number}.txt").write_text("x")
    (download.data / "seg/label/train/gone.png").write_bytes(b"")
    download.build()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["task", "split", "found", "written", "rejected", "unmatched", "shards", "MB"]
    assert printed[1].split() == ["cls", "train", "11", "7", "4", "0", "1", "0.0"]
    assert printed[7].split() == ["seg", "train", "7", "7", "0", "1", "1", "0.0"]
    assert "rejected   cls train: note0.txt: not an image file by its extension (jpg, jpeg, png, bmp, webp)" in printed
    assert "unmatched  seg train: gone.png: no such image file" in printed
    assert f"all 4 of cls are listed in {download.out / 'cls/meta.json'}" in printed


def one_line(result):
    """The error's line; there must be no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_mistakes_end_in_one_line_and_status_2(download, tmp_path):
    (download.data / "cls/val.txt").write_text("val_0.jpg\n")
    cases = [
        (arguments(download), "cls/val.txt:1: 'val_0.jpg' is not '<file name> <class id>'"),
        (["--raw", tmp_path / "nowhere", "--out", tmp_path / "x"], "no such folder; it must hold the folders track1_"),
        (["--raw", "/usr/bin", "--out", tmp_path / "x"], "--raw /usr/bin: nothing to build"),
        ([*arguments(download), "--tasks", "cls,dec"], "--tasks: 'dec' is no task, choose from cls,det,seg"),
        (["--layout", "coco9", *arguments(download)[2:]], "--layout coco9: unknown, choose one of track1"),
        ([*arguments(download, download.data / "dec/train.json"), "--tasks", "det"], "train.json: cannot be written ("),
    ]
    for given, line in cases:
        result = run(*given)
        assert line in one_line(result), result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_wrong_options_are_argparse_errors(download):
    for option in (["--workers", "0"], ["--shard-mb", "x"], ["--nonsense", "1"]):
        result = run(*arguments(download), *option)
        assert result.returncode == 2 and option[0] in result.stderr and "Traceback" not in result.stderr


def test_a_full_disk_ends_in_one_line_and_can_be_resumed(download, contents, tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    result = run(*arguments(download), "--workers", "2", preexec_fn=small_files)
    assert "train-000000.tar: cannot be written (File too large); make room or mend the rights" in one_line(result)
    assert not list(download.out.glob("*/meta.json")) and not list(download.out.glob("*/.*.tmp"))
    assert run(*arguments(download)).returncode == 0
    assert contents(download.out) == contents(download.build(out=tmp_path / "whole"))


def test_a_meta_that_an_older_program_wrote_is_replaced(download, contents):
    before = contents(download.build())
    path = download.out / "det/meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    download.build()
    assert contents(download.out) == before
    assert TaskMeta.read(download.out, "det").splits["train"].samples == 7
