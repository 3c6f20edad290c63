"""What is told elsewhere than on a terminal."""

import time

import pytest

from nstyle.process import progress
from nstyle.process.progress import RunProgress, watched

NONE = {"content": 0.0, "style": 0.0, "tv": 0.0}


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which stands still unless the test moves it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_speed_and_time_left_are_told_once_they_are_known(clock, capsys):
    with RunProgress(steps=100) as run:
        clock[0] = 60.0  # it compiles
        run.update({"step": 0, **NONE, "loss": 2.0})
        clock[0] = 71.0
        run.update({"step": 22, **NONE, "loss": 1.0})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "step 0/100  loss 2"
    assert second == "step 22/100  loss 1  2.00 steps/s  0:39 left"


def test_long_work_on_many_items_is_told_now_and_then(clock, capsys):
    for _ in watched(range(7), "composing"):
        clock[0] += 3.0
    assert capsys.readouterr().err.splitlines() == [
        "composing: 2 of 7",
        "composing: 4 of 7",
        "composing: 6 of 7",
    ]


def test_a_run_without_a_first_step_is_said_to_compile(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS_TO_COMPILE", 0.01)
    with RunProgress(steps=100):
        time.sleep(0.2)
    with RunProgress(steps=100) as run:
        run.update({"step": 0, **NONE, "loss": 2.0})
        time.sleep(0.2)
    assert capsys.readouterr().err.count("compiling") == 1


def test_a_sweep_tells_that_it_composes_and_checks(nstyle_here, given, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false"]
    _, _, err = nstyle_here("-m", *given, *quick, "seed=0,1")
    assert "composing: 1 of 2" in err
    assert "checking: 1 of 2" in err
