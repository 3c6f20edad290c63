"""Sweeps as a user launches them: planned as a whole, one compile, resumed, and the same bytes."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import command, replaced
from hydra.core.plugins import Plugins

from nstyle.config import config_dir
from nstyle.runs import job
from nstyle.runs.store import finished as finished_run
from nstyle.solvers.compiled import compiled

SMALL = ["size=32", "steps=2", "style_size=32", "scores=false"]
EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
EXPERIMENTS.remove("search-weights")  # asks for results between its runs


def results(folder):
    """The results of a sweep's runs, by their settings."""
    (sweep,) = folder.glob("runs/sweeps/*/sweep.json")
    manifest = json.loads(sweep.read_text())
    return {
        tuple(run["settings"].values()): json.loads(
            (sweep.parent / run["folder"] / "result.json").read_text()
        )
        for run in manifest["runs"]
    }


def finished(process):
    """Waits for a command to end and returns its status."""
    process.communicate(timeout=300)
    return process.returncode


def pictures_of(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/result.png")}


@pytest.mark.parametrize(
    ("chosen", "sweeper"),
    [
        ((), "StoreSweeper"),
        (("experiment=pooling",), "StoreSweeper"),
        (("hydra/sweeper=optuna", "hydra/sweeper/sampler=random"), "CheckedSearch"),
        (("experiment=search-weights",), "CheckedSearch"),
    ],
)
def test_a_config_group_chooses_the_sweeper(nstyle_here, chosen, sweeper):
    for _ in range(2):
        status, out, err = nstyle_here(*chosen, "--cfg", "hydra")
        assert (status, err) == (0, "")
        found = yaml.safe_load(out)["hydra"]["sweeper"]
        assert found["_target_"] == f"hydra_plugins._nstyle.{sweeper}"
    known = Plugins.instance().class_name_to_class
    assert all(name == f"{own.__module__}.{own.__name__}" for name, own in known.items())


def test_other_programs_with_hydra_do_not_load_ours():
    look = "import sys; from hydra.core.plugins import Plugins; Plugins.instance()"
    there = f"{look}; sys.exit('nstyle' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", there], check=False).returncode == 0


def test_python_composes_again_and_again():
    """Hydra keeps its plugins, and a program its own schema."""
    lines = [
        "from hydra.core.config_store import ConfigStore",
        "from nstyle.config import compose",
        "ConfigStore.instance().store('schema', {'own': 1})",
        "compose(), compose(recipe='gatys2016', seed=1)",
        "assert ConfigStore.instance().load('schema.yaml').node == {'own': 1}",
    ]
    assert subprocess.run([sys.executable, "-c", "; ".join(lines)], check=False).returncode == 0


