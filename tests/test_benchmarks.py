"""The parts of the benchmarks that are not timings; one of them as a user calls it."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstyle.config import compose_training
from nstyle.feedforward.train import train

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_a_curve_keeps_the_lowest_loss_and_ends_at_a_limit(benchmark):
    common = benchmark("common")
    curve = common.Curve(evaluations=4)
    for loss in (3.0, 5.0, 2.0):
        curve.add(loss)
    with pytest.raises(common.LimitReachedError):
        curve.add(2.5)
    assert [sample[1:] for sample in curve.samples] == [(1, 3.0), (2, 3.0), (3, 2.0), (4, 2.0)]
    assert curve.end().evaluations == 3
    for limit, last in (({"target": 1.0}, 1.0), ({"seconds": 0.0}, 9.0), ({}, math.nan)):
        with pytest.raises(common.LimitReachedError):
            common.Curve(**limit).add(last)


def test_scipys_solver_gets_exactly_its_evaluations(benchmark):
    common = benchmark("common")
    seen = []

    def rosenbrock(image, problem):
        x, y = image[..., 0], image[..., 1]
        loss = jnp.sum((problem - x) ** 2 + 100.0 * (y - x**2) ** 2)
        return loss, None

    def value_and_grad(image, problem):
        found = jax.value_and_grad(rosenbrock, has_aux=True)(image, problem)
        seen.append(float(found[0][0]))
        return found

    start = np.zeros((2, 2, 3), np.float32)
    curve = common.Curve(evaluations=20)
    common.scipy_lbfgs(value_and_grad, start, 1.0, curve)
    assert len(seen) == 20
    assert [sample.loss for sample in curve.samples] == list(np.minimum.accumulate(seen))
    assert curve.end().loss < 0.1 * seen[0]


def test_startup_reads_a_trace_that_is_being_written(benchmark, tmp_path):
    sizes = benchmark("startup").sizes_of_steps
    assert sizes(tmp_path) == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trace.csv").write_text("step,size,tv/raw\n0,32,0.5\n1,32,0.4\n2,6")
    assert sizes(tmp_path) == [32, 32]


def test_without_pytorch_a_line_says_what_to_install(benchmark, monkeypatch, capsys):
    common = benchmark("common")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        common.needs_torch()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "needs torch: pip install 'nstyle[torch]'\n"


@pytest.mark.slow
def test_limit_as_a_command(tmp_path, pictures):
    command = [
        *(sys.executable, BENCHMARKS / "limit.py", "--sizes", "32", "--matrix", "64"),
        *("--rounds", "1", "--json", tmp_path / "limit.json"),
        *("--content", pictures / "content.png", "--style", pictures / "style.png"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "limit.json").read_text())
    (row,) = found["rows"]
    assert row["size"] == 32
    assert row["share"] > 0
    assert "device" in found["environment"]


@pytest.mark.slow
def test_a_network_beside_the_optimisation(tmp_path, pictures):
    """A network that has learnt nothing is reached by the first steps of the optimisation."""
    arguments = [f"style={pictures}/style.png", f"out={tmp_path}", "size=32", "steps=1"]
    train(*compose_training([*arguments, "batch_size=1", "width=4", "blocks=1"]))
    command = [
        *(sys.executable, BENCHMARKS / "feedforward.py", tmp_path, pictures / "content.png"),
        *("--style", pictures / "style.png", "--steps", "6", "--json", tmp_path / "table.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "table.json").read_text())["pictures"].values()
    assert row["ratio"] == row["network"] / min(row["lbfgs"].values()) > 1
    assert row["lbfgs"]["photograph"] < row["photograph"]
