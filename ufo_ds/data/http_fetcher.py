"""Shards of a web server."""

from __future__ import annotations

import base64
import functools
import http.client
import re
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit

from ufo_ds.data.fetching import CHUNK, STALL_SECONDS, Body, FetchError
from ufo_ds.errors import UserError

_PASSING = {408, 425, 429, 500, 502, 503, 504}
_SAFE = "/%:@!$&'()*+,;=~-._"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LATER = "try again later, or look at the server"


class HttpFetcher:
    """Files below an `http://` or `https://` folder.

    User and password of the URL go along as Basic authentication, its query (a signature, say) with every
    request; neither shows in messages, and the first not on another server that a redirect leads to.

    Raises:
        UserError: not a usable URL.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if not host or re.search(r"[\x00-\x20\x7f]", parts.netloc):
            raise UserError("the shards' URL names no host and port that can be used; give https://host/folder")
        if parts.fragment:
            raise UserError(f"the shards' URL on {host} has a '#'; write it %23 where it belongs to a name")
        host = f"[{host}]" if ":" in host else host.encode("idna").decode() if not host.isascii() else host
        self.origin = f"{parts.scheme.lower()}://{host}" + (f":{port}" if port else "")
        self.path = quote(_LONE_PERCENT.sub("%25", parts.path.strip().rstrip("/")), safe=_SAFE)
        self._query = f"?{quote(parts.query, safe=_SAFE + '?')}" if parts.query else ""
        self._authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()

    def place(self, name: str) -> str:
        """The address of a file, without user, password and query."""
        return f"{self.origin}{self.path}/{name}".rstrip("/")

    @contextmanager
    def open(self, name: str, start: int) -> Iterator[Body]:
        """A file, from `start` on where the server knows ranges. Raises `FetchError`."""
        headers = {"User-Agent": "ufo-ds", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(self.place(name) + self._query, headers=headers)
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with _opener().open(request, timeout=STALL_SECONDS) as response:
                yield Body(*_extent(response, start), _chunks(response))
        except HTTPError as error:
            error.close()
            raise _status_error(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                problem = f"its certificate is not trusted ({reason.verify_message})"
                raise FetchError(problem, "set SSL_CERT_FILE to the authority that signed it") from None
            # Not `str(reason)` of a URL that cannot be parsed: it may hold what must not be shown.
            shown = getattr(reason, "strerror", None) or type(reason).__name__
            remedy = f"check host and network, {_LATER}"
            raise FetchError(f"cannot be reached ({shown})", remedy, passing=True) from None


def _extent(response: Any, start: int) -> tuple[int, int | None]:
    """First byte and whole size of what comes."""
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() and len(length) < 19 else None
    if response.status != 206:
        return 0, size
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("Content-Range", "").strip())
    if not found or int(found[1]) != start:
        raise FetchError("answers with another range than was asked for", _LATER, passing=True)
    return start, None if found[2] == "*" else int(found[2])


def _chunks(response: Any) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK):
        yield chunk


def _status_error(error: HTTPError) -> FetchError:
    reason = f"HTTP status {error.code}"
    if error.code in (404, 410):
        return FetchError(reason, "give the folder that shards/build.py wrote, whole", absent=True)
    if error.code in (401, 403):
        remedy = "give user and password in the URL (https://user:password@host/...), or a command: pipe:curl ... {}"
        return FetchError(reason, remedy)
    if error.code in _PASSING:
        wait = str((error.headers or {}).get("Retry-After", ""))
        pause = float(wait) if wait.isdecimal() and len(wait) < 6 else 0.0
        return FetchError(reason, _LATER, passing=True, pause=pause)
    return FetchError(reason, "check the URL")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to web servers only, and takes the password along on the same server only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """A request of `newurl`, or an error; see the base class."""
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise FetchError(f"redirects to '{new.scheme[:20]}:', which is not followed", "give the final URL")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if request is not None and authorization and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", authorization)
        return request

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """As the base class, which refuses other schemes in words of its own."""
        location = headers.get("location") or headers.get("uri") or ""
        if urlsplit(location).scheme not in ("", "http", "https"):
            self.redirect_request(req, fp, code, msg, headers, location)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """Without the handlers of `file:`, `ftp:` and `data:` that `urlopen` has."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
