"""What happens to our own files between two commands: named, made again, and never believed.

Each file meets each kind of damage in each command that reads it. Those that compute meet a part
of them; all with NSTYLE_ALL_DAMAGE=1.
"""

import itertools
import json
import os
import shutil
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_store import make_sweep
from safetensors.numpy import save_file

from nstyle import images, report
from nstyle.config import compose, compose_training
from nstyle.errors import NstyleError
from nstyle.feedforward import apply, data, models, train
from nstyle.feedforward.network import Architecture, parameter_shapes
from nstyle.feedforward.training import Recipe as RealRecipe
from nstyle.feedforward.training import State, initial_state
from nstyle.runs import finished, session, store, stored
from nstyle.web import serve
from nstyle.web.jobs import Job, Settings, Stage

ALL = bool(os.environ.get("NSTYLE_ALL_DAMAGE"))


def as_folder(path):
    path.unlink()
    path.mkdir()
    (path / "somebody's").write_text("own")


def unreadable(path):
    """As without permission, and for root too: a link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(bytes(range(255, 100, -1))),
    "a bit flipped": flipped,
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "nested deeply": lambda path: path.write_text(100_000 * "["),
    "unreadable": unreadable,
    "a folder": as_folder,
    "missing": lambda path: path.unlink(),
}


def each(files):
    """Pairs of files and kinds of damage: all, or each file with a few and each kind somewhere."""
    pairs = list(itertools.product(files, DAMAGE))
    return pairs if ALL else pairs[:: len(files) + 2]


# What is read back, by itself.


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of each kind: where it is, its bytes, and what reads it."""
    place = tmp_path_factory.mktemp("written")
    told = {"loss": 0.1, "stop": "steps", "name": "é", "best": {"step": 3, "tv": None}}
    stored.write_json(place / "json", "a", told)
    stored.write_arrays(place / "arrays", "a", told, [np.arange(5.0), np.ones((2, 3), np.int32)])
    models.write(place / "model", MODEL)
    readers = {
        "json": lambda path: stored.read_json(path, "a"),
        "arrays": lambda path: stored.read_arrays(path, "a"),
        "model": lambda path: models.read(path).params,
    }
    return {kind: (place / kind, (place / kind).read_bytes(), readers[kind]) for kind in readers}


