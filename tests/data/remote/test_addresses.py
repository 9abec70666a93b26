"""URLs and commands: odd ones work, their secrets are not told, and they lead nowhere else."""

import shlex

import pytest
from remote_shards import message, pipe

from ufo_ds.data import fetching
from ufo_ds.data.shards import open_shards


@pytest.mark.parametrize(
    ("prefix", "given"),
    [
        ("/a", "/a/"),
        ("/a", "/a//"),
        ("/a%20b", "/a b"),
        ("/a%20b", "/a%20b/"),
        ("/100%25", "/100%"),
        ("/100%25", "/100%25"),
        ("/%C3%BC", "/ü"),
        ("/it's;$(x)", "/it's;$(x)"),
    ],
)
def test_odd_paths_of_a_url(serve, folder, prefix, given):
    server = serve(prefix=prefix)
    assert open_shards(folder(f"http://{server.host}{given}"), "cls", "train")[0]
    assert all(path.startswith(f"{prefix}/cls/") for path, _ in server.requests)


def test_odd_paths_of_a_command(root, folder, tmp_path):
    odd = tmp_path / "a b's %$(touch x)"
    odd.mkdir()
    (odd / "cls").symlink_to(root / "cls")
    assert open_shards(folder(pipe(odd)), "cls", "train")[0]
    assert open_shards(folder(f"PIPE:cat {shlex.quote(str(odd))}/{{}}".replace("PIPE", "pipe")), "cls", "train")[0]


def test_user_and_query_go_along_and_are_not_told(server, folder, tmp_path):
    place = folder(f"http://me:p%40ss@{server.host}/?sig=s%2Fecret&x=1")
    shards = open_shards(place, "cls", "train")
    assert shards[0]
    for path, headers in server.requests:
        assert path.endswith("?sig=s%2Fecret&x=1")
        assert headers["Authorization"] == "Basic bWU6cEBzcw=="
    server.faults["cls/train-000001.tar"] = [404]
    told = [message(lambda: shards[5]), str(place), str(shards.path_of(0)), repr(place), repr(shards)]
    server.faults["cls/meta.json"] = [("swap", b"{}")] * 2
    told.append(message(lambda: folder(f"http://me:p%40ss@{server.host}/?sig=s%2Fecret").read_meta("cls")))
    assert not any(word in line for line in told for word in ("p%40ss", "p@ss", "ecret", "sig="))


def test_a_command_is_not_told_whole(root, folder, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)
    command = "false --token hidden {}; echo 'cannot open https://me:hidden@host/x?y=hidden' >&2; exit 3"
    line = message(lambda: open_shards(folder(f"pipe:{command}"), "cls", "train"))
    assert "pipe:false ... cls/meta.json: ends with status 3 (cannot open https://***@host/x?***)" in line
    assert "hidden" not in line


def test_a_password_stays_on_its_server(server, serve, folder):
    other = serve()
    for name in ("cls/meta.json", "cls/train-000000.idx"):
        server.faults[name] = [(302, {"Location": f"{other.url}/{name}"})]
    server.faults["cls/train-000000.tar"] = [(307, {"Location": "/cls/train-000000.tar?moved"})]
    assert open_shards(folder(f"http://me:secret@{server.host}"), "cls", "train")[0]
    assert len(other.requests) == 2 and not any("Authorization" in headers for _, headers in other.requests)
    assert all("Authorization" in headers for _, headers in server.requests)
    assert server.requests[-1][0] == "/cls/train-000000.tar?moved"


@pytest.mark.parametrize("target", ["file://{root}/cls/meta.json", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_lead_to_web_servers_only(root, server, folder, target):
    server.faults["cls/meta.json"] = [(302, {"Location": target.format(root=root)})]
    line = message(lambda: open_shards(folder(server.url), "cls", "train"))
    assert "cls/meta.json: redirects to '" in line and "not followed" in line and len(server.requests) == 1


def test_a_circle_of_redirects_ends(server, folder):
    server.faults["cls/meta.json"] = [(302, {"Location": "/cls/meta.json"})] * 100
    assert "HTTP status 302" in message(lambda: open_shards(folder(server.url), "cls", "train"))
