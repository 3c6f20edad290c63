"""Runs by tiles: the same as whole, chosen by the memory that is allowed."""

import numpy as np
import pytest

from nstyle.config import compose, parse_memory
from nstyle.errors import NstyleError
from nstyle.runs.job import blank_state_of, build, run
from nstyle.runs.planning import plan
from nstyle.runs.trace import row


@pytest.fixture
def small(pictures):
    names = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    layers = {"style_layers": ["conv1_1", "conv2_1"], "content_layers": ["conv2_2"]}
    return {"size": 48, "style_size": 40, "steps": 4, "init": "noise", **names, **layers}


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_run_by_tiles_is_the_run(small, solver):
    """Rounding grows with the steps; the first ones agree closely."""
    traces = []
    for tile in (None, 16):
        job = build(plan(compose(**small, solver=solver, tile=tile)))
        traces.append([row(step, job) for step in run(job)])
    whole, tiled = traces
    assert len(whole) == len(tiled) == 5
    for first, second in zip(whole, tiled, strict=True):
        for key in first:
            np.testing.assert_allclose(second[key], first[key], rtol=1e-3, err_msg=key)
    np.testing.assert_allclose(tiled[0]["loss"], whole[0]["loss"], rtol=1e-5)
    assert tiled[-1]["loss"] < tiled[0]["loss"]


@pytest.mark.slow
def test_a_run_by_tiles_goes_on_where_it_stopped(small):
    import jax

    job = build(plan(compose(**small, tile=16)))
    kept = [(row(step, job), jax.device_get(step.state())) for step in run(job)]
    assert jax.tree.structure(blank_state_of(job, 0)) == jax.tree.structure(kept[0][1])
    rest = [row(step, job) for step in run(job, kept[2][1])]
    assert rest == [numbers for numbers, _ in kept[3:]]


def test_memory_decides_on_tiles(small, monkeypatch):
    """With little memory allowed large pictures go by tiles, small ones never."""
    from nstyle.runs import inputs

    monkeypatch.setattr(inputs, "_pictures", lambda *_: [np.full((1500, 2000, 3), 0.5, np.float32)])
    large = small | {"steps": 1, "solver.history_size": 4}
    tiles = {
        memory: plan(compose(**large, memory=memory)).sizes[-1].tile
        for memory in ("2.5GiB", "3.25GiB", "20GiB")
    }
    assert tiles["20GiB"] is None
    assert tiles["2.5GiB"] <= tiles["3.25GiB"]
    with pytest.raises(NstyleError, match="more than the .* allowed; at most .* the run's other"):
        plan(compose(**large, memory="1.7GiB"))


def test_memory_decides_on_the_history(small, monkeypatch):
    """The longest one with which the estimate is within the budget, 5 pairs at least."""
    from nstyle.runs import inputs

    monkeypatch.setattr(inputs, "_pictures", lambda *_: [np.full((1500, 2000, 3), 0.5, np.float32)])
    for memory, tile in (("2.5GiB", None), ("2.75GiB", None), ("3.25GiB", None), ("2.75GiB", 128)):
        planned = plan(compose(**small, memory=memory, tile=tile))
        pairs, per_pair = planned.solver.history_size, 24 * 1500 * 2000
        assert planned.memory <= parse_memory(memory)
        assert 5 <= pairs < 50
        assert any(f"{pairs} pairs instead of 50" in note for note in planned.notes)
        if tile is not None:
            assert planned.memory + per_pair > parse_memory(memory)
    asked = {"solver.history_size": 3}
    assert plan(compose(**small, memory="20GiB")).solver.history_size == 50
    assert plan(compose(**small, memory="2.5GiB", **asked)).solver.history_size == 3


def test_large_runs_are_estimated_beforehand(small, monkeypatch):
    """Twice the side: four times the operations and the memory, but for what does not grow."""
    one, two, four = (
        plan(compose(**small | {"size": size, "steps": 3, "pyramid.levels": 1}))
        for size in ("64x48", "128x96", "256x192")
    )
    assert two.operations == 4 * one.operations
    assert four.memory - two.memory == 4 * (two.memory - one.memory)
    # conv1_1, conv1_2, conv2_1, conv2_2: 4 operations per entry of a kernel and position
    kernels = 9 * (3 * 64 + 64 * 64 + (64 * 128 + 128 * 128) / 4)
    assert one.operations == 4 * 4 * kernels * 64 * 48


def test_amounts_of_memory():
    assert [parse_memory(text) for text in ("4GiB", "1.5 GB", "800MiB")] == [
        4 * 2**30,
        1_500_000_000,
        800 * 2**20,
    ]
    for wrong in ("4", "many", "4GiBs", "-1GiB"):
        with pytest.raises(NstyleError, match="is not an amount"):
            parse_memory(wrong)
