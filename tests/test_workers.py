"""Jobs in other processes: results in order, and every end in one line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ufo_ds.errors import UserError
from ufo_ds.workers import Workers

pytestmark = pytest.mark.multiprocess


def slow_if_first(number):
    time.sleep(0.3 * (number == 0))
    return number * number


def refuse(number):
    if number == 3:
        raise UserError("file 3: is broken; mend it")
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_order(count):
    with Workers(count) as workers:
        assert list(workers.map(slow_if_first, range(20))) == [number * number for number in range(20)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_stream_takes_few_jobs_ahead(count):
    taken = []
    with Workers(count) as workers:
        results = workers.stream(slow_if_first, (taken.append(number) or number for number in range(100)))
        assert next(results) == 0 and len(taken) <= 4 * count + 1
        assert list(results) == [number * number for number in range(1, 100)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_users_mistake_comes_as_it_is(count):
    with Workers(count) as workers:
        results = workers.map(refuse, range(9))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(UserError, match=r"^file 3: is broken; mend it$"):
            next(results)


def test_a_killed_process_is_one_line():
    with Workers(2) as workers, pytest.raises(UserError, match=r"ended early .* --workers"):
        list(workers.map(die, range(9)))


def test_the_processes_end_with_their_parent():
    code = ("import os, time; from ufo_ds.workers import Workers\n"
            "if __name__ == '__main__':\n"
            "    workers = Workers(2); print(*workers.map(os.getpgid, [0, 0]), flush=True)\n"
            "    print(*workers._pool._processes, flush=True); time.sleep(60)")  # fmt: skip
    script = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                              cwd=Path(__file__).resolve().parents[1])  # fmt: skip
    script.stdout.readline()
    children = [int(word) for word in script.stdout.readline().split()]
    assert len(children) == 2
    script.kill()
    script.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
