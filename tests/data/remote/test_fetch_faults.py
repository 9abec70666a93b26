"""Servers and commands that fail, and a meta.json of a stranger: tried again where that helps, else one line."""

import json
import shlex
import time
from pathlib import Path

import pytest
from remote_shards import cached, message, pipe

from ufo_ds.data import fetching, http_fetcher, pipe_fetcher
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import ShardSet, open_shards


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("ranges", [True, False])
def test_what_passes_is_tried_again(root, server, folder, ranges, streamed):
    server.ranges = ranges
    server.faults["cls/meta.json"] = [500, 503]
    server.faults["cls/train-000000.idx"] = [(429, {"Retry-After": "0"}), ("cut", 30)]
    server.faults["cls/train-000000.tar"] = [("cut", 1000), 502, ("cut", 3000)]
    shards = open_shards(folder(server.url, stream=streamed), "cls", "train")
    assert shards[0] == ShardSet(root, "cls", "train")[0]
    asked = [headers.get("Range") for path, headers in server.requests if path.endswith("train-000000.tar")]
    assert asked[:2] == [None, "bytes=1000-"] and len(asked) == 4
    size = (root / "cls/train-000000.tar").stat().st_size
    if ranges:
        assert asked[3] == "bytes=4000-" and server.sent["cls/train-000000.tar"] < 3 * size


def test_what_does_not_pass_ends_in_one_line(server, folder):
    shards = open_shards(folder(server.url), "cls", "train")
    server.faults["cls/train-000000.tar"] = [500] * 50
    line = message(lambda: shards[0])
    assert line.startswith(f"{server.url}/cls/train-000000.tar: HTTP status 500 ({fetching.ATTEMPTS} attempts); ")
    server.faults["cls/train-000001.tar"] = [("cut", 10)] * 50
    server.ranges = False
    assert "breaks off after 10 of" in message(lambda: shards[5])
    server.faults["cls/train-000002.tar"] = [404]
    line = message(lambda: shards[10])
    assert "train-000002.tar: HTTP status 404; " in line and server.count()["train-000002.tar"] == 1
    server.faults["cls/train-000003.tar"] = [403]
    assert "user and password" in message(lambda: shards[15])


