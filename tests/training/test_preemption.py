"""SIGTERM, sent for real to a process that is at something Python cannot interrupt."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from ufo_ds.training.preemption import SAME_SECONDS, TERMINATED

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import hashlib, signal, sys
from ufo_ds.training.preemption import StopRequest
stop = StopRequest()
stop.listen(lambda: print("told", flush=True))
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10_000_000) if sys.argv[1] == "busy" else None
print("asked" if stop.asked else "not asked", flush=True)
stop.close()
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True)
"""


def start(how):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, how], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def rest_of(process):
    with process:
        return process.stdout.read()


def test_the_first_asks_and_the_next_of_the_same_moment_is_the_same():
    process = start("busy")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    assert rest_of(process) == "told\nasked\nTrue\n"
    assert process.returncode == 0


def test_a_second_one_ends_the_process_at_once():
    process = start("busy")
    process.send_signal(signal.SIGTERM)
    time.sleep(SAME_SECONDS + 0.3)
    process.send_signal(signal.SIGTERM)
    assert rest_of(process) == "told\n", "it waited for what it was at"
    assert process.returncode == TERMINATED


def test_without_a_signal_nothing_is_asked():
    process = start("idle")
    assert rest_of(process) == "not asked\nTrue\n"
