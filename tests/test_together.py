"""Runs of a sweep optimised together: each as it is by itself, whatever becomes of the others."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import press_ctrl_c, replaced

from nstyle import images
from nstyle.config import compose
from nstyle.errors import NstyleError
from nstyle.runs import recording, sweep, sweepers
from nstyle.runs.job import build, picture_of, run, run_together
from nstyle.runs.planning import kind_of, plan
from nstyle.runs.trace import row

#: Rounding differs with the size of a batch, and L-BFGS amplifies it step by step.
RTOL = 1e-3

FLAT = "flat.png"

#: Three sizes: 12, 24 and 48 pixels.
SMALL = {
    **{"size": 48, "style_size": 44, "steps": 4},
    **{"style_layers": ["conv1_1", "conv2_1"], "content_layers": ["conv2_2"]},
    **{"pyramid.levels": 3, "pyramid.steps": 3, "pyramid.least": 8, "pyramid.noise": 0.1},
}

#: What each member has of its own. A picture of one colour is as smooth as can be: it ends the
#: first size at once, as its gradient is zero, and waits; then it goes on from noise.
MEMBERS = {
    "noise": {"init": "noise", "seed": 3},
    "flat": {"init": FLAT, "content_weight": 0.0, "style_weight": 0.0, "tv_weight": 1.0},
    "other": {"init": "mixture", "style_weight": 3.0, "pyramid.noise": 0.0},
    "lost": {"init": "noise", "noise.low": -1e6, "noise.high": 1e6, "style_weight": 1e12},
}


@pytest.fixture(scope="module")
def jobs(pictures):
    images.save(pictures / FLAT, np.full((36, 48, 3), 0.5, np.float32))
    files = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    plans = []
    for own in MEMBERS.values():
        start = {"init": str(pictures / FLAT)} if own["init"] == FLAT else {}
        plans.append(plan(compose(**files, **(SMALL | own | start))))
    assert len({kind_of(planned) for planned in plans}) == 1
    return dict(zip(MEMBERS, map(build, plans), strict=True))


@pytest.fixture(scope="module")
def alone(jobs):
    """The rows of each by itself, and what it could go on from after every step."""
    return {
        name: [(step, row(step, job), jax.device_get(step.state())) for step in run(job)]
        for name, job in jobs.items()
        if name != "lost"
    }


def collected(jobs, resume):
    """The steps and rows of each job, made together, the last pictures, and the failures."""
    made, pictures, failures = {name: [] for name in jobs}, {}, {}
    for steps in run_together(list(jobs.values()), resume):
        for (name, job), step in zip(jobs.items(), steps, strict=True):
            if isinstance(step, NstyleError):
                failures[name] = step
            elif step.is_new:
                made[name].append((step, row(step, job)))
                pictures[name] = picture_of(step, job)
    return made, pictures, failures


def assert_same_rows(found, wanted):
    assert [(step.step, step.best_step, step.is_last) for step, _ in found] == [
        (step.step, step.best_step, step.is_last) for step, *_ in wanted
    ]
    for (_, one), (_, other, *_) in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=RTOL, atol=1e-6)


@pytest.mark.slow
def test_members_are_what_each_is_alone_and_a_lost_one_disturbs_none(jobs, alone):
    steps, pictures, failures = collected(jobs, [None] * 4)
    assert list(failures) == ["lost"]
    with pytest.raises(NstyleError) as raised:
        list(run(jobs["lost"]))
    for told in (failures["lost"], raised.value):
        assert "at the first picture: a weight is too large" in str(told)
    assert steps.pop("lost") == []
    ends = {name: [step.stop for step, *_ in made] for name, made in alone.items()}
    assert ends["flat"][0] == "flat"
    assert not ends["noise"][0]
    for name, found in steps.items():
        assert_same_rows(found, alone[name])
        picture = picture_of(alone[name][-1][0], jobs[name])
        np.testing.assert_allclose(pictures[name], picture, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cuts",
    [
        {"noise": 2, "other": 2, "flat": 0},  # one waits at the end of its first size
        {"noise": 4, "other": 11, "flat": None},  # in three sizes
        {"noise": 8, "other": 8, "flat": 4},  # all have just ended their second size
    ],
)
def test_goes_on_from_wherever_each_stood(jobs, alone, cuts):
    some = {name: jobs[name] for name in cuts}
    resume = [None if cut is None else alone[name][cut][2] for name, cut in cuts.items()]
    steps, _, failures = collected(some, resume)
    assert not failures
    for name, cut in cuts.items():
        assert_same_rows(steps[name], alone[name][0 if cut is None else cut + 1 :])


@pytest.mark.slow
def test_where_members_stand_can_be_gone_on_from_at_any_turn(jobs, alone):
    """Also where a member waits for the others, whose evaluations go on."""
    names = ["noise", "flat"]
    some = {name: jobs[name] for name in names}
    for number, steps in enumerate(run_together(list(some.values()), [None, None])):
        if number == 3:
            kept = [jax.device_get(step.state()) for step in steps]
            break
    assert [state.stage for state in kept] == [0, 0]
    assert kept[1].numbers.step == 0
    steps, *_ = collected(some, kept)
    assert_same_rows(steps["noise"], alone["noise"][4:])
    assert_same_rows(steps["flat"], alone["flat"][1:])


SWEEP = ["size=40", "steps=3", "style_size=32", "pyramid.levels=1", "scores=false", "init=noise"]


def results(folder):
    """What `result.json` says of each run, by its seed and style weight."""
    found = {}
    for path in folder.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        found[result["config"]["seed"], result["config"]["style_weight"]] = (path.parent, result)
    return dict(sorted(found.items()))


@pytest.mark.slow
def test_a_sweep_in_batches(nstyle_here, given, tmp_path):
    """The same runs as one after another, up to rounding; one compilation; each by itself there."""
    settings = ["-m", *given, *SWEEP, "seed=0,1,2", "style_weight=1e3,1e4"]
    assert nstyle_here(*settings, "batch=1")[0] == 0
    (tmp_path / "runs").rename(tmp_path / "alone")
    status, out, err = nstyle_here(*settings, "batch=4")
    assert (status, len(out.splitlines())) == (0, 7), err
    found = results(tmp_path)
    assert [result["batch"] for _, result in found.values()] == [3] * 6
    assert sum(result["compiles"] for _, result in found.values()) == 1
    for folder, result in found.values():
        assert not (folder / "checkpoint").exists()
        before = json.loads((tmp_path / "alone" / folder.name / "result.json").read_text())
        assert before["batch"] == 1
        for name in ("stop", "steps", "config", "inputs"):
            assert result[name] == before[name]
        np.testing.assert_allclose(result["best"]["loss"], before["best"]["loss"], rtol=RTOL)
        trace = (folder / "trace.csv").read_text().splitlines()
        assert len(trace) == 1 + 4
        own = f"seed={result['config']['seed']} style_weight={result['config']['style_weight']:g}"
        assert own in result["command"].replace(".0 ", " ")
        pictures = [
            images.load(where / folder.name / "result.png")
            for where in (tmp_path / "runs", tmp_path / "alone")
        ]
        np.testing.assert_allclose(*pictures, atol=1.5 / 255)  # one of 256 levels
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*-*/*")}
    assert "6 of them there already" in nstyle_here(*settings, "batch=1")[2]
    assert made == {path: path.stat().st_mtime_ns for path in made}


@pytest.mark.slow
def test_what_goes_wrong_with_one_member_is_its_own(nstyle_here, given, tmp_path, monkeypatch):
    """One cannot be built, one cannot be saved; the others are made."""
    whole, save = recording.build, images.save

    def build_some(planned):
        if planned.detail.seed == 1:
            raise NstyleError("no luck")
        return whole(planned)

    def save_some(path, image, metadata=""):
        if path.parent == folders[2]:
            raise NstyleError("no space")
        save(path, image, metadata)

    monkeypatch.setattr(recording, "build", build_some)
    monkeypatch.setattr(images, "save", save_some)
    folders = {}
    plain = sweep.batches

    def batches(members, size):
        folders.update({member.config.seed: member.folder for member in members})
        return plain(members, size)

    monkeypatch.setattr(sweepers, "batches", batches)
    status, _, err = nstyle_here("-m", *given, *SWEEP, "seed=0,1,2,3", "batch=4")
    assert status == 2
    assert err.splitlines()[-1] == "nstyle: 2 of 4 runs failed, first: no luck"
    assert [seed for seed, _ in results(tmp_path)] == [0, 3]


@pytest.mark.slow
def test_ctrl_c_saves_every_member_and_the_same_command_goes_on(
    nstyle_here, given, tmp_path, monkeypatch
):
    settings = ["-m", *given, *replaced(SWEEP, "steps=5"), "seed=0,1,2", "batch=3"]
    assert nstyle_here(*settings)[0] == 0
    (tmp_path / "runs").rename(tmp_path / "whole")
    with monkeypatch.context() as patched:
        press_ctrl_c(patched)
        status, _, err = nstyle_here(*settings)
    assert (status, err.splitlines()[-1]) == (
        130,
        "nstyle: interrupted; 0 of 3 runs done; the same command goes on",
    )
    for folder, result in results(tmp_path).values():
        assert (result["stop"], result["steps"], result["batch"]) == ("interrupted", 2, 3)
        assert (folder / "checkpoint").exists()
        assert (folder / "result.png").exists()
    assert nstyle_here(*settings)[0] == 0
    assert len(results(tmp_path)) == 3
    for folder, _ in results(tmp_path).values():
        for name in ("result.png", "trace.csv"):
            whole = tmp_path / "whole" / folder.name / name
            assert (folder / name).read_bytes() == whole.read_bytes()


DEVICES = """
import sys
import jax
from nstyle.cli import main
from nstyle.objective import stages

