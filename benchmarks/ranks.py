"""A benchmark's own worker on several ranks of this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys


def start(script: str, task: dict, world: int) -> dict:
    """Run `script --worker TASK` on so many ranks. Returns what rank 0 printed after `RESULT `."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in range(world):
        here = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        command = [sys.executable, script, "--worker", json.dumps(task)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env={**os.environ, **here}, **pipes))
    outputs = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{task} failed on {world} rank(s):\n{outputs[0][1][-3000:]}")
    return json.loads(outputs[0][0].split("RESULT ")[1].splitlines()[0])
