"""The same sweep through every launcher gives the same bytes; a search finds a front."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from conftest import command
from joblib import Parallel
from joblib.externals.loky.process_executor import TerminatedWorkerError

SWEEP = ["-m", "size=32", "steps=3", "init=noise", "pooling=avg,max", "seed=0,1"]
LAUNCHERS = ("processes", "ray_local", "submitit_processes")
NOT_OF_THE_RESULT = ["seconds", "compiles", "folder", "command"]


def swept(folder, given, *settings):
    """Runs the sweep in `folder`: its pictures by name, and its table."""
    folder.mkdir()
    process = command(*SWEEP, *given, *settings, folder=folder)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    (sweep,) = folder.glob("runs/sweeps/*")
    process = command(str(sweep), module="nstyle.report", folder=folder)
    assert process.communicate(timeout=120) and process.returncode == 0
    table = pd.read_csv(sweep / "table.csv").drop(columns=NOT_OF_THE_RESULT)
    pictures = {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/result.png")}
    return pictures, table


@pytest.fixture(scope="module")
def basic(tmp_path_factory, given_once):
    return swept(tmp_path_factory.mktemp("basic") / "runs", given_once, "threads=1")


@pytest.fixture(scope="module")
def given_once(pictures):
    return [f"content={pictures / 'content.png'}", f"style={pictures / 'style.png'}"]


@pytest.mark.slow  # a process or a cluster starts for each
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_same_pictures_and_table(launcher, basic, tmp_path, given_once):
    pictures, table = swept(tmp_path / "runs", given_once, f"hydra/launcher={launcher}")
    assert len(pictures) == 4
    for path in (tmp_path / "runs").glob("runs/*/result.json"):
        told = json.loads(path.read_text())["command"]
        assert "threads=1" in told.split(), "another number would give other bits"
        assert "launcher" not in told
    assert pictures == basic[0]
    pd.testing.assert_frame_equal(table, basic[1])


@pytest.mark.slow
def test_failed_runs_of_workers_are_told(given_once, tmp_path):
    """The runs are planned, but the workers cannot write their pictures."""
    arguments = [*SWEEP, *given_once, "hydra/launcher=processes", "scores=false"]
    process = command(*arguments, folder=tmp_path)
    process.communicate(timeout=300)
    assert process.returncode == 0
    for result in tmp_path.glob("runs/*/result.json"):
        shutil.rmtree(result.parent)
        result.parent.symlink_to("/proc/nowhere")
    process = command(*arguments, folder=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "Traceback" not in err
    assert "4 of 4 runs failed, first: cannot write" in err.splitlines()[-1]


def test_a_worker_that_is_killed_is_one_line(nstyle_here, given, monkeypatch):
    """What joblib raises then, in its own class: Hydra loads its launchers anew."""

    def killed(*_, **__):
        raise TerminatedWorkerError("A worker process was killed\nby the system")

    monkeypatch.setattr(Parallel, "__call__", killed)
    status, _, err = nstyle_here("-m", *given, "hydra/launcher=processes", "size=32", "seed=0,1")
    assert status == 2
    assert err.splitlines()[-1] == (
        "nstyle: hydra/launcher: a worker ended (TerminatedWorkerError: A worker process was killed"
        " by the system); 0 of 2 runs done; the same command goes on"
    )


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "ray_cluster", "slurm"])
def test_every_launcher_composes(launcher, nstyle_here):
    status, out, err = nstyle_here(f"hydra/launcher={launcher}", "--cfg", "hydra")
    assert status == 0, err
    target = yaml.safe_load(out)["hydra"]["launcher"]["_target_"]
    assert target.startswith("hydra_plugins.hydra_")


@pytest.mark.slow
def test_a_search_writes_its_front(given_once, tmp_path):
    search = ["hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.population_size=2"]
    arguments = ["-m", "experiment=search-weights", *search, *given_once, "size=48", "steps=3"]
    process = command(*arguments, folder=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (found,) = tmp_path.glob("runs/searches/*/optimization_results.yaml")
    front = yaml.safe_load(found.read_text())["solutions"]
    scores = [
        json.loads(path.read_text())["scores"] for path in tmp_path.glob("runs/*/scores.json")
    ]
    assert len(scores) == 4
    pairs = {(score["lpips_content"], score["style_gram"]) for score in scores}
    assert {tuple(solution["values"]) for solution in front} <= pairs
