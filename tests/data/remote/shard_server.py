"""A web server on this machine that fails as it is told."""

import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class ShardServer:
    """Serves a folder under `url`.

    `faults[name]` holds what happens to the next requests of `<task>/<file>`, one each: a status; a pair of status and
    headers; `("cut", bytes)`, which ends the connection after so many; `("swap", data)`; `("endless",)`;
    `("wait", seconds)`. `ranges` says whether it knows them.
    """

    def __init__(self, root, prefix=""):
        self.root, self.prefix = Path(root), prefix
        self.faults = defaultdict(list)
        self.ranges = True
        self.requests = []
        """(path as sent, headers), in order."""
        self.sent = Counter()
        """Bytes of payload by path."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}{prefix}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def count(self, ending=".tar"):
        """Requests of files with that ending, by name."""
        names = [urlsplit(path).path.rpartition("/")[2] for path, _ in self.requests]
        return Counter(name for name in names if name.endswith(ending))


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            server.requests.append((self.path, dict(self.headers)))
            name = unquote(urlsplit(self.path).path).removeprefix(unquote(server.prefix)).lstrip("/")
            pending = server.faults[name]
            fault = pending.pop(0) if pending else None
            if isinstance(fault, int):
                fault = (fault, {})
            if fault and isinstance(fault[0], int):
                return self._reply(fault[0], fault[1], b"")
            path = server.root / name
            if not path.is_file():
                return self._reply(404, {}, b"")
            data = path.read_bytes()
            kind = fault[0] if fault else None
            if kind == "wait":
                time.sleep(fault[1])
            if kind == "swap":
                data = fault[1]
            if kind == "endless":
                return self._endless(name)
            status, headers = 200, {}
            asked = self.headers.get("Range")
            if asked and server.ranges:
                first = int(asked.removeprefix("bytes=").rstrip("-"))
                status, headers = 206, {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
                data = data[first:]
            self._reply(status, headers, data, fault[1] if kind == "cut" else None)
            server.sent[name] += len(data)
            return None

        def _reply(self, status, headers, data, cut=None):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data if cut is None else data[:cut])

        def _endless(self, name):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(1 << 16))
                    server.sent[name] += 1 << 16
            except OSError:
                pass

    return Handler