def test_no_server_is_one_line(server, folder, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    server.close()
    line = message(lambda: open_shards(folder(server.url), "cls", "train"))
    assert line.startswith(f"{server.url}/cls/meta.json: cannot be reached (Connection refused) (2 attempts); ")
    server._server.server_close = server._server.shutdown = lambda: None


@pytest.mark.parametrize("streamed", [False, True])
def test_swapped_content_is_fetched_once_more_and_then_refused(root, server, folder, tmp_path, streamed):
    name = "cls/train-000000.tar"
    size = (root / name).stat().st_size
    shards = open_shards(folder(server.url, stream=streamed), "cls", "train")
    server.faults[name] = [("swap", bytes(size))]
    assert shards[0] == ShardSet(root, "cls", "train")[0] and server.count()["train-000000.tar"] == 2
    for content, what in ((bytes(size), "its content"), (bytes(size - 512), "its size"), (bytes(size + 1), "its size")):
        server.faults["cls/train-000001.tar"] = [("swap", content)] * 2
        line = message(lambda: shards[5])
        assert f"{server.url}/cls/train-000001.tar: fetched twice, and {what}" in line
    assert len(cached(tmp_path, ".tar*")) == (0 if streamed else 1)


@pytest.mark.parametrize("name", ["cls/meta.json", "cls/train-000000.idx", "cls/train-000000.tar"])
def test_a_server_without_end_fills_nothing(server, folder, tmp_path, monkeypatch, name):
    monkeypatch.setattr("ufo_ds.data.folders.MAX_META_BYTES", 2**20)
    server.faults[name] = [("endless",)] * 4
    line = message(lambda: open_shards(folder(server.url), "cls", "train")[0])
    assert name in line
    # What was in flight when the connection was closed lies in the buffers of the sockets.
    assert server.sent[name] < 2**25 and not cached(tmp_path, ".tar*")


def test_a_command_that_fails_says_its_status_and_last_words(root, folder, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 3)
    half = "f() { n=$(wc -c < $1); head -c $((n / 2)) $1; echo the end of $1 >&2; exit 1; }; f"
    line = message(lambda: open_shards(folder(pipe(root, half)), "cls", "train"))
    assert "cls/meta.json: ends with status 1 (the end of " in line and "(3 attempts)" in line
    line = message(lambda: open_shards(folder(pipe(root, "no-such-program")), "cls", "train"))
    assert "status 127" in line and "attempts" not in line


@pytest.mark.parametrize("streamed", [False, True])
def test_a_command_that_fails_now_and_then_is_run_again(root, folder, tmp_path, streamed):
    """Half of the bytes and status 1, or half of the bytes and status 0, the first time each."""
    script = tmp_path / "flaky"
    script.write_text(f"""#!/bin/sh
f={shlex.quote(str(root))}/$1; seen={shlex.quote(str(tmp_path))}/seen-$(echo $1 | tr / -)
[ -e $seen ] && exec cat $f
touch $seen; n=$(wc -c < $f); head -c $((n / 2)) $f
case $1 in *000001.tar) exit 0;; *) exit 1;; esac
""")
    script.chmod(0o755)
    shards = open_shards(folder(f"pipe:{script} {{}}", stream=streamed), "cls", "train")
    assert [shards[i] for i in range(35)] == [ShardSet(root, "cls", "train")[i] for i in range(35)]


def test_a_silent_command_is_ended_with_all_that_it_started(root, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    monkeypatch.setattr(pipe_fetcher, "STALL_SECONDS", 0.3)
    place = folder(f"pipe:sh -c 'sleep 300 & echo $! > {tmp_path}/pid; wait' {{}}")
    assert "silent for 0 s" in message(lambda: open_shards(place, "cls", "train"))
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_silent_server_is_one_line(server, folder, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    monkeypatch.setattr(http_fetcher, "STALL_SECONDS", 0.2)
    server.faults["cls/meta.json"] = [("wait", 2)]
    assert "cannot be reached (TimeoutError)" in message(lambda: open_shards(folder(server.url), "cls", "train"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../x-000000.tar"),
        ("name", "train-000000.tar/../../../x"),
        ("name", "/etc/train-000000.tar"),
        ("sha256", "../" * 21 + "x"),
        ("sha256", "../../../../x"),
        ("bytes", -1),
    ],
)
def test_a_hostile_meta_writes_nothing_outside_the_cache(root, server, folder, tmp_path, key, value):
    meta = json.loads((root / "cls/meta.json").read_text())
    meta["splits"]["train"]["shards"][0][key] = value
    (root / "cls/meta.json").write_text(json.dumps(meta))
    assert f"{server.url}/cls/meta.json: splits.train.shards[0]" in message(
        lambda: open_shards(folder(server.url), "cls", "train")
    )
    assert not (tmp_path / "cache").exists()


def test_a_shard_that_claims_to_be_huge_is_not_fetched(root, server, folder):
    meta = json.loads((root / "cls/meta.json").read_text())
    meta["splits"]["train"]["shards"][0]["bytes"] = 2**60
    (root / "cls/meta.json").write_text(json.dumps(meta))
    shards = open_shards(folder(server.url), "cls", "train")
    assert "raise data.cache_gib" in message(lambda: shards[0]) and not server.count()


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"[]", b"", b'{"format": 99}'])
def test_a_broken_meta_is_asked_for_once_more(server, folder, damage):
    server.faults["cls/meta.json"] = [("swap", damage)]
    assert open_shards(folder(server.url), "cls", "train")
    server.faults["cls/meta.json"] = [("swap", damage)] * 2
    assert f"{server.url}/cls/meta.json: " in message(lambda: open_shards(folder(server.url), "cls", "train"))


def test_a_broken_index_is_asked_for_once_more(server, folder):
    server.faults["cls/train-000001.idx"] = [("swap", b"v1.2 5\n")]
    assert open_shards(folder(server.url), "cls", "train")
    server.faults["cls/val-000001.idx"] = [("swap", b"v1.2 2\nx\ny\n")] * 2
    line = message(lambda: open_shards(folder(server.url), "cls", "val"))
    assert line.startswith(f"{server.url}/cls/val-000001.idx:2: ")


def test_a_compressed_tar_is_no_stream(root, server, folder):
    import gzip
    import hashlib

    tar = root / "cls/train-000000.tar"
    packed = gzip.compress(tar.read_bytes() + bytes(2**20))
    meta = json.loads((root / "cls/meta.json").read_text())
    meta["splits"]["train"]["shards"][0] |= {"bytes": 10**6, "sha256": hashlib.sha256(packed).hexdigest()}
    packed += bytes(10**6 - len(packed))
    meta["splits"]["train"]["shards"][0]["sha256"] = hashlib.sha256(packed).hexdigest()
    (root / "cls/meta.json").write_text(json.dumps(meta))
    tar.write_bytes(packed)
    shards = open_shards(folder(server.url, stream=True), "cls", "train")
    assert "train-000000.tar: is no plain tar" in message(lambda: shards[0])


def test_absent_tasks_are_told_by_a_server_and_not_by_a_command(root, server, folder, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    place = folder(server.url)
    assert [place.has(task) for task in ("cls", "det")] == [True, False]
    assert place.read_meta("cls") == TaskMeta.read(root, "cls") and len(server.requests) == 2
    server.faults["seg/meta.json"] = [500] * 2
    assert "name the tasks that have some" in message(lambda: place.has("seg"))
    assert folder(pipe(root)).has("cls")
    assert "name the tasks that have some" in message(lambda: folder(pipe(root)).has("det"))
