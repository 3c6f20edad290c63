"""Training a feed-forward network: its loss, its data, its folder, and going on after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compiled import evaluate
from conftest import command, replaced, values_in
from safetensors.numpy import load_file

from nstyle import images
from nstyle.config import compose_training
from nstyle.errors import NstyleError
from nstyle.feedforward import data, models, train
from nstyle.feedforward.apply import painted_picture
from nstyle.feedforward.network import Architecture, paint
from nstyle.feedforward.resolution import enlarged, reduced
from nstyle.feedforward.training import (
    Goal,
    Recipe,
    compile_step,
    initial_state,
    perceptual_loss,
    spread,
    stacked_styles,
)
from nstyle.networks import Maximum, network_features
from nstyle.objective import Problem, Targets
from nstyle.objective.problems import content_target, style_target
from nstyle.runs import store, stored
from nstyle.runs.inputs import network_of
from nstyle.runs.planning import loss_weights, structure_of
from nstyle.scores import fidelity

SMALL = [
    "size=16", "batch_size=2", "steps=5", "width=2", "blocks=1",
    "style_layers=[conv1_1]", "content_layers=[conv2_1]",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe_and_goal():
    _, losses = compose_training(["tv_weight=10", *SMALL])
    network = network_of(losses)
    structure = structure_of(losses, network.pixels)
    pictures = np.random.default_rng(3).random((2, 16, 16, 3)).astype(np.float32)
    styles = [style_target(structure, network.params, jnp.asarray(p)) for p in pictures]
    goal = Goal(network.params, stacked_styles(styles), loss_weights(losses, structure))
    return Recipe(structure, Architecture(2, 1, 2), 5), goal


def test_the_loss_is_the_mean_of_what_nstyle_minimises(recipe_and_goal, random):
    recipe, goal = recipe_and_goal
    structure = recipe.structure
    state = initial_state(recipe, 0)
    pictures = random.random((3, 16, 16, 3)).astype(np.float32)
    chosen = np.array([1, 0, 1])
    loss = jax.jit(perceptual_loss, static_argnums=0)
    value, terms = loss(recipe, state.params, goal, pictures, chosen)
    mixtures = np.eye(2, dtype=np.float32)[chosen]
    painted = jax.jit(paint, static_argnums=0)(
        recipe.architecture, state.params, pictures, mixtures
    )
    expected = []
    for image, picture, style in zip(painted, pictures, chosen, strict=True):
        content = content_target(structure, goal.params, jnp.asarray(picture))
        target = jax.tree.map(lambda leaf, style=style: leaf[style], goal.styles)
        problem = Problem(goal.params, Targets(content, target), goal.weights)
        expected.append(evaluate(structure, image, problem))
    np.testing.assert_allclose(value, np.mean([v for v, _ in expected]), rtol=1e-5)
    np.testing.assert_allclose(terms.tv, np.mean([t.tv for _, t in expected]), rtol=1e-5)


@pytest.mark.slow
def test_steps_lower_the_loss(recipe_and_goal, random):
    recipe, goal = recipe_and_goal
    pictures = random.random((2, 16, 16, 3)).astype(np.float32)
    state, step = initial_state(recipe, 0), compile_step(recipe)
    losses = []
    for _ in range(5):
        state, loss, _ = step(state, goal, pictures, np.array([0, 1], np.int32))
        losses.append(float(loss))
    assert int(state.step) == 5
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_half_precision_trains_parameters_of_float32(recipe_and_goal, random):
    """Losses are those of float32 to 2 %, and the parameters and moments stay float32."""
    recipe, goal = recipe_and_goal
    half = replace(recipe, structure=replace(recipe.structure, precision="bfloat16"))
    pictures = random.random((2, 16, 16, 3)).astype(np.float32)
    losses = {}
    for each in (recipe, half):
        state, step = initial_state(each, 0), compile_step(each)
        for _ in range(3):
            state, loss, _ = step(state, goal, pictures, np.array([0, 1], np.int32))
        losses[each.structure.precision] = float(loss)
        floats = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.moments))}
        assert floats == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}  # Adam counts its steps
    assert losses["bfloat16"] != losses["float32"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=2e-2)


def test_a_batch_is_shared_out_equally_or_refused():
    with pytest.raises(NstyleError, match="batch_size: 3 is not a multiple of the 2 devices"):
        spread(2 * jax.devices(), 3)


@pytest.mark.slow
def test_several_devices_make_the_step_of_one():
    program = """
