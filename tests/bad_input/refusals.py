"""What all cases share: bad input must end in one line, and leave nothing behind."""

import os
import socket
import stat
import warnings

import pytest

from ufo_ds.errors import UserError

LONGEST = 700
"""Characters of a line: names of files of the test included."""
DEEP = 100_000
"""Brackets."""
HUGE = "9" * 5000
"""More digits than Python converts."""


def listing(folder):
    """What stands under a folder, with sizes."""
    return {str(path.relative_to(folder)): os.lstat(path).st_size for path in folder.rglob("*")
            if not stat.S_ISDIR(os.lstat(path).st_mode)}  # fmt: skip


def refusal(call, folder, *fragments):
    """`call()` must be refused with one line that holds the fragments, without a warning and a file; the line."""
    before = listing(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as caught:
            call()
    line = str(caught.value)
    for fragment in fragments:
        assert fragment in line, f"{fragment!r} is not in {line!r}"
    assert "\n" not in line and "Traceback" not in line and len(line) < LONGEST, line
    assert listing(folder) == before
    return line


def sparse(path, size):
    """A file of that many bytes that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)


def nested(depth, value="1"):
    """JSON lists in one another."""
    return "[" * depth + value + "]" * depth


def parametrized(cases):
    """A table of cases by name, for a test's `case`."""
    return pytest.mark.parametrize("case", list(cases.values()), ids=list(cases))


def put(data):
    """A spoiler: the file's content becomes `data`."""
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data.encode())


def make_folder(path):
    """A spoiler: a folder where the file was."""
    path.unlink()
    path.mkdir()


def make_pipe(path):
    """A spoiler: a pipe that nobody writes to; who opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def make_socket(path):
    """A spoiler: a socket, as a running program leaves it behind."""
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's path has room for a hundred characters
        finally:
            os.close(here)


def make_endless(path):
    """A spoiler: a link to a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def forbid(path):
    """A spoiler: the rights are gone."""
    path.chmod(0)
    if os.access(path, os.R_OK, effective_ids=True):
        pytest.skip("file modes do not hold here")


def link_to_itself(path):
    """A spoiler: a link that leads nowhere."""
    path.unlink()
    path.symlink_to(path)


def gzipped(path):
    """A spoiler: compressed, as a careless download leaves it."""
    import gzip

    path.write_bytes(gzip.compress(path.read_bytes()))


def cut(share):
    """A spoiler: the file breaks off."""
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


FILES = {
    "absent": lambda path: path.unlink(),
    "folder": make_folder,
    "forbidden": forbid,
    "pipe": make_pipe,
    "socket": make_socket,
    "device": make_endless,
    "link to itself": link_to_itself,
    "empty": put(b""),
    "gzip": gzipped,
    "NUL": put(bytes(64)),
    "latin": put(b'{"\xe9": 1}\n\xff\xfe'),
    "UTF-16": put("v1.2 {".encode("utf-16")),
}
"""Spoilers that go for any text file."""
JSON = {
    **FILES,
    "cut": cut(0.6),
    "trailing text": lambda path: path.write_text(path.read_text() + "}"),
    "deep lists": put("[" * DEEP),
    "deep objects": put('{"a":' * DEEP),
    "deep but closed": put(nested(DEEP)),
    "a list": put("[]"),
    "null": put("null"),
    "a number": put("3"),
    "a string": put('"x"'),
    "absurd number": put(HUGE),
    "absurd size": lambda path: sparse(path, 2**30 + 1),
}
"""Spoilers that go for any JSON that has to be an object."""
