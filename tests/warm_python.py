"""Command lines of Python without its imports: run by forks of a process that has done them (`warm_server`)."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from warm_server import send

ROOT = Path(__file__).resolve().parents[1]
BLANKS = " " * 8192


class WarmPython:
    """Starts processes; the server is started with the first."""

    def __init__(self):
        self._requests = self._server = None

    def start(self, words, *, cwd=ROOT, env=None, stdout=None, stderr=None, start_new_session=False):
        """A process of `[sys.executable, ...]`, like `subprocess.Popen`. Output that no file is named for is kept."""
        words = [str(word) for word in words]
        assert words[0] == sys.executable
        if self._server is None:
            self._begin()
        request = {"words": words[1:], "folder": str(cwd), "session": start_new_session,
                   "environment": dict(os.environ if env is None else env)}  # fmt: skip
        output = stdout or tempfile.TemporaryFile()  # noqa: SIM115
        error = output if stderr == subprocess.STDOUT else stderr or tempfile.TemporaryFile()  # noqa: SIM115
        answers, there = os.pipe()
        with open(os.devnull) as nothing:
            send(self._requests, request, [nothing.fileno(), output.fileno(), error.fileno(), there])
        os.close(there)
        return WarmProcess(words, answers, output, error)

    def run(self, words, *, timeout=600, **options):
        """Like `subprocess.run` with text and captured output."""
        process = self.start(words, **options)
        try:
            output = process.communicate(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, process.returncode, *output)

    def _begin(self):
        self._requests, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = Path(__file__).with_name("warm_server.py")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        with there:
            self._server = subprocess.Popen([sys.executable, script, str(there.fileno()), BLANKS], env=environment,
                                            pass_fds=[there.fileno()], stdin=subprocess.DEVNULL)  # fmt: skip

    def close(self):
        """End the server."""
        if self._server is not None:
            self._requests.close()
            self._server.wait(60)


class WarmProcess:
    """What `subprocess.Popen` is for other processes."""

    def __init__(self, words, answers, output, error):
        self.args, self.returncode = words, None
        self._answers, self._files = os.fdopen(answers), (output, error)
        self.pid = int(self._answers.readline())

    def poll(self):
        return self._status(0)

    def wait(self, timeout=None):
        if self._status(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _status(self, timeout):
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._answers, selectors.EVENT_READ)
                if selector.select(timeout):
                    self.returncode = int(self._answers.readline())
        return self.returncode

    def communicate(self, timeout=None):
        """What it wrote, as text, when it has ended."""
        self.wait(timeout)
        for file in self._files:
            file.seek(0)
        return tuple(file.read().decode() for file in self._files)

    def send_signal(self, number):
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it may have ended since
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


warm = WarmPython()
"""The one of this session; the tests' conftest closes it."""
