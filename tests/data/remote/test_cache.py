"""The cache of shards: what it keeps, who fetches, and what gives way."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from remote_shards import GIB, PER_SHARD, SHARDS, assert_same, cached, message, shard_size, stream, take

from ufo_ds.data import cache as cache_module
from ufo_ds.data.folders import open_folder
from ufo_ds.data.remote import check_room
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.data.stream import make_order

ROOT = Path(__file__).resolve().parents[3]


def test_the_cache_is_used_by_the_next_start_which_asks_for_meta_alone(root, server, folder):
    take(open_shards(folder(server.url), "cls", "train"), 9)
    server.requests.clear()
    take(open_shards(folder(server.url), "cls", "train"), 9)
    assert [path for path, _ in server.requests] == ["/cls/meta.json"]


def test_the_next_window_comes_before_it_is_asked_for(server, folder):
    shards = open_shards(folder(server.url), "cls", "train")
    with stream(shards, batch=1) as batches:
        next(batches)
        deadline = time.monotonic() + 30
        while len(server.count()) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(server.count()) == 4  # this window and the next, of 2 shards each


def size_of(path):
    """Of a file that a thread may have removed by now."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_of_one_window_is_enough_and_is_not_exceeded(root, server, folder, tmp_path, workers):
    limit = 2 * shard_size(root) + 8192  # and the indexes
    shards = open_shards(folder(server.url, gib=limit / GIB), "cls", "train")
    found = []
    with stream(shards, workers=workers) as batches:
        for _ in range(22):
            found.append(next(batches))
            if workers == 0:
                assert sum(map(size_of, (tmp_path / "cache").iterdir())) <= limit
    assert_same(found, take(ShardSet(root, "cls", "train"), 22))
    if workers == 0:  # no shard twice in an epoch
        assert sum(server.count().values()) <= 3 * SHARDS


def test_what_is_read_stays_and_the_rest_goes_by_last_use(root, folder, server, tmp_path):
    shards = open_shards(folder(server.url, gib=(3 * shard_size(root) + 8192) / GIB), "cls", "train")
    shards.max_open = 1
    for number in (0, 1, 2):
        assert shards[PER_SHARD * number]
        time.sleep(0.02)
    other = open_shards(folder(server.url), "cls", "train")
    assert other[0]  # now the newest, and in use
    kept = {info.sha256: number for number, info in enumerate(shards.shards)}
    assert shards[PER_SHARD * 3]
    assert sorted(kept[path.stem] for path in cached(tmp_path)) == [0, 2, 3]
    other.close()


def test_a_window_that_the_cache_cannot_hold_is_refused_with_sizes(root, server, folder):
    shards = open_shards(folder(server.url, gib=1.5 * shard_size(root) / GIB), "cls", "train")
    line = message(lambda: make_order(shards, "cls", 0, 2, False))
    assert "'data.cache_gib'" in line and "2 shards" in line and "data.window" in line
    assert "all shards" in message(lambda: make_order(shards, "cls", 0, 2, True)) and not server.count()
    make_order(shards, "cls", 0, 1, False)
    assert "data.cache_gib" in message(lambda: check_room([(shards, 1), (shards, 1)]))
    check_room([(ShardSet(root, "cls", "train"), None)])
    tiny = open_shards(folder(server.url, gib=0.5 * shard_size(root) / GIB), "cls", "train")
    assert "raise data.cache_gib" in message(lambda: tiny[0])


def test_shards_of_another_build_are_other_files(root, server, folder, tmp_path):
    before = take(open_shards(folder(server.url), "cls", "train"), 9)
    (root / "cls/train-000000.tar").rename(root / "cls/x")
    for ending in ("tar", "idx"):  # as if they had been numbered the other way round
        if ending == "idx":
            (root / "cls/train-000000.idx").rename(root / "cls/x")
        (root / f"cls/train-000001.{ending}").rename(root / f"cls/train-000000.{ending}")
        (root / "cls/x").rename(root / f"cls/train-000001.{ending}")
    meta = json.loads((root / "cls/meta.json").read_text())
    first, second = meta["splits"]["train"]["shards"][:2]
    first["sha256"], second["sha256"] = second["sha256"], first["sha256"]
    first["bytes"], second["bytes"] = second["bytes"], first["bytes"]
    (root / "cls/meta.json").write_text(json.dumps(meta))
    shards = open_shards(folder(server.url), "cls", "train")
    assert shards.file_names == ShardSet(root, "cls", "train").file_names
    assert shards[0] == ShardSet(root, "cls", "train")[0] and shards[0].file_name == "05.JPG"
    assert before


