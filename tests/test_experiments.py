"""Every figure in its smallest form, as a user calls it; the analyses on numbers made up."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import report_store

from nstyle import images
from nstyle.feedforward import models
from nstyle.feedforward.network import Architecture, initial_params

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FIGURES = sorted(path.stem for path in (EXPERIMENTS / "configs" / "figure").glob("*.yaml"))

EXTRA_FILES = {
    "init": {"distances.csv", "ends.csv"},
    "rounds": {"rounds.csv", "rounds.png"},
}
CELLS = {"figure1": 10, "figure2": 3, "figure3": 20, "init": 8, "rounds": 4}
CELLS |= {"colour": 6, "strokes": 6}
#: A painting of half the size, turned, is to have 16 pixels.
OWN_SETTINGS = {"rounds": ["steps=40"], "strokes": ["size=64"]}


def figure(name, folder, pictures, *settings):
    command = [
        sys.executable,
        EXPERIMENTS / "figure.py",
        f"figure={name}",
        f"content={pictures / 'content.png'}",
        f"style={pictures / 'style.png'}",
        "size=32",
        "steps=2",
        "seeds=2",
        "cell=40",
        f"out={folder}",
        *settings,
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_figure(name, tmp_path, pictures):
    done = figure(name, tmp_path, pictures, *OWN_SETTINGS.get(name, []))
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "losses.csv")
    assert len(table) == CELLS[name]
    assert np.isfinite(table.loss).all()
    assert images.load(tmp_path / "sheet.png").std() > 0.05
    assert {path.name for path in tmp_path.glob("*.*")} >= EXTRA_FILES.get(name, set())
    if name == "figure2":
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.png")}
        assert figure(name, tmp_path, pictures).returncode == 0
        assert before == {path: path.stat().st_mtime_ns for path in before}, "runs were made again"


def test_a_wrong_figure_is_one_line(tmp_path, pictures):
    done = figure("figure2", tmp_path, pictures, "+settings.pooling=mean")
    assert done.returncode != 0
    assert "pooling: unknown value 'mean'" in done.stderr.splitlines()[-1]


def test_a_finding_is_by_pair_at_an_equal_distance(tmp_path):
    axes = {
        "pair": [str(i) for i in range(6)],
        "pooling": ["avg", "max"],
        "style_weight": ["3", "10", "30"],
    }
    sweep = report_store.make_sweep(tmp_path, axes, scores=report_store.by_pair, left=True)
    command = [sys.executable, EXPERIMENTS / "finding.py", sweep, "pooling", "--out", tmp_path]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    gram = next(line for line in told if line.startswith("| `max`, Gram"))
    difference, pairs = gram.split("|")[2:4]
    assert -0.07 < float(difference.split()[0]) < -0.03
    assert pairs == " 6 of 6 pairs "
    assert len(pd.read_csv(tmp_path / "pooling.csv")) == 36
    assert images.load(tmp_path / "pooling.jpg").std() > 0.05


@pytest.mark.slow
def test_larger_pictures(tmp_path, pictures):
    architecture = Architecture(width=2, blocks=1, upscale=4)
    params = initial_params(architecture, jax.random.key(0))
    models.write(
        tmp_path / models.FILE,
        models.Model(architecture, jax.tree.map(np.asarray, params), {"styles": []}),
    )
    command = [
        sys.executable,
        EXPERIMENTS / "superresolution.py",
        tmp_path,
        f"out={tmp_path}/a.png",
    ]
    command.append(pictures / "content.png")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[1] for row in rows] == ["bicubic", "back-projected", "network"]
    assert rows[1][2:] == rows[2][2:] != rows[0][2:], "an untrained network adds nothing"
    assert images.load(tmp_path / "a.png").std() > 0.05
