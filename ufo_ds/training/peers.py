"""A line to every rank beside the training: when one dies, the others end at once instead of waiting for it.

Collectives cannot tell a slow peer from a dead one: NCCL's wait for minutes, gloo's end in a trace of sockets. Here
each rank holds a TCP connection to rank 0. The kernel closes it with the process, however that ends, and its keep-alive
notices a machine that is gone. No message is ever due, so a rank may be busy, or stopped in a debugger, for hours.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable

from ufo_ds.distributed import ObjectExchange

KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 5}
"""Seconds of silence before the first probe, seconds between probes, probes without an answer: a machine that vanished
is known after 35 seconds."""
JOIN_SECONDS = 60.0
LAST_WORDS_SECONDS = 6.0
"""For a rank that fails to say why before the others leave."""
LOST, FAILED = 3, 2
"""Exit statuses: a peer died; a peer failed, and has said why itself."""
_STOP, _FAIL, _DEAD, _BYE = b"SFDB"
_TOKEN_BYTES = 16
_SIZE = 5  # kind, rank


class Peers:
    """Watches over the other ranks from a thread; of no effect in a world of one.

    Args:
        exchange: over the ranks; all of them make their `Peers` together.
        stop_asked: called, in the thread, when another rank was asked to stop.
    """

    def __init__(self, exchange: ObjectExchange, stop_asked: Callable[[], None]) -> None:
        self.ranks, self._stop_asked = exchange.ranks, stop_asked
        self.where = "before the first step"
        """What the run was at, for the line about a dead peer."""
        self._lost = threading.Event()
        self._leaving: set[int] = set()
        self._sockets: dict[int, socket.socket] = {}
        if self.ranks.world == 1:
            return
        self._sockets = self._gather(exchange) if self.ranks.first else self._join(exchange)
        for wire in self._sockets.values():
            _keep_alive(wire)
        threading.Thread(target=self._watch, daemon=True, name="peers").start()

    def ask_stop(self) -> None:
        """Tell every rank that the run is to stop."""
        self._send(_STOP, self.ranks.rank)

    def leave(self, failed: bool) -> None:
        """Say goodbye: the end of this process is no news from here on. `failed`: it says why by itself."""
        self._send(_FAIL if failed else _BYE, self.ranks.rank)

    def explain(self) -> None:
        """To be called on an error that a dead peer may have caused: does not return if there is one."""
        if self._sockets and self._lost.wait(5.0):
            time.sleep(2 * LAST_WORDS_SECONDS)  # the thread ends the process

    # ---- connections ----

    def _gather(self, exchange: ObjectExchange) -> dict[int, socket.socket]:
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        try:
            server = socket.create_server((host, 0))
        except OSError:  # the name that the others know is no address of this machine's own
            server = socket.create_server(("", 0))
        token = secrets.token_bytes(_TOKEN_BYTES)
        exchange.broadcast((host, server.getsockname()[1], token))
        found: dict[int, socket.socket] = {}
        until = time.monotonic() + JOIN_SECONDS
        with server:
            while len(found) < self.ranks.world - 1:
                server.settimeout(max(0.1, until - time.monotonic()))
                wire, _ = server.accept()
                wire.settimeout(5.0)
                greeting = _receive(wire, _TOKEN_BYTES + 4)
                if secrets.compare_digest(greeting[:_TOKEN_BYTES], token):
                    found[int.from_bytes(greeting[_TOKEN_BYTES:], "big")] = wire
                else:  # somebody else on this network
                    wire.close()
        return found

    def _join(self, exchange: ObjectExchange) -> dict[int, socket.socket]:
        host, port, token = exchange.broadcast(None)
        wire = socket.create_connection((host, port), timeout=JOIN_SECONDS)
        wire.sendall(token + self.ranks.rank.to_bytes(4, "big"))
        return {0: wire}

    # ---- the thread ----

    def _watch(self) -> None:
        chooser = selectors.DefaultSelector()
        for peer, wire in self._sockets.items():
            wire.settimeout(5.0)
            chooser.register(wire, selectors.EVENT_READ, peer)
        while chooser.get_map():
            for key, _ in chooser.select():
                message = _receive(key.fileobj, _SIZE)
                if len(message) == _SIZE:
                    self._take(message[0], int.from_bytes(message[1:], "big"))
                else:
                    chooser.unregister(key.fileobj)
                    if key.data not in self._leaving:
                        self._take(_DEAD, key.data)

    def _take(self, kind: int, rank: int) -> None:
        if self.ranks.first:
            self._send(kind, rank)
        if kind == _STOP:
            self._stop_asked()
        elif kind == _BYE:
            self._leaving.add(rank)
        elif self.ranks.rank not in self._leaving:
            self._lost.set()
            self._end(kind, rank)

    def _end(self, kind: int, rank: int) -> None:
        """End this process. Of a rank that died, the first of those left speaks."""
        if kind == _FAIL:
            time.sleep(LAST_WORDS_SECONDS)
            os._exit(FAILED)
        if self.ranks.rank == (0 if rank else 1):
            print(f"error: rank {rank} of {self.ranks.world} died {self.where} (killed, out of memory, or its machine "
                  "is gone); the other ranks end too, and --resume goes on from the last checkpoint", file=sys.stderr)
        else:
            time.sleep(1.0)  # so that the line is out before a launcher ends everything
        sys.stderr.flush()
        os._exit(LOST)

    def _send(self, kind: int, rank: int) -> None:
        if kind in (_BYE, _FAIL):
            self._leaving.add(rank)
        for peer, wire in self._sockets.items():
            if peer != rank:
                try:
                    wire.sendall(bytes([kind]) + rank.to_bytes(4, "big"))
                except OSError:  # that one is gone, which its own end of the line tells
                    continue


def _receive(wire: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the connection ends before."""
    data = b""
    while len(data) < size:
        try:
            part = wire.recv(size - len(data))
        except OSError:
            return b""
        if not part:
            break
        data += part
    return data


def _keep_alive(wire: socket.socket) -> None:
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
