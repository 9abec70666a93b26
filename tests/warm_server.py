"""A Python that has done its imports: forks a process for every command line that tests ask for (`warm_python`).

Starting torch, DeepSpeed and transformers anew costs seconds of a core for every rank, launcher and server of readers.
A process forked from here, before there are threads, groups or engines, goes on where a fresh one would be after them.
What it starts itself by `sys.executable` is forked too: ranks by DeepSpeed's launcher, readers' servers by ranks.

Arguments: the descriptor that requests come by, and blanks, in whose place processes write their command lines.
"""

import array
import atexit
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import multiprocessing.util
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from contextlib import suppress
from pathlib import Path

IMPORTS = [
    "deepspeed.autotuning", "deepspeed.module_inject.auto_ep_layer", "deepspeed.ops.adam",
    "deepspeed.runtime.zero.muon.muon_optimizer", "docstring_parser", "functorch.compile",
    "jsonargparse", "multiprocessing.popen_forkserver", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "setuptools",
    "pycocotools.cocoeval", "qpsolvers", "torch._higher_order_ops", "torch._inductor.compile_fx",
    "torch.utils.cpp_extension", "torchjd.aggregation", "transformers.models.d_fine.modeling_d_fine",
    "transformers.models.rt_detr_v2.modeling_rt_detr_v2", "ufo_ds.export", "ufo_ds.prediction", "ufo_ds.report",
    "ufo_ds.scoring", "ufo_ds.tasks.classification.task", "ufo_ds.tasks.detection.task",
    "ufo_ds.tasks.segmentation.task", "ufo_ds.training.loop",
    "wandb.sdk.data_types._private",
]  # fmt: skip
LONGEST = 1 << 17  # bytes of a request


def send(where, request, descriptors):
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    where.sendmsg([json.dumps(request).encode()], [rights])


def receive(where):
    """A request and its descriptors; None at the other side's end."""
    text, rights, _, _ = where.recvmsg(LONGEST, socket.CMSG_SPACE(64))
    descriptors = array.array("i", b"".join(data for _, _, data in rights))
    return (json.loads(text), list(descriptors)) if text else None


def serve(requests):
    """Fork for each request. Its last descriptor gets the process' number, and in the end its status, a line each."""
    running = {}
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is requests:
                    request = receive(requests)
                    if request is None:
                        return
                    process, answers = start(*request)
                    watch = os.pidfd_open(process)
                    running[watch] = process, answers
                    selector.register(watch, selectors.EVENT_READ)
                else:
                    selector.unregister(key.fileobj)
                    process, answers = running.pop(key.fileobj)
                    _, status = os.waitpid(process, 0)
                    answer(answers, os.waitstatus_to_exitcode(status))
                    os.close(answers)
                    os.close(key.fileobj)


def answer(where, number):
    with suppress(BrokenPipeError):  # a test that failed does not wait
        os.write(where, b"%d\n" % number)


def start(request, descriptors):
    *streams, answers = descriptors
    process = os.fork()
    if not process:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(request["folder"])
        if request["session"]:
            os.setsid()
        become(request["words"], request["environment"])
    answer(answers, process)
    for stream in streams:
        os.close(stream)
    return process, answers


def become(words, environment):
    """Be a fresh Python with this command line (after `python`), to its end. Standard streams and folder are set."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    gc.enable()  # subprocess stops it before `preexec_fn`
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    for one in weakref.finalize._registry:  # folders that imports made are the server's to remove
        one.atexit = False
    atexit.unregister(sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP.cleanup)
    write_command_line([sys.executable, *words])
    if "-u" in words[:1]:
        words = words[1:]
        sys.stdout.reconfigure(line_buffering=True)
    launches = words[0] == "-m" and words[1].startswith("deepspeed.launcher.")
    subprocess.Popen = ForkingPopen if launches else ForkingPopen.__base__
    if not launches and words[0] != "-c":
        keep_spare()
    run_to_the_end(words)


def run_to_the_end(words):
    """Run a command line and end the process as the interpreter would."""
    try:
        run(words)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def run(words):
    kind = words[0]
    sys.argv = words if not kind.startswith("-") else [kind, *words[2:]]
    if kind == "-c":
        sys.path[0] = ""
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


class ForkingPopen(subprocess.Popen):
    """Starts a Python as a fork that never comes to `exec`."""

    def __init__(self, words, env=None, **options):
        if words[0] == sys.executable:
            options["preexec_fn"] = functools.partial(become, list(words[1:]), dict(env or os.environ))
            options["restore_signals"] = False
        super().__init__(words, env=env, **options)


def keep_spare():
    """Fork a child that will be the server of readers if one is wanted: later there are threads that forbid it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spare = os.fork()
    if not spare:
        here.close()
        write_command_line([sys.executable, "-c", "spare"])
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # not before it is what it will be
        request = receive(there)
        there.close()
        if request is None:
            os._exit(0)
        (code, numbers, environment), descriptors = request
        move(descriptors, numbers)
        os.environ.update(environment)
        write_command_line([sys.executable, "-c", code])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        run_to_the_end(["-c", code])
    there.close()
    spawn = multiprocessing.util.spawnv_passfds

    def spawn_or_use(path, words, descriptors):
        if here.fileno() < 0 or "multiprocessing.forkserver" not in words[-1]:
            return spawn(path, words, descriptors)
        send(here, [words[-1], list(descriptors), dict(os.environ)], descriptors)
        here.close()
        return spare

    multiprocessing.util.spawnv_passfds = spawn_or_use


def move(descriptors, numbers):
    """Give descriptors the numbers that they had where they came from."""
    away = [fcntl.fcntl(one, fcntl.F_DUPFD, 1 + max(*numbers, *descriptors)) for one in descriptors]
    for one in descriptors:
        os.close(one)
    for one, number in zip(away, numbers, strict=True):
        os.dup2(one, number)
        os.close(one)


def write_command_line(words):
    """Where `ps` and `psutil` look for it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    text = "\0".join(words).encode()[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is pytest's, whose end is this one's too
    serve(socket.socket(fileno=int(sys.argv[1])))
    atexit._run_exitfuncs()
    os._exit(0)  # some libraries complain when the interpreter is taken down