import jax, numpy as np
from nstyle.config import compose_training
from nstyle.feedforward.network import Architecture
from nstyle.feedforward.training import *
from nstyle.objective import style_target
from nstyle.runs.inputs import network_of
from nstyle.runs.planning import loss_weights, structure_of
_, losses = compose_training(["style_layers=[conv1_1]", "content_layers=[conv2_1]"])
network = network_of(losses)
structure = structure_of(losses, network.pixels)
pictures = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)
target = style_target(structure, network.params, pictures[0])
goal = Goal(network.params, stacked_styles([target]), loss_weights(losses, structure))
recipe = Recipe(structure, Architecture(2, 1), 9)
ends = []
for count in (1, 4):
    devices = jax.devices()[:count]
    places = spread(devices, 4)
    state = jax.device_put(initial_state(recipe, 0), places.copies)
    there = jax.device_put(goal, places.copies)
    batch, styles = jax.device_put((pictures, np.zeros(4, np.int32)), places.parts)
    assert len(batch.sharding.device_set) == count
    state, loss, _ = compile_step(recipe)(state, there, batch, styles)
    assert len(jax.tree.leaves(state.params)[0].sharding.device_set) == count
    # Adam's first moment is a tenth of the gradient; its step hardly depends on the size of it.
    ends.append((float(loss), jax.tree.map(np.asarray, state.moments[0].mu)))
