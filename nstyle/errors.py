"""The one exception that users meet, and what goes with it."""

import argparse
import difflib
import io
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from nstyle import huge_pages


class NstyleError(Exception):
    """A mistake in the input, told in one line: the value, what is allowed, the nearest match.

    The command line prints the message and exits with status 2.
    """

    def __str__(self) -> str:
        return super().__str__().replace("\n", "\\n")  # names of files may have some


class LineParser(argparse.ArgumentParser):
    """An argument parser that tells what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Raises `NstyleError`."""
        raise NstyleError(f"{message} (see {self.prog} --help)")


def run_command(name: str, command: Callable[[list[str]], None]) -> None:
    """Runs a command with the program's arguments: exits with 2 on wrong input, 130 on Ctrl-C."""
    huge_pages.start_over_with_them(name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        command(sys.argv[1:])
    except NstyleError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"{name}: {str(interrupt) or 'interrupted; nothing to save yet'}", file=sys.stderr)
        sys.exit(130)


def nearest(value: str, allowed: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the allowed word nearest to `value`, or `""`."""
    matches = difflib.get_close_matches(value, list(allowed), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def check_choice(kind: str, value: str, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of `allowed`.

    Raises:
      NstyleError: it is not; the line lists all that is allowed.
    """
    allowed = list(allowed)
    if value not in allowed:
        raise NstyleError(
            f"{kind}: unknown value {value!r}{nearest(str(value), allowed)}"
            f" (allowed: {', '.join(allowed)})"
        )
    return value