FETCH = """
import sys
import threading
from ufo_ds.data.folders import open_folder
from ufo_ds.data.shards import open_shards

shards = open_shards(open_folder(sys.argv[1], cache=sys.argv[2], cache_gib=1.0), "cls", "train")
print("ready", flush=True)
sys.stdin.readline()
print(sum(len(shards[i].image) for i in range(len(shards))), flush=True)
"""


@pytest.mark.multiprocess
def test_processes_that_want_the_same_shards_at_once_fetch_each_once(root, server, tmp_path):
    for number in range(SHARDS):
        server.faults[f"cls/train-{number:06d}.tar"] = [("wait", 0.1)]
    script = tmp_path / "fetch.py"
    script.write_text(FETCH)
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), server.url, str(tmp_path / "cache")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    outputs = {process.communicate("go\n", timeout=60)[0] for process in processes}
    local = ShardSet(root, "cls", "train")
    assert outputs == {f"{sum(len(local[i].image) for i in range(len(local)))}\n"}
    assert len(server.count()) == SHARDS and set(server.count().values()) == {1}


@pytest.mark.multiprocess
def test_what_a_killed_process_left_half_is_fetched_again(root, server, folder, tmp_path):
    script = tmp_path / "fetch.py"
    script.write_text(FETCH)
    server.faults["cls/train-000000.tar"] = [("wait", 60)]
    process = subprocess.Popen(
        [sys.executable, str(script), server.url, str(tmp_path / "cache")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    while not cached(tmp_path, ".partial"):
        time.sleep(0.02)
    process.kill()
    process.wait()
    shards = open_shards(folder(server.url), "cls", "train")
    assert shards[0] == ShardSet(root, "cls", "train")[0]
    assert not cached(tmp_path, ".partial") and len(cached(tmp_path)) == 1


def test_a_damaged_file_of_the_cache_is_fetched_again(root, server, folder, tmp_path):
    assert open_shards(folder(server.url), "cls", "train")[0]
    os.truncate(cached(tmp_path)[0], 1000)
    for index in cached(tmp_path, ".idx"):
        index.write_text("v1.2 nonsense")
    shards = open_shards(folder(server.url), "cls", "train")
    assert shards[0] == ShardSet(root, "cls", "train")[0]
    assert server.count()["train-000000.tar"] == 2 and server.count(".idx")["train-000000.idx"] == 2


def test_an_index_that_does_not_describe_its_shard_is_asked_for_anew(root, server, folder):
    index = root / "cls/train-000000.idx"
    sound = index.read_text()
    lines = sound.splitlines()
    other = (root / "cls/train-000002.idx").read_text().splitlines()
    index.write_text("\n".join([lines[0], *other[1:]]) + "\n")
    shards = open_shards(folder(server.url), "cls", "train")
    assert "train-000000.tar: is not the shard that its index describes" in message(lambda: shards[1])
    index.write_text(sound)
    assert open_shards(folder(server.url), "cls", "train")[1] == ShardSet(root, "cls", "train")[1]


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    place = open_folder(server.url, cache=str(tmp_path / "file" / "x"))
    assert "choose another place with data.cache" in message(lambda: open_shards(place, "cls", "train"))


def test_a_full_disk_is_one_line_and_leaves_nothing(server, folder, tmp_path, monkeypatch):
    shards = open_shards(folder(server.url), "cls", "train")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "pwrite", full)
    line = message(lambda: shards[0])
    assert "cannot be cached (No space left on device); make room" in line
    assert not cached(tmp_path, ".tar*")


def test_the_default_cache_is_the_user_s(server, tmp_path, monkeypatch):
    assert open_shards(server.url, "cls", "train")[0]
    assert list((tmp_path / "default/ufo_ds/shards").glob("*.tar"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_folder(server.url).cache.folder == tmp_path / "home/.cache/ufo_ds/shards"


def test_threads_of_one_process_share_a_fetch(server, folder):
    server.faults["cls/train-000000.tar"] = [("wait", 0.3)]
    for streamed in (False, True):
        server.requests.clear()
        shards = open_shards(folder(server.url, stream=streamed), "cls", "train")
        threads = [threading.Thread(target=shards._prefetch, args=(0, [])) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert shards[0]
        for thread in threads:
            thread.join()
        assert server.count()["train-000000.tar"] <= 1