np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(ends[0][1]))
assert largest > 0
jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * largest),
    ends[0][1], ends[1][1],
)
"""
    flags = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", program], check=True, env=flags)


@pytest.fixture
def folder(tmp_path, random):
    """Five pictures in a folder and a subfolder, one of them damaged."""
    place = tmp_path / "photos"
    for number in range(4):
        images.save(place / f"{'more/' * (number > 2)}{number}.png", random.random((20, 24, 3)))
    (place / "2b.jpg").write_bytes(b"nonsense")
    return place


def test_data_is_decided_by_seed_and_step(folder):
    pictures = data.pictures_of(str(folder))
    assert pictures.held_out == ["0.png"]
    begun = data.batches(pictures, 16, 3, seed=5)
    batches = [next(begun) for _ in range(6)]
    went_on = data.batches(pictures, 16, 3, seed=5, first=4)
    for batch in batches[4:]:
        np.testing.assert_array_equal(next(went_on), batch)
    assert batches[0].shape == (3, 16, 16, 3)
    assert batches[0].dtype == np.uint8
    assert any((next(data.batches(pictures, 16, 3, seed=6)) != batches[0]).ravel())
    assert pictures.unreadable == {"2b.jpg"}


def test_pictures_that_nobody_can_learn_from_are_refused(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"nonsense")
    pictures = data.pictures_of(str(folder))
    with pytest.raises(NstyleError, match="none of the 4 files can be read"):
        next(data.batches(pictures, 16, 1, seed=0))
    with pytest.raises(NstyleError, match="images: none of the 5 can be read"):
        data.held_out(pictures, 16)


def test_a_damaged_picture_held_out_is_replaced_by_one_that_is_then_not_learnt_from(folder):
    (folder / "0.png").write_bytes(b"nonsense")
    pictures = data.pictures_of(str(folder))
    assert data.held_out(pictures, 16).shape == (1, 16, 16, 3)
    assert pictures.held_out == ["0.png", "1.png"]
    assert "1.png" not in pictures.files


def test_the_small_set_is_named_as_what_it_is():
    pictures = data.pictures_of(None)
    assert "scikit-image" in pictures.name
    assert set(pictures.source.sizes) >= {*pictures.files, *pictures.held_out}
    assert not set(pictures.files) & set(pictures.held_out)


def test_the_small_set_is_decoded_once_and_two_of_five_pieces_are_dead_leaves(monkeypatch):
    monkeypatch.setattr(data, "dead_leaves", lambda size, _: np.full((size, size, 3), 0.5))
    pictures = data.pictures_of(None)
    opened, original = [], pictures.source.open

    def noted(name):
        opened.append(name)
        return original(name)

    pictures.source = pictures.source._replace(open=noted)
    batches = data.batches(pictures, 16, 100, seed=3)
    pieces = np.concatenate([next(batches) for _ in range(4)])
    leaves = (pieces == 128).all(axis=(1, 2, 3)).sum()
    assert 120 < leaves < 200  # four standard deviations of a binomial
    assert set(opened) == set(pictures.files)
    # Grain decodes ahead with four threads: two may want one picture at a time.
    assert len(opened) <= 4 * len(pictures.files)
    assert (pieces[:, ::2] != pieces[:, 1::2]).any()


def interrupt_after_two_steps(composed, monkeypatch):
    """Trains until an interrupt between the third step and its row."""
    append = store.Trace.append

    def until_the_third(trace, row):
        if row["step"] == 3:
            raise KeyboardInterrupt
        append(trace, row)

    with monkeypatch.context() as patched:
        patched.setattr(store.Trace, "append", until_the_third)
        with pytest.raises(KeyboardInterrupt, match="after step 2"):
            train.train(*composed)


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_bytes(
    folder, pictures, tmp_path, monkeypatch, capsys
):
    """What goes on learns from an archive."""
    style = f"style=[{pictures}/style.png,{pictures}/content.png]"
    arguments = [style, *SMALL, "sample_every=5"]
    begun, interrupted = tmp_path / "begun", tmp_path / "interrupted"
    own = [f"images={folder}", f"out={begun}", "tracker=tensorboard"]
    file = train.train(*compose_training([*arguments, *own]))
    names = {path.name for path in begun.iterdir() if path.name != ".lock"}
    written = {"settings.json", "trace.csv", "samples", "checkpoints", "card.json", models.FILE}
    written.add("tensorboard")
    assert names == written
    assert {path.name for path in (begun / "samples").iterdir()} == {
        "step_000001.png", "step_000005.png"
    }  # fmt: skip

    archive = shutil.make_archive(str(folder), "zip", folder)
    composed = compose_training([*arguments, f"images={archive}", f"out={interrupted}"])
    interrupt_after_two_steps(composed, monkeypatch)
    assert not (interrupted / models.FILE).exists()
    went_on = load_file(train.train(*composed))
    for name, array in load_file(file).items():
        np.testing.assert_array_equal(went_on[name], array)
    traces = [pd.read_csv(place / "trace.csv") for place in (begun, interrupted)]
    pd.testing.assert_frame_equal(*traces)
    assert list(traces[0].step) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        traces[0].loss, traces[0].content + traces[0]["style"] + traces[0].tv, rtol=1e-5
    )

    values = values_in(next((begun / "tensorboard").iterdir()))
    losses = [value.simple_value for _, value in values if value.tag == "loss"]
    np.testing.assert_allclose(losses, traces[0].loss, rtol=1e-6)
    assert any(value.image.height > 16 for _, value in values)

    card = json.loads((begun / "card.json").read_text())
    assert [style["file"] for style in card["styles"]] == ["style.png", "content.png"]
    assert card["data"]["unreadable"] == 1
    assert len(card["scores"]["loss_held_out"]) == 2
    assert models.read(begun).card["losses"]["style_layers"] == ["conv1_1"]
    with pytest.raises(NstyleError, match=r"has a training with another style_weight=10.0"):
        train.train(*compose_training([*arguments, f"out={begun}", "style_weight=3"]))
    settings = stored.read_json(begun / "settings.json", "training")
    del settings["training"]["upscale"]  # as before that setting
    stored.write_json(begun / "settings.json", "training", settings)
    assert train.train(*compose_training([*arguments, *own])) == file


@pytest.mark.slow
def test_what_is_interrupted_after_the_last_step_makes_none_again(
    folder, pictures, tmp_path, monkeypatch
):
    arguments = [f"style={pictures}/style.png", *SMALL, f"images={folder}", f"out={tmp_path}/out"]
    composed = compose_training([*arguments, "checkpoint_every=0"])

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "_card", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(*composed)
    monkeypatch.setattr(train, "compile_step", lambda recipe: interrupted)
    assert train.train(*composed).is_file()


def test_style_pictures_are_read_at_the_size_asked_for(folder, pictures, tmp_path):
    def digest(size):
        own = [f"style={pictures}/style.png", f"images={folder}", f"style_size={size}"]
        return train.plan(*compose_training([*own, *SMALL])).styles[0]["sha256"]

    assert digest("content") == digest("16x16")
    assert digest("150%") == digest("24") != digest("16")


@pytest.mark.parametrize("settings", ["{ // an editor's\n}", "[]", '{"theme": "dark"}'])
def test_a_folder_of_something_else_is_left_alone(settings, folder, pictures, tmp_path):
    (tmp_path / "settings.json").write_text(settings)
    composed = compose_training(
        [f"style={pictures}/style.png", *SMALL, f"images={folder}", f"out={tmp_path}"]
    )
    with pytest.raises(NstyleError, match=r"settings.json is damaged, .* or not of a training"):
        train.train(*composed)
    assert (tmp_path / "settings.json").read_text() == settings


@pytest.mark.slow
def test_a_training_that_makes_pictures_larger(folder, tmp_path, monkeypatch, vgg16):
    """It learns from the cubic on, goes on with the same bytes, and its card scores both."""
    arguments = [
        "upscale=4", f"images={folder}", "size=32", "batch_size=2", "steps=4", "width=4",
        "blocks=1", "sample_every=4",
    ]  # fmt: skip
    begun, interrupted = tmp_path / "begun", tmp_path / "interrupted"
    arrays = load_file(train.train(*compose_training([*arguments, f"out={begun}"])))
    assert np.abs(arrays["last.kernel"]).max() > 0, "it was zero before the first step"
    batch = next(data.batches(data.pictures_of(str(folder)), 32, 2, seed=0)) / np.float32(255)
    options = {"network": "vgg16", "pooling": Maximum(), "layers": ("conv2_2",)}
    options |= {"pixels": vgg16.pixels}
    seen = jax.jit(lambda image: network_features(vgg16.params, image, **options)["conv2_2"])
    cubic = enlarged(reduced(batch, 4), 4)
    losses = [np.square(seen(x) - seen(y)).mean() for x, y in zip(cubic, batch, strict=True)]
    assert pd.read_csv(begun / "trace.csv").loss[0] == pytest.approx(np.mean(losses), rel=1e-5)

    composed = compose_training([*arguments, f"out={interrupted}"])
    interrupt_after_two_steps(composed, monkeypatch)
    went_on = load_file(train.train(*composed))
    for name, array in arrays.items():
        np.testing.assert_array_equal(went_on[name], array)

    card, model = json.loads((begun / "card.json").read_text()), models.read(begun)
    assert card["styles"] == [] and card["losses"]["content_layers"] == ["conv2_2"]
    original = data.held_out(data.pictures_of(str(folder)), 32)[0]
    small = np.asarray(reduced(original[None], 4))
    made = painted_picture(model, small[0], np.ones(1, np.float32))
    for name, picture in (("network", made), ("bicubic", np.asarray(enlarged(small, 4))[0])):
        assert card["scores"][name] == pytest.approx(fidelity(picture, original), rel=1e-5)
    sample = images.load(begun / "samples" / "step_000004.png")
    assert sample.shape[1] > 3 * 32


@pytest.mark.slow
@pytest.mark.parametrize("rate", [30.0, 1e30])
def test_a_training_that_collapses_keeps_its_best_network(folder, pictures, tmp_path, capsys, rate):
    """Further and further from the photographs, and without a finite value."""
    settings = [f"style={pictures}/style.png", f"images={folder}", f"out={tmp_path}/out"]
    small = [setting.replace("steps=5", "steps=40") for setting in SMALL]
    model = train.train(*compose_training([*settings, *small, f"learning_rate={rate}"]))
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("nstyle-train: note: the loss rose from ")
    assert "is kept; try a smaller learning_rate" in told
    kept = models.read(model)
    assert kept.card["steps"] < 40
    assert all(np.isfinite(own).all() for layer in kept.params.values() for own in layer.values())


@pytest.mark.slow
def test_several_trainings_in_one_command(folder, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [johnson2016]\nrecipe: own\n"
    (tmp_path / "mine" / "recipe" / "own.yaml").write_text(text)
    given = [f"style={pictures}/style.png", f"images={folder}", "out=o", "--config-dir=mine"]
    given += ["recipe=own", *SMALL]
    for swept, status in ((["seed=0,1", "style_weight=5,-1"], 2), (["seed=0,1"], 0)):
        monkeypatch.setattr(sys, "argv", ["nstyle-train", "-m", *given, *swept])
        if status:
            with pytest.raises(SystemExit):
                train.main()
            err = capsys.readouterr().err
            assert "style_weight: -1" in err
            assert not (tmp_path / "o").exists()
        else:
            train.main()
    models_ = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("o/*/*.safetensors"))
    assert models_ == ["o/seed=0/model.safetensors", "o/seed=1/model.safetensors"]
    out = capsys.readouterr().out.splitlines()
    assert out == models_


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_bytes(folder, pictures, tmp_path):
    arguments = [f"style={pictures}/style.png", f"images={folder}", *replaced(SMALL, "steps=400")]
    checkpoints = tmp_path / "killed" / "checkpoints"
    killed = command(
        *arguments,
        "out=killed",
        "checkpoint_every=0.2",
        folder=tmp_path,
        module="nstyle.feedforward.train",
    )
    while not any(path.name.isdigit() for path in checkpoints.glob("*")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / models.FILE).exists()
    for out in ("killed", "whole"):
        process = command(
            *arguments, f"out={out}", folder=tmp_path, module="nstyle.feedforward.train"
        )
        assert process.communicate()[0].strip() == f"{out}/{models.FILE}"
    ends = [load_file(tmp_path / out / models.FILE) for out in ("killed", "whole")]
    for name in ends[0]:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stlye=a.png"], "did you mean 'style'"),
        (["solver=adam"], "unknown setting 'solver'"),
        (["steps=0"], "steps: 0 is out of range"),
        (["size=big"], "size"),
        (["style_loss=gramm"], "did you mean 'gram'"),
        (["size=8", "recipe=default"], "size: 8 x 8 pixels are too few for the deepest layer"),
        (["upsampling=nearest"], "upsampling: unknown value 'nearest'"),
        (["images=nowhere"], "images: there is no folder or archive 'nowhere'"),
        (["images=."], "out: o lies among the images"),
        (["images=.", "out=../o"], "pictures in '.' (at least 2"),
        (["style_layers=[]"], "style_layers: none"),
        (["style=none.png"], "none.png: No such file"),
        (["threads=0"], "threads: 0 is out of range"),
        (["style=[1,2]"], "style: [1, 2] is neither a file nor a list of files"),
        (["style=null"], "style: no picture given"),
        (["out=null"], "out: no folder given"),
        (["out=~nobody-here/o"], "out: ~nobody-here/o: "),
        (["upscale=4"], "style.png with upscale=4, which has no style"),
        (["style=null", "upscale=4", "recipe=default"], "style_layers: ['conv1_1', "),
        (["style=null", "upscale=1"], "upscale: 1 is none of (4, 8)"),
        (["style=null", "upscale=four"], "upscale: Value 'four'"),
        (["style=null", "upscale=8"], "size: 32 is no multiple of upscale=8 from 64 on"),
        (["style=null", "upscale=4", "size=34"], "size: 34 is no multiple of upscale=4 from 32"),
    ],
)
def test_train_refuses_in_one_line(arguments, message, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = replaced([f"style={pictures}/style.png", "out=o", "size=32"], *arguments)
    monkeypatch.setattr(sys, "argv", ["nstyle-train", *given])
    with pytest.raises(SystemExit) as exit_:
        train.main()
    told = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "o" / "settings.json").exists()
