"""What a request to stop does: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed.

It raises KeyboardInterrupt, or waits while something has to become whole. It is never forgotten: a
library's callback may swallow the exception, so requests are counted, and `check` is called
wherever a piece of work begins or ends.
"""

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Requests:
    """The requests to this process.

    Attributes:
      count: those that came.
      waiting: how many of them may wait, at this moment; the next one raises.
      handled: signals come here.
    """

    count, waiting, handled = 0, 0.0, False


@contextmanager
def handled() -> Iterator[None]:
    """Handles requests to stop; a block within another goes on with what came before.

    SIGHUP stays ignored where `nohup` ignores it. Outside the main thread signals are not ours to
    handle.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting, before, told = _Requests.waiting, {}, sys.unraisablehook
    outermost = not _Requests.handled
    if outermost:
        _Requests.handled = True

        def lost(unraisable: Any) -> None:
            """Says nothing of a request in a callback whose exceptions are lost: it is counted."""
            if not isinstance(unraisable.exc_value, KeyboardInterrupt):
                told(unraisable)

        sys.unraisablehook = lost
        for sign in _SIGNALS:
            was = signal.getsignal(sign)
            # Ctrl-C is ignored in whatever a script starts in the background: not by its wish.
            if sign != signal.SIGHUP or was is not signal.SIG_IGN:
                before[sign] = was
                signal.signal(sign, _came)
    try:
        yield
    finally:
        _Requests.waiting = waiting
        if outermost:
            _Requests.count, _Requests.handled = 0, False
            sys.unraisablehook = told
        for sign, was in before.items():
            signal.signal(sign, was)


def _came(*_: Any) -> None:
    _Requests.count += 1
    if _Requests.count > _Requests.waiting:
        raise KeyboardInterrupt


def asked() -> bool:
    """Says whether a request came."""
    return _Requests.count > 0


def check() -> None:
    """Raises KeyboardInterrupt if a request came."""
    if asked():
        raise KeyboardInterrupt


def let_wait() -> None:
    """Lets a first request wait until the end of the block of `handled`; a second one raises."""
    _Requests.waiting = max(_Requests.waiting, 1)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets all requests wait until what is inside is whole."""
    before, _Requests.waiting = _Requests.waiting, math.inf
    try:
        yield
    finally:
        _Requests.waiting = before
