"""Poolings, losses, solvers and scores as a user adds them: a Python file and a YAML file each."""

import importlib
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

import nstyle
from nstyle.config import compose
from nstyle.errors import NstyleError
from nstyle.runs.session import perform

EXTENSIONS = Path(__file__).parent / "extensions"
SMALL = ("size=32", "style_size=32", "steps=2", "pyramid.levels=1", "seed=0,1", "init=noise")
LAYERS = ("content_layers=[conv2_2]", "style_layers=[conv1_1,conv2_1]")


@pytest.fixture
def here(nstyle_here, given):
    """Runs a command with the folder of extensions, and returns what it says."""

    def run(*arguments, fine=True):
        flags, settings = ["-m"] * ("-m" in arguments), [a for a in arguments if a != "-m"]
        status, out, err = nstyle_here(
            *flags, "--config-dir", str(EXTENSIONS), *given, *SMALL[:4], *LAYERS, *settings
        )
        assert (status == 0) == fine, err
        return out + err

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        "pooling=avg,smear",
        "style_loss=gram,centred",
        "style_loss=gram,angle",
        "solver=lbfgs,lion",
        "score=[standard,edges]",
    ],
)
def test_an_addition_sweeps_and_stands_in_the_report(setting, here, nstyle_here, tmp_path):
    key, _, values = setting.partition("=")
    last = ["style_weight=1,10"] if key == "score" else []
    here("-m", setting, *SMALL[4:], *last)
    (sweep,) = tmp_path.glob("runs/sweeps/*")
    nstyle_here("report", str(sweep))
    table = pd.read_csv(sweep / "table.csv")
    assert len(table) == 4
    if key == "score":
        assert table["edges"].between(-1, 1).all()
        assert "edges in place" in (sweep / "index.html").read_text()
        return
    own = table[table[key] == values.rpartition(",")[2]]
    other = table[table[key] != values.rpartition(",")[2]]
    assert len(own) == 2 and not set(own["lpips_content"]) & set(other["lpips_content"])
    assert "there already" in here("-m", setting, *SMALL[4:])


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("pooling=smear", "pooling: smear may read beyond its windows"),
        ("style_loss=angle", "style_loss: angle compares positions of the whole picture"),
    ],
)
def test_tiles_refuse_what_has_no_rule_for_them(setting, line, here):
    found = here(setting, "tile=16", "scores=false", fine=False)
    assert line in found and found.count("\n") == 1


@pytest.mark.slow
def test_tiles_take_a_loss_of_moments(here, tmp_path):
    here("style_loss=centred", "scores=false")
    here("style_loss=centred", "scores=false", "tile=16")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/result.json")]
    first, second = (result["best"]["loss"] for result in results)
    assert first == pytest.approx(second, rel=1e-4)


BROKEN = """\
from dataclasses import dataclass
import jax.numpy as jnp
from nstyle.losses import StyleLoss
from nstyle.networks import Pooling

@dataclass(frozen=True)
class Vector(StyleLoss):
    def statistic(self, features):
        return features.mean(axis=(0, 1))
    def compare(self, found, target, pixels):
        return jnp.square(found - target)

@dataclass(frozen=True)
class Endless(StyleLoss):
    def statistic(self, features):
        return features.mean(axis=(0, 1))
    def compare(self, found, target, pixels):
        return jnp.sum(jnp.sqrt(jnp.square(found - target)))

@dataclass(frozen=True)
class Listed(StyleLoss):
    weights: list = None
    def __hash__(self):
        return hash(self.weights)

@dataclass(frozen=True)
class Whole(Pooling):
    def reduced(self, x, edge):
        return x

class Other:
    pass
"""


@pytest.mark.parametrize(
    ("group", "target", "line"),
    [
        ("style_loss", "broken.Vector", "Vector breaks its contract: "),
        ("style_loss", "broken.Endless", "Endless breaks its contract: its gradient is not finite"),
        (
            "style_loss",
            "broken.Listed\nweights: [1]",
            "Listed breaks its contract: unhashable type",
        ),
        ("style_loss", "broken.Other", "_target_ broken.Other is not a StyleLoss"),
        ("style_loss", "broken.Absent", "_target_ broken.Absent cannot be imported"),
        ("style_loss", "broken.Vector\nwidth: 3", "Vector has no option 'width' (it has none)"),
        ("pooling", "broken.Whole", "Whole breaks its contract: it makes (6, 9, 4) of (6, 9, 4)"),
    ],
)
def test_what_breaks_its_contract_is_refused_in_one_line(
    group, target, line, nstyle_here, given, tmp_path
):
    (tmp_path / "own" / group).mkdir(parents=True)
    (tmp_path / "own" / "broken.py").write_text(BROKEN)
    (tmp_path / "own" / group / "mine.yaml").write_text(f"_target_: {target}\n")
    status, _, err = nstyle_here("--config-dir", "own", *given, "size=32", f"{group}=mine")
    assert status == 2 and line in err and err.count("\n") == 1


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_no_setting_names_a_class(prefix, nstyle_here, given):
    status, _, err = nstyle_here(*given, f"{prefix}style_loss._target_=os.system")
    assert status == 2 and "unknown setting 'style_loss._target_'" in err


@pytest.mark.slow
def test_a_changed_source_makes_the_run_again(here, nstyle_here, given, tmp_path):
    (tmp_path / "own" / "style_loss").mkdir(parents=True)
    source = tmp_path / "own" / "changing.py"
    text = (EXTENSIONS / "angle.py").read_text()
    (tmp_path / "own/style_loss/mine.yaml").write_text("_target_: changing.Angle\n")
    command = ["--config-dir", "own", *given, *SMALL[:4], *LAYERS, "style_loss=mine"]
    told = []
    for own in (text, text.replace("Returns half", "Gives half"), text.replace("0.5 *", "0.7 *")):
        source.write_text(own)
        sys.modules.pop("changing", None)
        importlib.invalidate_caches()
        told.append(nstyle_here(*command, "scores=false")[1])
    assert ["made before" in line for line in told] == [False, True, False]


def test_python_takes_the_objects_themselves(pictures, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXTENSIONS)
    monkeypatch.chdir(tmp_path)
    from angle import Angle
    from lion import Lion
    from smear import Smear

    small = {
        "size": 32,
        "style_size": 32,
        "steps": 2,
        "pyramid.levels": 1,
        "content_layers": ["conv2_2"],
        "style_layers": ["conv1_1"],
    }
    own = {"style_loss": Angle(), "pooling": Smear(), "solver": Lion(0.02)}
    pair = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    made = nstyle.stylize(**pair, **small, **own)
    other = nstyle.stylize(**pair, **small, **own | {"solver": Lion(0.03)})
    assert made.loss != other.loss
    for reused in (False, True):
        performed = perform(compose(**pair, **small, **own, scores=False))
        assert performed.reused == reused
        assert performed.best["loss"] == pytest.approx(made.loss)
    assert "name: angle" in (performed.folder / "config.yaml").read_text()
    with pytest.raises(NstyleError, match=r"pooling: Angle\(\) is not a Pooling"):
        compose(pooling=Angle())
    with pytest.raises(NstyleError, match="setting that takes an object: unknown value 'size'"):
        compose(size=Angle())