@pytest.mark.slow
def test_one_compile_for_each_structure_and_nothing_twice(nstyle_here, given, tmp_path):
    small = replaced(SMALL, "size=40")
    sweep = ["-m", *given, *small, "pooling=avg,max", "style_weight=1e3,1e4", "seed=0,1"]
    for cached in (job._content_target, job._style_target, compiled):
        cached.cache_clear()
    status, out, err = nstyle_here(*sweep, "init=noise")
    assert (status, len(out.splitlines())) == (0, 9), err
    found = results(tmp_path)
    assert list(found)[:3] == [("avg", "1000", "0"), ("avg", "1000", "1"), ("avg", "10000", "0")]
    assert sum(result["compiles"] for result in found.values()) == 2
    for cached in (job._content_target, job._style_target):
        assert cached.cache_info().misses == 2, "targets are computed once for each pooling"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*-*/*")}
    assert len(before) == 8 * 4
    status, out, err = nstyle_here(*sweep, "init=noise")
    assert (status, len(out.splitlines())) == (0, 1)
    assert "8 runs, 8 of them there already" in err
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_the_command_of_a_run_makes_it_again(nstyle_here, given, tmp_path):
    import shlex

    assert nstyle_here("-m", *given, *SMALL, "style_layers=[conv1_1],[conv2_1]")[0] == 0
    found = results(tmp_path)
    assert list(found) == [("[conv1_1]",), ("[conv2_1]",)]
    before = pictures_of(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "before")
    for result in found.values():
        assert nstyle_here(*shlex.split(result["command"])[1:])[0] == 0
    assert pictures_of(tmp_path) == before


@pytest.mark.slow
def test_a_run_is_the_same_alone_and_in_a_sweep(nstyle_here, given, tmp_path):
    sets = ["[conv1_1]", "[conv1_1,conv2_1]"]
    sweep = ["-m", *given, *SMALL, f"style_layers={','.join(sets)}"]
    assert nstyle_here(*given, *SMALL, f"style_layers={sets[1]}")[0] == 0
    (alone,) = tmp_path.glob("runs/*-*")
    before = {path: path.stat().st_mtime_ns for path in alone.iterdir()}
    status, out, err = nstyle_here(*sweep)
    assert (status, len(out.splitlines())) == (0, 2)
    assert "2 runs, 1 of them there already" in err
    assert before == {path: path.stat().st_mtime_ns for path in alone.iterdir()}
    found = results(tmp_path)
    for layers in sets:
        result = found[layers,]
        assert f"[{','.join(result['config']['style_layers'])}]" == layers
        assert result["config"]["style_layer_weights"] is None
        assert f"style_layers={layers}" in result["command"]
        status, out, _ = nstyle_here(*given, *SMALL, f"style_layers={layers}")
        assert status == 0 and "(made before)" in out
    assert results(tmp_path) == found


def test_a_run_that_is_not_possible_stops_the_sweep_before_it_starts(nstyle_here, given, tmp_path):
    for wrong, word in (
        (["padding=zeros,mean"], "run 2 of 2 (mean)"),
        (["style_layers=[conv1_1],[conv_2]"], "conv_2"),
        (["size=32,8"], "too few"),
        (["threads=1,2"], "threads"),
        (["seed=0,-1"], "seed"),
        (["style_weight=interval(1,2)"], "list values"),
        (["experiment=poolings"], "did you mean 'pooling'"),
        (["experiment=pooling,init"], "one experiment at a time"),
        (["hydra/launcher=proceses"], "did you mean 'processes'? (allowed: basic, "),
        (["launcher=processes"], "did you mean 'hydra/launcher'?"),
    ):
        status, out, err = nstyle_here("-m", *given, *replaced(SMALL, *wrong))
        assert (status, out, len(err.splitlines())) == (2, "", 1), err
        assert word in err
    assert not list(tmp_path.glob("runs/*-*"))


def test_failed_runs_are_told_and_the_others_made(nstyle_here, given, tmp_path, monkeypatch):
    from nstyle.errors import NstyleError
    from nstyle.runs import recording

    whole = recording.build

    def failing(planned):
        if planned.structure.pooling.name == "avg":
            raise NstyleError("no luck")
        return whole(planned)

    monkeypatch.setattr(recording, "build", failing)
    status, _, err = nstyle_here("-m", *given, *SMALL, "pooling=avg,max")
    assert status == 2
    assert err.splitlines()[-1] == "nstyle: 1 of 2 runs failed, first: no luck"
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_plans(nstyle_here, given, name, launched):
    weights = ["network=vgg16", "weights=lpips"] if name == "network" else []
    small = ["size=48", *SMALL[1:]]  # AlexNet sees no picture of 32 x 24 pixels
    status, _, err = nstyle_here("-m", f"experiment={name}", *given, *small, *weights)
    assert status == 0, err
    assert len(launched) >= (1 if name == "network" else 4)


@pytest.mark.parametrize(
    ("listed", "values"),
    [
        ("style_loss=glob(*gram)", ["cross_layer_gram", "gram", "histogram"]),
        (
            "style_loss=glob(*,exclude=[n*,m*,r*,s*,h*,w*])",
            ["covariance", "cross_layer_gram", "gram"],
        ),
        ("seed=range(2,8,3)", ["2", "5"]),
        ("seed=choice(4,2)", ["4", "2"]),
        ("pooling=sort(max,avg)", ["avg", "max"]),
    ],
)
def test_hydras_ways_to_list_values(nstyle_here, given, launched, listed, values):
    status, _, error = nstyle_here("-m", *given, *SMALL, listed)
    assert status == 0, error
    key = listed.partition("=")[0]
    found = [setting for job in launched for setting in job if setting.startswith(f"{key}=")]
    assert found == [f"{key}={value}" for value in values]


@pytest.mark.slow
def test_the_command_line_goes_before_an_experiment(nstyle_here, given, launched):
    nstyle_here("-m", "experiment=pooling", "style_weight=7", *given, *SMALL)
    assert len(launched) == 6
    assert all("style_weight=7" in job for job in launched)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_a_killed_sweep_ends_with_the_same_bytes(given, tmp_path, batch):
    """kill -9 at random moments, then the same command: every picture is the uninterrupted one."""
    arguments = [
        "-m",
        *given,
        "size=32",
        "init=noise",
        "steps=150",
        "checkpoint_every=0.05",
        "seed=0,1",
        f"batch={batch}",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert finished(command(*arguments, folder=whole)) == 0

    def at_work():
        traces = killed.glob("runs/*/trace.csv")
        return any(path.stat().st_size and not finished_run(path.parent) for path in traces)

    moments = random.Random(5)
    kept = 0
    for _ in range(3):
        process = command(*arguments, folder=killed)
        deadline = time.monotonic() + 120
        while process.poll() is None and not at_work():
            assert time.monotonic() < deadline, "no run started"
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        finished(process)
        kept += len(list(killed.glob("runs/*/checkpoint")))
    assert kept, "no kill met a run after its first checkpoint"
    assert finished(command(*arguments, folder=killed)) == 0
    assert pictures_of(killed) == pictures_of(whole)
    assert not list(killed.glob("runs/*/.*-*")) + list(killed.glob("runs/*/checkpoint"))
    for path in whole.glob("runs/*/trace.csv"):
        assert path.read_bytes() == (killed / path.relative_to(whole)).read_bytes()


@pytest.mark.slow
def test_two_processes_on_one_store(given, tmp_path):
    arguments = ["-m", *given, "size=32", "steps=20", "init=noise", "seed=0,1,2"]
    both = [command(*arguments, folder=tmp_path) for _ in range(2)]
    assert [finished(process) for process in both] == [0, 0]
    found = results(tmp_path)
    assert {result["steps"] for result in found.values()} == {20}
    for folder in tmp_path.glob("runs/*-*"):
        trace = np.genfromtxt(folder / "trace.csv", delimiter=",", names=True)
        assert list(trace["step"]) == list(range(21))
    assert len(list(Path(tmp_path).glob("runs/*/result.png"))) == 3
