"""A request to stop is never forgotten: it ends the work at once, or when it is whole."""

import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress

import pytest
from conftest import command

from nstyle.process.command import run_command
from nstyle.process.interrupts import asked, check, handled, let_wait, uninterrupted
from nstyle.runs import recording, session

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SMALL = ("size=32", "steps=3", "pyramid.levels=1", "tolerance=0")


@pytest.fixture(autouse=True)
def not_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("sign", SIGNALS)
def test_a_signal_raises_at_once_and_is_not_forgotten_where_that_is_swallowed(sign):
    before = signal.getsignal(sign)
    with handled():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(sign)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(sign) is before
    with handled():
        check()


@pytest.mark.parametrize("sign", SIGNALS)
def test_a_first_signal_waits_and_a_second_one_raises(sign):
    with handled():
        with handled():
            let_wait()
            signal.raise_signal(sign)
            assert asked()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(sign)
        with pytest.raises(KeyboardInterrupt):  # of the inner block only one waits
            signal.raise_signal(sign)


@pytest.mark.parametrize("sign", SIGNALS)
def test_nothing_ends_what_is_being_saved(sign):
    with handled():
        with uninterrupted():
            for _ in range(5):
                signal.raise_signal(sign)
        with pytest.raises(KeyboardInterrupt):
            check()


def test_the_end_of_a_terminal_stays_ignored_under_nohup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with handled():
        signal.raise_signal(signal.SIGHUP)
        assert not asked()


def test_ctrl_c_is_heard_in_what_a_script_starts_in_the_background():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with handled(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def swallowing(function):
    """Interrupts a function when it begins, in a callback whose exceptions are lost."""

    def interrupted(*arguments, **named):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **named)

    return interrupted


def test_a_request_in_a_callback_whose_exceptions_are_lost_is_counted_and_not_told(capsys):
    class Collected:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with handled():
        assert not asked()
        Collected()
        assert asked()
    assert capsys.readouterr().err == ""


def test_what_a_library_makes_of_a_signal_is_an_interrupt(monkeypatch, capsys):
    def command(_):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ImportError("Encountered an error while initializing the extension.") from error

    monkeypatch.setattr(sys, "argv", ["nstyle"])
    with pytest.raises(SystemExit) as exited:
        run_command("nstyle", command)
    assert (exited.value.code, capsys.readouterr().err) == (130, "nstyle: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "moment", "done"),
    [
        (session, "plan", 0),
        (recording, "build", 0),
        (recording, "row", 0),
        (session, "write_scores", 1),
    ],
)
def test_a_sweep_ends_wherever_a_signal_comes_and_goes_on(
    nstyle_here, given, tmp_path, monkeypatch, module, moment, done
):
    settings = ["-m", *given, *SMALL, "seed=0,1"]
    with monkeypatch.context() as patched:
        patched.setattr(module, moment, swallowing(getattr(module, moment)))
        status, _, err = nstyle_here(*settings)
    told = f"nstyle: interrupted; {done} of 2 runs done; the same command goes on"
    assert (status, err.splitlines()[-1]) == (130, told)
    finished = list(tmp_path.glob("runs/*/scores.json"))
    assert len(finished) == done
    status, _, err = nstyle_here(*settings)
    assert status == 0
    assert f"nstyle: 2 runs, {done} of them there already" in err
    stops = [json.loads(path.read_text())["stop"] for path in tmp_path.glob("runs/*/result.json")]
    assert stops == ["steps", "steps"]


@pytest.mark.skipif("NSTYLE_MOMENTS" not in os.environ, reason="NSTYLE_MOMENTS=200: minutes")
def test_signals_spread_over_a_sweep(given, tmp_path):
    """At each of so many moments, in a process of its own, which then goes on."""
    settings = ["-m", *given, *SMALL, "init=noise", "seed=0,1,2,3,4,5"]

    def start(folder):
        folder.mkdir(exist_ok=True)
        return command(*settings, folder=folder)

    def finish(folder):
        process = start(folder)
        _, err = process.communicate()
        assert process.returncode == 0, err

    def pictures(folder):
        return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/result.png")}

    finish(tmp_path / "warm")
    began = time.monotonic()
    finish(tmp_path / "whole")
    whole = time.monotonic() - began
    moments = int(os.environ["NSTYLE_MOMENTS"])
    told = Counter()
    for number in range(moments):
        sign, folder = SIGNALS[number % len(SIGNALS)], tmp_path / str(number)
        process = start(folder)
        time.sleep(whole * number / moments)
        ended = process.poll() is not None
        process.send_signal(sign)  # to nobody, if it has ended
        sent = time.monotonic()
        _, err = process.communicate()
        if not ended:
            told["later than 3 s"] += time.monotonic() - sent > 3
            # Before Python is there, a signal does what it does to any process.
            assert process.returncode in (130, -sign), (number, sign, err)
            assert "Traceback" not in err or process.returncode == -sign, err
        told[process.returncode] += 1
        finish(folder)
        assert pictures(folder) == pictures(tmp_path / "whole")
    print(moments, "moments:", dict(told))