plain = stages.minimize_together

def spread(*arguments):
    for steps in plain(*arguments):
        shards = steps[0].best_image.args[0].addressable_shards  # of the pictures of all runs
        assert {shard.data.shape[0] for shard in shards} == {2}
        yield steps

stages.minimize_together = spread
assert len(jax.devices()) == 3
main()
"""


@pytest.mark.slow
def test_a_batch_is_spread_over_devices(nstyle_here, given, tmp_path):
    """Five runs on three simulated devices, two on each; as by themselves up to rounding."""
    settings = ["-m", *given, *SWEEP, "seed=0,1,2,3,4"]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
        "JAX_PLATFORMS": "cpu",
    }
    program = [sys.executable, "-W", "ignore", "-c", DEVICES, *settings, "batch=auto"]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "runs").rename(tmp_path / "spread")
    assert nstyle_here(*settings)[0] == 0
    for folder, result in results(tmp_path).values():
        found = json.loads((tmp_path / "spread" / folder.name / "result.json").read_text())
        assert (result["batch"], found["batch"]) == (1, 5)
        np.testing.assert_allclose(found["best"]["loss"], result["best"]["loss"], rtol=RTOL)


@pytest.fixture
def planned(nstyle_here, given, monkeypatch):
    """The batches that a sweep would launch, as the seeds in them; none is started."""
    seen = []

    def launch(_, folder, together):
        seen.extend([member.config.seed for member in members] for members in together)
        return []

    monkeypatch.setattr(sweepers.StoreSweeper, "_launch", launch)

    def arranged(*settings):
        seen.clear()
        status, _, err = nstyle_here("-m", *given, *replaced(SWEEP, *settings))
        assert status == 0, err
        return list(seen)

    return arranged


@pytest.mark.slow
def test_batches_are_of_one_kind_and_about_one_length(planned):
    seeds = "seed=0,1,2,3,4"
    assert planned(seeds) == [[0], [1], [2], [3], [4]]
    assert planned(seeds, "batch=4") == [[0, 1, 2], [3, 4]]
    assert planned(seeds, "batch=auto") == [[0, 1, 2, 3, 4]]
    assert planned(seeds, "batch=2", "hydra/launcher=processes") == [[0, 1], [2, 3], [4]]
    different = ["pooling=avg,max", "steps=3,4", "tolerance=0,1e-3", "size=32,40"]
    for setting in different:
        assert planned("seed=0,1", setting, "batch=9") == [[0, 1], [0, 1]]
    alike = ["style_weight=1,2", "tv_weight=0,1", "init=noise,content", "style_size=30,34"]
    for setting in alike:
        (together,) = planned("seed=0,1", setting, "batch=9")
        assert sorted(together) == [0, 0, 1, 1]
    assert planned("seed=0,1", "tile=32", "batch=9") == [[0], [1]]


@pytest.mark.slow
def test_as_many_as_fit_on_a_gpu_unless_told(planned, monkeypatch):
    monkeypatch.setattr(sweepers.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(sweepers, "automatic", lambda *_: 2)
    assert planned("seed=0,1,2") == [[0, 1], [2]]
    assert planned("seed=0,1,2", "batch=3") == [[0, 1, 2]]
    assert planned("seed=0,1,2", "batch=1") == [[0], [1], [2]]
    assert planned("seed=0,1,2", "hydra/launcher=processes") == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["batch=0"], "batch: 0 is neither a number of runs"),
        (["batch=many"], "batch: 'many' is neither a number of runs"),
        (["batch=1,2"], "batch: one value for all runs of a sweep"),
        (["batch=auto", "hydra/launcher=processes"], "batch: auto needs the devices"),
    ],
)
def test_wrong_batches_are_refused(nstyle_here, given, settings, told):
    status, out, err = nstyle_here("-m", *given, *SWEEP, "seed=0,1", *settings)
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert told in err