@settings(max_examples=100, deadline=None)
@given(bit=st.integers(0), kind=st.sampled_from(["json", "arrays", "model"]))
def test_no_flipped_bit_is_believed(written, bit, kind):
    path, content, read = written[kind]
    path.write_bytes(content)
    expected = read(path)
    changed = bytearray(content)
    changed[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(changed)
    try:
        found = read(path)
    except NstyleError as error:
        assert str(path) in str(error)
    else:  # as where a space became a tab
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_is_of_another_kind_is_refused(tmp_path):
    """Of another run, or of a version that writes it in another way."""
    stored.write_json(tmp_path / "a.json", "result", {"stop": "steps"})
    stored.write_arrays(tmp_path / "a", "checkpoint 1", [], [np.zeros(2)])
    with pytest.raises(stored.DamagedError, match=r"a\.json is damaged, or of another version"):
        stored.read_json(tmp_path / "a.json", "result 2")
    with pytest.raises(stored.DamagedError, match="a is damaged, or of another version"):
        stored.read_arrays(tmp_path / "a", "checkpoint 2")


# Runs and sweeps.


@pytest.fixture(scope="module")
def small(pictures):
    names = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    layers = {"content_layers": ["conv1_1"], "style_layers": ["conv1_1"], "pyramid.levels": 1}
    return names | layers | {"size": 32, "style_size": 32, "steps": 3, "init": "noise"}


def perform(small, folder, **given):
    """Makes a run with scores that cost nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finished, "score", lambda *given: dict.fromkeys(given[-1], 0.5))
        return session.perform(compose(**small, runs_dir=str(folder), **given))


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """A store with a finished run, and one with a run that was interrupted at its second step."""
    place = tmp_path_factory.mktemp("whole")
    perform(small, place / "finished")
    append = store.Trace.append

    def interrupted(trace, row):
        append(trace, row)
        if row["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store.Trace, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            perform(small, place / "interrupted")
    return place


def results(store):
    """The bytes of what a run ends with, by the names of its files."""
    (folder,) = store.glob("*-*")
    written = {name: (folder / name).read_bytes() for name in ("trace.csv", "result.png")}
    return written | {"scores": stored.read_json(folder / "scores.json", "scores")}


@pytest.mark.parametrize(("name", "damage"), each([*store.FILES, "result.json", "scores.json"]))
def test_a_damaged_run_is_made_again(small, whole, tmp_path, capsys, name, damage):
    shutil.copytree(whole / "finished", tmp_path / "runs", ignore=lambda *_: [".locks"])
    (path,) = tmp_path.glob(f"runs/*/{name}")
    DAMAGE[damage](path)
    performed = perform(small, tmp_path / "runs")
    notes = [line for line in capsys.readouterr().err.splitlines() if "note" in line]
    quiet = damage == "missing" and name.endswith(".json")  # as of a run not made, or not scored
    assert len(notes) == (not quiet), notes
    assert quiet or str(path) in notes[0]
    assert performed.reused == (name == "scores.json")
    assert results(tmp_path / "runs") == results(whole / "finished")
    aside = list(path.parent.glob(f"{name}.*/somebody's"))
    assert len(aside) == (damage == "a folder")
    assert perform(small, tmp_path / "runs").reused
    assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize(("name", "damage"), each(["checkpoint", "result.json"]))
def test_a_run_with_a_damaged_checkpoint_starts_again(small, whole, tmp_path, capsys, name, damage):
    shutil.copytree(whole / "interrupted", tmp_path / "runs", ignore=lambda *_: [".locks"])
    (path,) = tmp_path.glob(f"runs/*/{name}")
    DAMAGE[damage](path)
    assert not perform(small, tmp_path / "runs").reused
    notes = [line for line in capsys.readouterr().err.splitlines() if "note" in line]
    assert [str(path) in note for note in notes] == [True] * (damage != "missing")
    assert results(tmp_path / "runs") == results(whole / "finished")


@pytest.mark.parametrize(("name", "damage"), each(["checkpoint", "result.json", "result.png"]))
def test_a_damaged_run_that_is_not_to_be_reused_is_made_again(small, whole, tmp_path, name, damage):
    place = "interrupted" if name == "checkpoint" else "finished"
    shutil.copytree(whole / place, tmp_path / "runs", ignore=lambda *_: [".locks"])
    (path,) = tmp_path.glob(f"runs/*/{name}")
    DAMAGE[damage](path)
    assert not perform(small, tmp_path / "runs", reuse=False).reused
    assert results(tmp_path / "runs") == results(whole / "finished")


@pytest.mark.parametrize("name", ["result.png", "trace.csv", "result.json", "scores.json", "all"])
def test_the_files_of_another_run_are_not_taken(small, whole, tmp_path, capsys, name):
    perform(small, tmp_path / "other", seed=1)
    shutil.copytree(whole / "finished", tmp_path / "runs")
    (path,) = tmp_path.glob("runs/*-*")
    (other,) = tmp_path.glob("other/*-*")
    for file in other.iterdir() if name == "all" else [other / name]:
        shutil.copy(file, path)
    perform(small, tmp_path / "runs")
    assert results(tmp_path / "runs") == results(whole / "finished")


@pytest.mark.parametrize("reuse", [True, False])
def test_a_file_in_the_place_of_a_runs_folder_is_moved_aside(small, whole, tmp_path, reuse):
    (folder,) = (whole / "finished").glob("*-*")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / folder.name).write_text("own")
    performed = perform(small, tmp_path / "runs", reuse=reuse)
    assert performed.folder.is_dir()
    (aside,) = (tmp_path / "runs").glob(f"{folder.name}.*")
    assert aside.read_text() == "own"


def test_scores_that_came_later_are_added(small, whole, tmp_path, monkeypatch, capsys):
    shutil.copytree(whole / "finished", tmp_path / "runs")
    (path,) = tmp_path.glob("runs/*/scores.json")
    assert perform(small, tmp_path / "runs", vgg_score=True).reused
    assert stored.read_json(path, "scores")["scores"]["style_gram_vgg16"]
    monkeypatch.setattr(finished, "code_version", lambda *_: "later")
    assert perform(small, tmp_path / "runs").reused
    assert stored.read_json(path, "scores")["code"] == ["later"]
    assert "note" not in capsys.readouterr().err


def sweep(nstyle_here, small, *arguments):
    """Makes a sweep of three seeds: (status, out, err)."""
    told = [f"{key}={json.dumps(value).replace(' ', '')}" for key, value in small.items()]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finished, "score", lambda *given: dict.fromkeys(given[-1], 0.5))
        return nstyle_here("-m", *told, *arguments)


@pytest.mark.slow
def test_no_file_blocks_a_sweep_or_its_report(nstyle_here, small, tmp_path, capsys):
    assert sweep(nstyle_here, small, "seed=0,1,2,3")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("runs/*-*/result.png")}
    (written,) = tmp_path.glob("runs/sweeps/*/sweep.json")
    names = ("result.json", "result.png", "trace.csv")
    damaged = [path.with_name(name) for path, name in zip(sorted(before), names, strict=False)]
    for path, damage in zip(damaged, ("null", "cut", "a folder"), strict=True):
        DAMAGE[damage](path)
    report.write(written.parent)
    told = capsys.readouterr().err.splitlines()
    assert sorted(str(path) in line for path in damaged for line in told).count(True) == len(told)
    assert len(report.read(written.parent).done) == 1
    capsys.readouterr()
    as_folder(written)
    as_folder(next(written.parent.glob("configs/*.yaml")))
    status, out, err = sweep(nstyle_here, small, "seed=0,1,2,3")
    assert (status, len(out.splitlines())) == (0, 4), err
    notes = [line for line in err.splitlines() if "note" in line]
    assert len(notes) == len(damaged)
    assert all(any(path.parent.name in note for note in notes) for path in damaged)
    assert before == {path: path.read_bytes() for path in before}
    assert len(report.read(written.parent).done) == 4


def test_one_content_under_two_names_is_one_run(nstyle_here, small, tmp_path):
    shutil.copy(small["content"], tmp_path / "copy.png")
    both = f"content={small['content']},{tmp_path / 'copy.png'}"
    own = {key: value for key, value in small.items() if key != "content"}
    for runs_made in (1, 0):
        status, out, err = sweep(nstyle_here, own, both)
        assert (status, len(out.splitlines())) == (0, 1 + runs_made), err
        (written,) = tmp_path.glob("runs/sweeps/*")
        (folder,) = tmp_path.glob("runs/*-*")
        members = report.read(written).members
        assert [member.folder.name for member in members] == [folder.name] * 2
        assert [member.settings["content"] for member in members] == ["content.png", "copy.png"]
        assert all(member.result for member in members)


# Reports.

REPORTED = ["result.json", "scores.json", "trace.csv", "result.png"]


@pytest.mark.parametrize(("name", "damage"), itertools.product(REPORTED, DAMAGE))
def test_a_report_leaves_a_damaged_run_out_and_says_so(tmp_path, capsys, name, damage):
    folder = make_sweep(tmp_path, {"seed": ["0", "1"]})
    path = tmp_path / "runs" / "photo-art-000000000000" / name
    DAMAGE[damage](path)
    unfinished, unscored = (damage == "missing" and name == of for of in REPORTED[:2])
    for place in (folder, tmp_path / "runs"):
        assert len(report.read(place).done) == 1 + unscored
        told = capsys.readouterr().err.splitlines()
        assert len(told) == (not (unfinished or unscored))
        assert all(str(path) in line for line in told)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_report_of_a_damaged_sweep_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, damage
):
    path = make_sweep(tmp_path, {"seed": ["0", "1"]}) / "sweep.json"
    DAMAGE[damage](path)
    monkeypatch.setattr(sys, "argv", ["nstyle-report", str(path.parent)])
    refused_in_one_line(report.main, path.parent, capsys)


def refused_in_one_line(main, path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main()
    told = capsys.readouterr().err
    assert exit_.value.code == 2
    assert told.count("\n") == 1
    assert str(path) in told


# Trained networks.

TINY = Architecture(width=2, blocks=1)
SHAPES = parameter_shapes(TINY)
MODEL = models.Model(
    TINY,
    {
        layer: {name: np.full(shape, 0.5, np.float32) for name, shape in own.items()}
        for layer, own in SHAPES.items()
    },
    {"nstyle": "0.1.0", "styles": [{"file": "art.jpg", "sha256": "0"}], "seconds": 1.5},
)


@pytest.mark.parametrize("main", [apply.main, serve.main], ids=["apply", "serve"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_refused_in_one_line(tmp_path, monkeypatch, capsys, main, damage):
    models.write(tmp_path / models.FILE, MODEL)
    DAMAGE[damage](tmp_path / models.FILE)
    monkeypatch.setattr(sys, "argv", ["nstyle", str(tmp_path)])
    refused_in_one_line(main, tmp_path / models.FILE, capsys)


CARD = {"architecture": {"width": 2, "blocks": 1}}

CARDS = {
    "its card is damaged": ["", "{", "[]", "null", "3", "{}", '{"nstyle": "0.1.0"}', 10_000 * "["],
    "architecture: None is of the wrong type": ['{"architecture": null}'],
    "unknown 'depth', perhaps of a newer version": ['{"architecture": {"depth": 2}}'],
    "unknown 'licence', perhaps of a newer version": [json.dumps(CARD | {"licence": "MIT"})],
    "width: '2' is of the wrong type": ['{"architecture": {"width": "2"}}'],
    "width: True is of the wrong type": ['{"architecture": {"width": true}}'],
    "blocks: None is of the wrong type": ['{"architecture": {"blocks": null}}'],
    "blocks: 10000000 is not from 0 to 100": ['{"architecture": {"blocks": 10000000}}'],
    "width: 0 is not from 1 to 1024": ['{"architecture": {"width": 0}}'],
    "upscale: 3 is none of (4, 8)": ['{"architecture": {"upscale": 3}}'],
    "border: unknown value 'x'": ['{"architecture": {"border": "x"}}'],
    "is missing or not of shape": ['{"architecture": {}}'],
    "is of no layer of its architecture": ['{"architecture": {"width": 2, "blocks": 0}}'],
    "styles: 'a' names no file": [json.dumps(CARD | {"styles": ["a"]})],
    "styles: {} names no file": [json.dumps(CARD | {"styles": [{}]})],
    "styles: {'a': 1} is of the wrong type": [json.dumps(CARD | {"styles": {"a": 1}})],
    "seconds: 'x' is of the wrong type": [json.dumps(CARD | {"seconds": "x"})],
}


def arrays(dtype=np.float32):
    return {
        f"{layer}.{name}": np.zeros(shape, dtype)
        for layer, own in SHAPES.items()
        for name, shape in own.items()
    }


@pytest.mark.parametrize(
    ("message", "card"), [(message, card) for message in CARDS for card in CARDS[message]]
)
def test_a_card_is_checked_whole(tmp_path, message, card):
    save_file(arrays(), tmp_path / models.FILE, {"nstyle": card})
    with pytest.raises(NstyleError) as refused:
        models.read(tmp_path)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_arrays_of_another_type_are_refused(tmp_path, dtype):
    save_file(arrays(dtype), tmp_path / models.FILE, {"nstyle": json.dumps(CARD)})
    with pytest.raises(NstyleError, match="not float32"):
        models.read(tmp_path)


def test_a_model_from_before_hashes_were_kept_is_read(tmp_path):
    save_file(arrays(), tmp_path / models.FILE, {"nstyle": json.dumps(CARD)})
    assert models.read(tmp_path).architecture == TINY


# Trainings, whose steps cost nothing here.


@pytest.fixture
def training(tmp_path, pictures, monkeypatch):
    """Trains four steps, a checkpoint after each, and returns the bytes of the model."""
    given = [f"style={pictures}/style.png", f"out={tmp_path / 'out'}", "size=16", "batch_size=2"]
    given += ["steps=4", "width=2", "blocks=1", "sample_every=0", "checkpoint_every=1e-9"]
    composed = compose_training([*given, "style_layers=[conv1_1]", "content_layers=[conv1_1]"])
    architecture = Architecture(2, 1)

    class Recipe:
        steps = 4
        optimizer = RealRecipe(None, architecture, 4).optimizer

    Recipe.architecture = architecture
    planned = train.Plan(Recipe, 0.0, None, None, [], {}, {"training": {"steps": 4, "late": None}})
    pieces = np.random.default_rng(0).integers(0, 255, (9, 2, 4, 4, 3), np.uint8)
    steps = []

    def step(state, goal, batch, styles):
        steps.append(int(state.step) + 1)
        params = jax.tree.map(lambda leaf: leaf + jnp.mean(batch), state.params)
        return State(state.step + 1, params, state.moments), 1.0, None

    monkeypatch.setattr(train, "plan", lambda *_: planned)
    monkeypatch.setattr(train, "compile_step", lambda _: step)
    monkeypatch.setattr(train, "_row", lambda number, *_: ROW | {"step": number})
    monkeypatch.setattr(train, "_card", lambda *_: {"seconds": 1.0})
    monkeypatch.setattr(data, "batches", lambda *given: iter(pieces[given[-1] :]))

    def run():
        steps.clear()
        return train.train(*composed).read_bytes(), list(steps)

    return run


ROW = {"loss": 1.0, "content": 0.0, "style": 0.0, "tv": 0.0}

CHECKPOINT = "checkpoints/000000004"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    each([models.FILE, "card.json", CHECKPOINT, "trace.csv"]),
)
def test_a_damaged_training_ends_with_the_same_model(training, tmp_path, capsys, name, damage):
    """From its newest whole checkpoint, which is the last or the one before."""
    model, _ = training()
    path = tmp_path / "out" / name
    DAMAGE[damage](path)
    if name == CHECKPOINT:
        (tmp_path / "out" / models.FILE).unlink()
    capsys.readouterr()
    again, steps = training()
    assert again == model
    assert steps == ([4] if name == CHECKPOINT else [])
    notes = [line for line in capsys.readouterr().err.splitlines() if str(path) in line]
    quiet = name == "trace.csv" or (damage == "missing" and name in ("card.json", CHECKPOINT))
    assert len(notes) == (not quiet)
    if name == CHECKPOINT and notes:
        assert "goes on from step 3" in notes[0]
    capsys.readouterr()
    assert training() == (model, [])
    assert str(path) not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_training_without_its_settings_is_left_alone(training, tmp_path, damage):
    training()
    path = tmp_path / "out" / "settings.json"
    DAMAGE[damage](path)
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(NstyleError, match="choose another folder") as refused:
        training()
    assert str(path) in str(refused.value)
    assert sorted((tmp_path / "out").rglob("*")) == before


@pytest.mark.slow
def test_the_files_of_another_training_are_not_taken(training, tmp_path, capsys):
    model, _ = training()
    path = tmp_path / "out" / CHECKPOINT
    state = initial_state(train.plan().recipe, 1)
    stored.write_arrays(path, "checkpoint of another", [], jax.tree.leaves(state))
    stored.write_json(tmp_path / "out" / "card.json", "card of another", {"files": {}})
    assert training() == (model, [4])
    assert capsys.readouterr().err.count("note") == 2


# The page.


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_page_goes_on_without_what_it_cannot_read(tmp_path, damage):
    job = Job("a", tmp_path, Settings("default", 1.0, 32, 5, "noise"), (Stage(9, 6),))
    trace = tmp_path / "runs" / "content-style-0" / "trace.csv"
    trace.parent.mkdir(parents=True)
    trace.write_bytes(b"step,size,loss\r\n0,32,9.5\r\n1,32,8.5\r\n")
    job.look()
    assert (job.step, job.numbers) == (1, {"loss": 8.5})
    DAMAGE[damage](trace)
    images.save(trace.parent / "step_000002.png", np.zeros((4, 4, 3)))
    (trace.parent / "step_x.png").touch()
    job.look()
    assert job.step in (0, 1)
