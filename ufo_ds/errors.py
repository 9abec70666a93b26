"""The one exception for a user's mistake, and how a command line ends."""

from __future__ import annotations

import atexit
import io
import os
import reprlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

LONGEST = 1200
"""Characters of a message. Of a longer one the middle goes: the file stands in front, the remedy at the end."""


class UserError(Exception):
    """A mistake that the user can mend. One line: the file, the key, the remedy."""

    def __init__(self, message: str) -> None:
        line = printable(" ".join(str(message).split()))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 305]} ... {line[-300:]}")


def printable(text: str) -> str:
    """`text` with what a terminal would obey or refuse (control characters, bytes of odd file names) as escapes."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def shown(value: Any, limit: int = 40) -> str:
    """A value that somebody else wrote, for a message: at most `limit` characters, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxlevel = 4  # `repr` alone would end at Python's limit of recursion
    brief.maxstring = brief.maxlong = brief.maxother = limit
    return brief.repr(value)[:limit]


def listed(values: Sequence[Any], most: int) -> str:
    """The first `most` of some values, for a message."""
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")


def reason_of(error: Exception) -> Any:
    """Why something could not be read or written, for a message: what the system says, or the error itself."""
    return getattr(error, "strerror", None) or error


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run an entry point; a `UserError` becomes one line on stderr and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need be no text
    try:
        status = main() or 0
    except UserError as error:
        # Ranks mostly fail alike: the others wait, so that rank 0 speaks for all of them and the
        # launcher ends them; a rank that fails alone still gets its line out.
        rank = int(os.environ.get("RANK", "0"))
        if rank:
            time.sleep(3)
        print(f"error: {error}" if rank == 0 else f"error (rank {rank}): {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # `... | head`: nobody reads on, which is no mistake
        os._exit(141)
    # After a failure a process group or worker processes may still be up: do not wait for them.
    if status or "RANK" in os.environ:
        leave(status)
    sys.exit(0)


def leave(status: int) -> NoReturn:
    """End this process, one of several ranks or with a failure: exit handlers run, the interpreter is not taken down.

    DeepSpeed holds process groups for as long as the interpreter lives. A thread of theirs (gloo) that wants the
    interpreter's lock while that is being taken down aborts the process: a run that was done would end with -6.
    """
    if not status:
        # A handler may find its service gone (wandb's, which a launcher's SIGTERM reaches too): no news any more.
        sys.unraisablehook = lambda _: None
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
