"""One of three ranks of tests/training/test_peers.py, without DeepSpeed: waits for one that does not come."""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist

from ufo_ds.distributed import ObjectExchange, find_ranks, start_gloo
from ufo_ds.errors import UserError, run_command
from ufo_ds.training.peers import Peers
from ufo_ds.training.preemption import StopRequest


def main():
    what, who = sys.argv[1], int(sys.argv[2])
    ranks = find_ranks()
    start_gloo(ranks)
    stop = StopRequest()
    peers = Peers(ObjectExchange(ranks), stop.ask)
    stop.listen(peers.ask_stop)
    peers.where = "in step 7"
    failed = True
    try:
        dist.all_reduce(torch.zeros(1))
        if ranks.rank == who:
            if what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "fails":
                raise UserError("this rank's shard is gone; bring it back")
            if what == "leaves":
                peers.leave(failed=False)
                time.sleep(1)
                os._exit(0)
            if what == "stops":
                os.kill(os.getpid(), signal.SIGTERM)
        if what in ("leaves", "stops"):
            until = time.monotonic() + 20
            while not stop.asked and time.monotonic() < until - 15 * (what == "leaves"):
                time.sleep(0.05)
            print("asked" if stop.asked else "not asked", flush=True)
        else:
            if what == "killed" and ranks.rank == 2:  # not every rank is in a collective then
                time.sleep(60)
            dist.all_reduce(torch.zeros(1))
        failed = False
    except RuntimeError:
        peers.explain()
        raise
    finally:
        peers.leave(failed)


run_command(main)
