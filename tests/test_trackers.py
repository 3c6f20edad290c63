"""Trackers, each offline: what is read back of a run is its trace, scores and settings."""

import json
import os
import struct
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import press_ctrl_c, values_in

from nstyle.config import compose, record, run_settings, to_yaml
from nstyle.runs.tracking import Tracking
from nstyle.trackers import Followed, Log, NoTracker, Tracker

QUICK = ["size=48", "steps=6", "pyramid.levels=1", "tolerance=0", "save_every=3"]


class Kept:
    """What a tracker has of a run."""

    def __init__(self):
        self.numbers, self.settings, self.pictures = {}, {}, 0


def from_tensorboard(folder):
    found = defaultdict(Kept)
    for file in sorted(folder.glob("runs/*/tensorboard/*")):
        own = found[file.parents[1].name]
        for step, value in values_in(file):
            if value.HasField("simple_value"):
                own.numbers[value.tag, step] = value.simple_value
            own.pictures += value.HasField("image")
            if value.tag.startswith("settings"):
                rows = value.tensor.string_val[0].decode().splitlines()[2:]
                own.settings = dict(row.strip("| ").split(" | ") for row in rows)
    return found


def records_of(content):
    """Yields what a log of LevelDB's format holds, after the 7 bytes of W&B's own head."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        if place % 32768 > 32768 - 7:  # no head begins so near the end of a block
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a record in one part, or the last of its parts
            yield whole
            whole = b""


def from_wandb(folder):
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # until then its own process writes, and goes on in the folder of before
    found = defaultdict(Kept)
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in records_of(file.read_bytes()):
            entry = Record.FromString(data)
            if entry.HasField("run"):
                own = found[entry.run.display_name]
                own.settings |= {item.key: item.value_json for item in entry.run.config.update}
            for item in entry.history.item:
                name, value = "/".join(item.nested_key) or item.key, json.loads(item.value_json)
                if isinstance(value, float | int):
                    own.numbers[name, entry.history.step.num] = value
                own.pictures += name == "picture/path"
    for own in found.values():
        own.settings = {name: json.loads(value) for name, value in own.settings.items()}
    return found


def from_mlflow(folder):
    import mlflow

    client = mlflow.MlflowClient()
    (experiment,) = [own for own in client.search_experiments() if own.name == "trial"]
    found = defaultdict(Kept)
    for run in client.search_runs([experiment.experiment_id]):
        own = found[run.info.run_name]
        for name in run.data.metrics:
            for metric in client.get_metric_history(run.info.run_id, name):
                own.numbers[name, metric.step] = metric.value
        own.settings = run.data.params
        files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
        own.pictures = len([file for file in files if file.endswith(".png")])
    return found


def from_trackio(folder):
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found = defaultdict(Kept)
    for run in trackio.Api().runs("trial"):
        own = found[run.name]
        for row in SQLiteStorage.get_logs("trial", run.name):
            numbers = {name: value for name, value in row.items() if isinstance(value, float | int)}
            own.numbers |= {(name, row["step"]): value for name, value in numbers.items()}
            own.pictures += "picture" in row
        own.settings = run.config
    return found


READ = {
    "tensorboard": from_tensorboard,
    "wandb": from_wandb,
    "mlflow": from_mlflow,
    "trackio": from_trackio,
}


def chosen(name):
    """Returns the settings of a tracker; those of none that is not installed."""
    if name == "trackio":  # not among what the tests install: it refuses the Pillow they ran with
        pytest.importorskip("trackio")
    return [f"tracker={name}", *([] if name == "tensorboard" else ["tracker.project=trial"])]


def has_trace(kept, folder):
    """Asserts that a tracker has every number of a run's trace."""
    trace = pd.read_csv(folder / "trace.csv")
    for column in trace.columns.drop("step"):
        for step, value in zip(trace["step"], trace[column], strict=True):
            assert kept.numbers[column, step] == pytest.approx(value, rel=1e-6)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No service is asked, and nothing is written outside of the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for module in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, module)  # it asks for its folder once
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the trackers' packages
@pytest.mark.parametrize("way", ["while it is made", "afterwards"])
@pytest.mark.parametrize("name", READ)
def test_a_tracker_has_the_run(name, way, nstyle_here, given, offline):
    own = chosen(name)
    if way == "afterwards":
        odd = os.fsdecode(b"c\xe9.png")  # not UTF-8
        (offline / odd).write_bytes(Path(given[0].partition("=")[2]).read_bytes())
        assert nstyle_here(f"content={odd}", given[1], *QUICK)[0] == 0
        (result,) = offline.glob("runs/*/result.json")
        for _ in range(2):  # the second takes the place of the first
            status, told, _ = nstyle_here("export", str(result.parent), *own)
            assert (status, told) == (0, f"1 runs to {name}\n")
    else:
        status, told, error = nstyle_here(*given, *QUICK, *own)
        assert status == 0 and len(told.splitlines()) == 1 and "note" not in error
        (result,) = offline.glob("runs/*/result.json")
    (kept,) = READ[name](offline).values()
    has_trace(kept, result.parent)
    for score, value in json.loads(result.with_name("scores.json").read_text())["scores"].items():
        found = [kept.numbers[key] for key in kept.numbers if key[0] == f"score/{score}"]
        assert found == ([] if value is None else [pytest.approx(value, rel=1e-6)])
    assert str(kept.settings["style_weight"]) == "10.0"
    assert str(kept.settings["pyramid.levels"]) == "1"
    assert kept.settings["pooling"] == "avg"
    expected = {"while it is made": 7, "afterwards": 2}[way]
    if name == "wandb" and way == "afterwards":  # both, until one is synced over the other
        expected *= 2
    assert kept.pictures == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_runs_made_together_go_on_in_logs_of_their_own(
    name, nstyle_here, given, offline, monkeypatch
):
    own = chosen(name)
    command = ["-m", *given, *QUICK, "scores=false", "seed=0,1", "init=noise", "batch=2", *own]
    with monkeypatch.context() as patched:
        press_ctrl_c(patched)
        assert nstyle_here(*command)[0] == 130
    assert nstyle_here(*command)[0] == 0
    kept = READ[name](offline)
    folders = {result.parent.name: result.parent for result in offline.glob("runs/*/result.json")}
    assert kept.keys() == folders.keys() and len(folders) == 2
    for run, folder in folders.items():
        has_trace(kept[run], folder)
        assert kept[run].pictures == 7


