"""Shards that a command writes to its standard output."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ufo_ds.data.fetching import CHUNK, STALL_SECONDS, Body, FetchError
from ufo_ds.errors import UserError
from ufo_ds.redaction import without_secrets

_LAST_WORDS = 160


class PipeFetcher:
    """Files by a shell command with `{}` for `<task>/<file>`: `aws s3 cp s3://bucket/shards/{} -`.

    Args:
        command: for `/bin/sh`; an exit status other than 0 is a failure. Variables are the shell's to expand, so
            that a password need not stand here.
        address: of the folder, for messages; else the program's name stands for it.

    Raises:
        UserError: no `{}` in it.
    """

    def __init__(self, command: str, address: str | None = None) -> None:
        if "{}" not in command or not command.strip():
            raise UserError("the shards' pipe: command needs {} where <task>/<file> goes, as in "
                            "pipe:curl -sSf https://host/shards/{}")  # fmt: skip
        self._command = command
        # Not the whole command, which may hold a password.
        self._address = address or f"pipe:{without_secrets(command.split()[0])[:60]} ... "

    def place(self, name: str) -> str:
        """The address of a file, or the command's program and the file."""
        return (self._address if self._address.endswith(" ") else f"{self._address}/") + name

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Body]:
        """What the command writes, always from the file's beginning. Raises `FetchError`."""
        command = self._command.replace("{}", shlex.quote(name))
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                bufsize=0,
            )
            with contextlib.suppress(OSError, AttributeError):  # fewer turns where the system has such pipes
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, CHUNK)
            try:
                yield Body(0, None, _chunks(process, errors))
            finally:
                _end(process)


def _chunks(process: subprocess.Popen, errors: IO[bytes]) -> Iterator[bytes]:
    while True:
        ready, _, _ = select.select([process.stdout], [], [], STALL_SECONDS)
        if not ready:
            raise FetchError(f"silent for {STALL_SECONDS:.0f} s", "try the command in a shell", passing=True)
        chunk = os.read(process.stdout.fileno(), CHUNK)
        if not chunk:
            break
        yield chunk
    try:
        status = process.wait(STALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise FetchError("does not end", "try the command in a shell", passing=True) from None
    if status:
        # 126 and 127: the shell cannot run it, which no second try changes.
        passing, reason = status not in (126, 127), f"ends with status {status}{_last_words(errors)}"
        raise FetchError(reason, "try the command in a shell", passing=passing)


def _last_words(errors: IO[bytes]) -> str:
    end = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, end - 4096))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    words = "".join(sign if sign.isprintable() else " " for sign in without_secrets(lines[-1])) if lines else ""
    return f" ({words[-_LAST_WORDS:]})" if words else ""


def _end(process: subprocess.Popen) -> None:
    """Also what the shell has started: the session is its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()


def s3_command(url: str) -> str:
    """The command for an `s3://` folder.

    Raises:
        UserError: the AWS command line is not installed.
    """
    if not shutil.which("aws"):
        raise UserError(f"{without_secrets(url)}: needs the AWS command line (aws), or a command of your own: "
                        "pipe:s5cmd cat s3://bucket/shards/{}")  # fmt: skip
    return f"aws s3 cp --only-show-errors {shlex.quote(url.rstrip('/'))}/{{}} -"
