"""Command lines as a user types them, from the project's root."""

import random
import socket
import subprocess
import sys

from warm_python import ROOT, warm


def run(*command, ok=True, timeout=420, cold=False):
    """Run a script; `deepspeed N` in front starts N ranks with its launcher. `cold`: with interpreters of their own."""
    words = [str(word) for word in command]
    if words[0] == "deepspeed":
        launcher = ["-m", "deepspeed.launcher.runner", "--num_gpus", words[1], "--master_port", str(free_port())]
        words = [*launcher, *words[2:]]
    words = [sys.executable, *words]
    if cold:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    else:
        done = warm.run(words, timeout=timeout)
    if ok:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    else:
        assert done.returncode != 0
        assert "Traceback" not in done.stderr + done.stdout, done.stderr[-3000:]
    return done


def free_port():
    """A port that nobody listens on, below those that the system gives to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
