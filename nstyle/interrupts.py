"""What Ctrl-C and SIGTERM do while a run or a training goes on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What Ctrl-C and SIGTERM do at this moment.

    Attributes:
      asked: a signal came; the run ends after the step at hand, when its course is whole.
      at_once: a signal ends the process: nothing is computed yet, or it is the second one.
    """

    asked = False
    at_once = True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets nothing that is pressed end what saves the work."""
    if not _in_main_thread():
        yield
        return
    before = {sign: signal.signal(sign, signal.SIG_IGN) for sign in _SIGNALS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@contextmanager
def signals() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM do what `Interrupts` says.

    Outside the main thread signals are not ours to handle.
    """
    if not _in_main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        if Interrupts.at_once:
            raise KeyboardInterrupt
        Interrupts.asked = Interrupts.at_once = True

    Interrupts.asked, Interrupts.at_once = False, True
    before = {sign: signal.signal(sign, interrupt) for sign in _SIGNALS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