def test_a_tracker_that_fails_ends_its_log_and_not_the_run(capsys, tmp_path):
    closed = []

    @dataclass(frozen=True)
    class Failing(Tracker):
        def open(self, run):
            class Once(Log):
                def add(self, step, numbers, picture=None):
                    raise OSError("no space left")

                def close(self, is_whole):
                    closed.append(is_whole)

            return Once()

    row = {"step": 3, "loss": 1.0}
    with Tracking(Failing()) as tracking:
        tracking.begin(Followed("a-1", "1", tmp_path, {}), 10)
        tracking.add(row, lambda: np.zeros((2, 2, 3)))
        tracking.add(row)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "nstyle: note: tracker=Failing: no space left; it is followed no further"
    assert closed == [False]


def test_what_cannot_be_had_is_one_line_before_the_run(nstyle_here, given, tmp_path, monkeypatch):
    """What a finished run has stays; the same command without it takes it as it is."""
    quick = [*given, *QUICK, "scores=false"]
    assert nstyle_here(*quick)[0] == 0
    (result,) = tmp_path.glob("runs/*/result.json")
    before = result.read_bytes()
    monkeypatch.setitem(sys.modules, "wandb", None)
    status, _, error = nstyle_here(*quick, "bits=16", "tracker=wandb")
    assert (status, result.read_bytes()) == (2, before)
    assert error.splitlines()[-1] == (
        "nstyle: tracker=wandb: the package wandb is missing; pip install 'nstyle[wandb]'"
    )
    status, _, error = nstyle_here(*given, *QUICK, "tracker=wandbb")
    assert status == 2 and "did you mean 'wandb'" in error
    _, told, error = nstyle_here(*quick, "tracker=tensorboard")
    assert "made before" in told and f"nstyle export {result.parent.relative_to(tmp_path)}" in error
    status, _, error = nstyle_here("-m", *quick, "bits=8,16")
    assert (status, "bits: it decides no result" in error) == (2, True)
    status, _, error = nstyle_here("export", "runs")
    assert (status, error) == (
        2,
        "nstyle export: tracker: none is given; add tracker=wandb, for example\n",
    )


def test_settings_of_a_run_of_before_are_read(tmp_path):
    known = yaml.safe_load(to_yaml(compose(seed=7)))
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({name: known[name] for name in known if name not in ("bits", "tracker")})
    )
    config = run_settings(tmp_path / "config.yaml")
    assert (config.seed, config.bits, record(config, Tracker)) == (7, 8, NoTracker())
