"""The run store: what is on disk is whole, known by its contents, and one process's at a time."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock, Timeout

from nstyle.config import compose, identifying
from nstyle.errors import NstyleError
from nstyle.runs import store, stored
from nstyle.runs.finished import folder_of
from nstyle.runs.planning import plan
from nstyle.solvers import LBFGS, Adam, Stopping, blank_state, minimize


def quadratic(image, scale):
    return scale * jnp.sum((image - 0.3) ** 2), {"conv1_1": jnp.sum(image)}


@pytest.mark.parametrize("method", [LBFGS(history_size=3), Adam()], ids=["lbfgs", "adam"])
def test_a_checkpoint_gives_back_every_bit(method, tmp_path):
    arguments = (quadratic, jnp.zeros((4, 5, 3)), 2.0, method, Stopping(3))
    for item in minimize(*arguments):
        state = jax.device_get(item.state())
    rows = [{"step": 0, "loss": 0.1 + 0.2}]
    state = state._replace(stage=2, first=7)
    store.Checkpoint(state, rows, 1.5).write(tmp_path / "checkpoint")
    blanks = {2: blank_state(*arguments)}
    found = store.Checkpoint.read(tmp_path / "checkpoint", blanks.get)
    assert (found.rows, found.seconds) == (rows, 1.5)
    assert jax.tree.structure(found.state) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found.state, state)
    assert store.Checkpoint.read(tmp_path / "none", blanks.get) is None


def test_a_trace_goes_on_after_its_rows(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("left by a killed process")
    with store.Trace(path, [{"step": 0, "loss": 1 / 3}]) as trace:
        trace.append({"step": 1, "loss": 0.25})
        table = pd.read_csv(path)  # on disk before the trace is closed
    assert list(table.step) == [0, 1]
    assert list(table.loss) == [1 / 3, 0.25]


def test_an_unfinished_run_is_not_taken_for_a_finished_one(tmp_path):
    assert store.finished(tmp_path) is None
    stored.write_json(tmp_path / "result.json", "result", {"stop": "interrupted"})
    assert store.finished(tmp_path) is None
    stored.write_json(tmp_path / "result.json", "result", {"stop": "steps"})
    assert store.finished(tmp_path) == {"stop": "steps"}


def test_one_process_at_a_time_and_no_half_written_files(tmp_path):
    folder = tmp_path / "a-b-0123"
    folder.mkdir()
    (folder / ".result.png-x1").touch()
    other = FileLock(tmp_path / ".locks" / "0123")
    with store.locked(folder, "busy"):
        assert not list(folder.iterdir())
        with pytest.raises(Timeout):
            other.acquire(blocking=False)
    other.acquire(blocking=False)
    other.release()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NstyleError, match="cannot write"), store.locked(tmp_path / "file/a-1", ""):
        pass


@pytest.fixture
def small(pictures):
    names = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    return {"size": 32, "style_size": 32, "steps": 1, **names}


def test_a_run_is_known_by_what_decides_it(small, tmp_path, monkeypatch):
    """Names, paths and where results go change nothing; numbers, pictures and code do."""

    def identity(**settings):
        config = compose(**(small | settings))
        return store.run_id(identifying(config), plan(config).digests)

    copy = tmp_path / "other name.png"
    copy.write_bytes(Path(small["content"]).read_bytes())
    same = [
        {"content": str(copy)},
        {"runs_dir": "elsewhere", "save_every": 3, "scores": False, "threads": None},
        {"experiment": "pooling", "init": "content", "pyramid.levels": 12},
        {"batch": 4},
    ]
    assert {identity(**settings) for settings in same} == {identity()}
    other = [
        {"content": small["style"], "style_size": 32},
        {"style_weight": 2e5},
        {"pooling": "max"},
        {"init": "noise"},
        {"init": "noise", "seed": 1},
        {"init": str(copy)},
        {"steps": 2},
        {"solver": "adam"},
    ]
    identities = [identity(), *(identity(**settings) for settings in other)]
    monkeypatch.setattr(store, "code_version", lambda: "edited")
    identities.append(identity())
    assert len(set(identities)) == len(identities)


def test_a_renamed_picture_finds_its_run(small, tmp_path):
    config = compose(**small, runs_dir=str(tmp_path))
    folder = folder_of(config, plan(config))
    assert folder.name.startswith("content-style-")
    folder.mkdir()
    copy = tmp_path / "renamed.png"
    copy.write_bytes(Path(small["content"]).read_bytes())
    renamed = compose(**(small | {"content": str(copy)}), runs_dir=str(tmp_path))
    assert folder_of(renamed, plan(renamed)) == folder
