"""How a command begins and ends: its process, its output, and its errors in one line."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO, cast

from nstyle.errors import NstyleError
from nstyle.process import huge_pages, interrupts


class LineParser(argparse.ArgumentParser):
    """An argument parser that tells what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Raises `NstyleError`."""
        raise NstyleError(f"{message} (see {self.prog} --help)")


def run_command(name: str, command: Callable[[list[str]], None]) -> None:
    """Runs a command with the program's arguments: exits with 2 on wrong input, 130 on a signal."""
    huge_pages.start_over_with_them(name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        with interrupts.handled(), lasting_output(), short_warnings(name):
            try:
                command(sys.argv[1:])
            except NstyleError:
                raise
            except Exception:  # an extension that is interrupted while it loads is an ImportError
                interrupts.check()
                raise
            interrupts.check()
    except NstyleError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"{name}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)


@contextmanager
def short_warnings(name: str) -> Iterator[None]:
    """Tells a library's warning in one line, and others of its kind in this process not again."""

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        line = str(message).partition("\n")[0]
        kind = line.partition("'")[0]
        if kind not in _TOLD:
            _TOLD.add(kind)
            print(f"{name}: note: {line}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = note
        yield


#: Kinds of warnings that this process has told.
_TOLD: set[str] = set()


@contextmanager
def lasting_output() -> Iterator[None]:
    """Lets the work go on where standard output or error cannot be written any more.

    Where its reader has left, as of `| head`, nobody misses the rest.

    Raises:
      NstyleError: what was written to standard output was lost otherwise, as on a full disk.
    """
    before = sys.stdout, sys.stderr
    output, errors = _Lasting(sys.stdout), _Lasting(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before
    if output.failure is not None and not isinstance(output.failure, BrokenPipeError):
        raise NstyleError(f"cannot write to standard output: {output.failure.strerror}")


class _Lasting:
    """A stream whose writes never fail.

    Attributes:
      failure: why what was written since is lost; None: nothing is.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, or loses it."""
        with self._losing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is kept back, or loses it."""
        with self._losing():
            self._stream.flush()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            # What the stream still holds is written there, also when Python ends.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
