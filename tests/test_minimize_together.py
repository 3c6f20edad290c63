"""Runs that are optimised together follow the course that each has by itself."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import prepare

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.objective import LossWeights, Structure
from nstyle.objective.problems import equal_weights, objective
from nstyle.solvers import (
    LBFGS,
    SGD,
    STEP_PROGRAM,
    Adam,
    Stopping,
    minimize,
    minimize_together,
)
from nstyle.solvers.compiled import stacked

SHAPE = (4, 5, 3)


def bowl(image, args):
    """A quadratic over `offset`; where it is below `floor` or above `limit` it is NaN."""
    value = 0.5 * jnp.sum(args["scales"] * (image - 0.3) ** 2)
    usable = (value >= args["floor"]) & (value <= args["limit"])
    return jnp.where(usable, value + args["offset"], jnp.nan), {"raw": value}


#: Members that all end differently: where they start, and their numbers beside those of `PLAIN`.
PLAIN = {"offset": 0.0, "floor": 0.0, "limit": math.inf}
MEMBERS = {
    "plain": (0.0, {}),
    "walled": (1.0, {"limit": 330.0}),  # a little above its first loss
    "flat": (0.3, {}),
    "lost": (math.nan, {}),
    "stuck": (0.5, {"floor": 26.39}),  # a little below its first loss
    "slow": (0.0, {"offset": 1e6}),
}
METHODS = {
    "lbfgs": LBFGS(history_size=5, first_change=0.5),
    "rounds": LBFGS(history_size=5, restart_every=4),
    "sobolev": LBFGS(history_size=5, first_change=0.5, sobolev=0.5),
    "adam": Adam(1.0),
    "sgd": SGD(0.021, decay=0.9, decay_steps=5),
}
STOPPING = Stopping(24, tolerance=1e-3, patience=6, max_restarts=3)


@pytest.fixture
def scales(random):
    return jnp.asarray(random.permutation(np.geomspace(1, 100, 60)).reshape(SHAPE), jnp.float32)


def cast(scales, names=tuple(MEMBERS)):
    """The members' starts, stacked, and their arguments; `scales` are shared."""
    starts = jnp.stack([jnp.full(SHAPE, MEMBERS[name][0]) for name in names])
    return starts, [PLAIN | MEMBERS[name][1] | {"scales": scales} for name in names]


def alone(start, args, method, stopping=STOPPING, function=bowl):
    try:
        return list(minimize(function, start, args, method, stopping))
    except NstyleError as error:
        return error


def together(starts, own, method, stopping=STOPPING, function=bowl, **options):
    """The new steps of each run, and where all stood after each evaluation."""
    rounds = list(minimize_together(function, starts, own, method, stopping, **options))
    steps = [[x for x in course if is_new(x)] for course in zip(*rounds, strict=True)]
    return steps, rounds


def is_new(step):
    return not isinstance(step, NstyleError) and step.is_new


def decided(item):
    return item.step, item.best_step, item.restarts, item.stop


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_members_do_what_each_does_by_itself(method, scales):
    """Bit by bit on the CPU; what is decided is compared exactly, numbers to a relative 1e-6."""
    starts, own = cast(scales)
    steps, rounds = together(starts, own, method)
    stops = set()
    for i, (start, args) in enumerate(zip(starts, own, strict=True)):
        expected = alone(start, args, method)
        if isinstance(expected, NstyleError):
            assert steps[i] == []
            assert {str(found[i]) for found in rounds} == {str(expected)}
            continue
        assert list(map(decided, steps[i])) == list(map(decided, expected))
        for name in ("value", "gradient_norm", "best_value"):
            found, wanted = ([getattr(item, name) for item in run] for run in (steps[i], expected))
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
        for found, wanted in zip(steps[i], expected, strict=True):
            np.testing.assert_allclose(found.aux["raw"], wanted.aux["raw"], rtol=1e-6)
        found, wanted = rounds[-1][i].best_image(), expected[-1].best_image()
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        stops.add(expected[-1].stop)
    assert stops == {"steps", "flat", "diverged", "converged"}


def test_the_members_of_this_test_restart_and_go_on(scales):
    """Else the test above would say nothing of restarts."""
    for method in (METHODS["lbfgs"], METHODS["adam"]):
        steps, _ = together(*cast(scales, ["plain", "walled"]), method)
        assert max(run[-1].restarts for run in steps) > 0
        for run in steps:
            assert run[-1].best_step > next((x.step for x in run if x.restarts), 0)


def test_a_restart_costs_the_others_nothing(scales):
    """A member takes a step in every round but those in which it goes back to its best picture."""
    starts, own = cast(scales, ["slow", "walled", "plain", "stuck"])
    steps, rounds = together(starts, own, METHODS["adam"])
    for i, run in enumerate(steps):
        assert [item.step for item in run] == list(range(len(run)))
        last = max(number for number, found in enumerate(rounds) if is_new(found[i]))
        assert last == run[-1].step + run[-1].restarts
    restarts = [run[-1].restarts for run in steps]
    assert restarts[0] == 0 < min(restarts[1:])


def test_a_member_that_has_stopped_stays_as_it_was(scales):
    starts, own = cast(scales, ["stuck", "plain", "slow"])
    ended = {}
    for found in minimize_together(bowl, starts, own, METHODS["lbfgs"], STOPPING):
        for i, step in enumerate(found):
            if step.stop:
                image = np.asarray(step.best_image())
                before, kept = ended.setdefault(i, (step, image))
                assert (decided(step), step.value) == (decided(before), before.value)
                assert step is before or not step.is_new
                np.testing.assert_array_equal(image, kept)
    assert len({step.step for step, _ in ended.values()}) == 3


def test_one_program_whatever_members_do(scales):
    """Traces are counted by a side effect, compilations by JAX's own monitoring."""
    traces, compiled = [], []

    def counted(image, args):
        traces.append(1)
        return bowl(image, args)

    def heard(event, duration, **what):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(what.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        for names in (["plain", "walled"], ["stuck", "slow"]):
            together(*cast(scales, names), METHODS["adam"], function=counted)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert len(traces) == 1
    assert compiled.count(STEP_PROGRAM) == 1


@pytest.mark.parametrize("method", [METHODS["rounds"], METHODS["adam"]], ids=["rounds", "adam"])
@pytest.mark.parametrize("cut", [0, 4, 9])
def test_goes_on_from_states_in_any_company(method, cut, scales):
    """A run goes on by itself, or in another batch beside one that only starts."""
    starts, own = cast(scales, ["plain", "walled", "stuck"])
    states, whole = [], [[], [], []]
    for number, found in enumerate(minimize_together(bowl, starts, own, method, STOPPING)):
        if number == cut:
            states = [jax.device_get(step.state()) for step in found]
        if number > cut:
            for i, step in enumerate(found):
                whole[i] += [step] if step.is_new else []
    for i in range(2):
        rest = list(minimize(bowl, states[i], own[i], method, STOPPING))
        assert list(map(decided, rest)) == list(map(decided, whole[i]))
        np.testing.assert_allclose(rest[-1].value, whole[i][-1].value, rtol=1e-6)
    steps, rounds = together([states[1], starts[0]], [own[1], own[0]], method)
    assert list(map(decided, steps[0])) == list(map(decided, whole[1]))
    assert list(map(decided, steps[1])) == list(map(decided, alone(starts[0], own[0], method)))
    assert all(len(found) == 2 for found in rounds)


def test_what_all_members_have_is_shared(scales):
    shared, starts = np.ones((3, 2)), [np.zeros(4), np.ones(4)]
    args, axes = stacked([{"w": shared, "x": start, "n": 1.0, "same": starts} for start in starts])
    assert args["w"] is shared
    assert args["same"] == starts
    assert dict(zip(["n", "same", "same too", "w", "x"], axes, strict=True)) == {
        **{"n": 0, "x": 0},
        **dict.fromkeys(["same", "same too", "w"]),
    }
    np.testing.assert_array_equal(args["x"], starts)
    assert args["n"].shape == (2,)
    with pytest.raises(NstyleError, match=r"one shape, not \(4,\) and \(5,\)"):
        stacked([{"x": np.zeros(4)}, {"x": np.zeros(5)}])


@pytest.fixture(scope="module")
def small(vgg16, pictures):
    """Three problems at 32 px that differ in style weight, and noise to start from."""
    structure = Structure(content_layers=("conv2_2",), style_layers=("conv1_1", "conv3_1"))
    params = jax.tree.map(jnp.asarray, vgg16.params)
    content = images.load(pictures / "content.png", "32x32")
    style = images.load(pictures / "style.png", "32x32")

    def weights(total):
        return LossWeights(
            equal_weights(structure.content_layers, 1.0),
            equal_weights(structure.style_layers, total),
        )

    problem = prepare(structure, params, weights(1.0), content, style)
    problems = [problem._replace(weights=weights(total)) for total in (1e4, 1e5, 1e6)]
    starts = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    return structure, problems, jnp.asarray(starts)


def test_follows_single_runs_of_the_network(small):
    """Rounding differs with the size of a batch, and L-BFGS amplifies it step by step."""
    structure, problems, starts = small
    method, stopping = LBFGS(history_size=10), Stopping(12)
    function = objective(structure)
    steps, _ = together(starts, problems, method, stopping, function)
    for i, problem in enumerate(problems):
        expected = alone(starts[i], problem, method, stopping, function)
        assert list(map(decided, steps[i])) == list(map(decided, expected))
        found, wanted = (np.array([item.value for item in run]) for run in (steps[i], expected))
        np.testing.assert_allclose(found[:6], wanted[:6], rtol=1e-5)
        np.testing.assert_allclose(found, wanted, rtol=2e-2)


FOUR_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from nstyle.solvers import LBFGS, STEP_PROGRAM, Stopping, minimize_together

compiled = []

def heard(event, duration, **what):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(what.get("fun_name"))

jax.monitoring.register_event_duration_secs_listener(heard)

def textured(image, args):
    features = jax.lax.conv_general_dilated(
        image[None], args["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0].reshape(-1, 4)
    value = jnp.sum((jnp.tanh(features).T @ features - args["gram"]) ** 2)
    return jnp.where(value > args["limit"], jnp.nan, value), {}

random = np.random.default_rng(3)
kernel = random.normal(size=(3, 3, 3, 4)).astype(np.float32)
grams = random.normal(size=(6, 4, 4)).astype(np.float32)
limits = np.array([np.inf, np.inf, 0.0, np.inf, np.inf, np.inf], np.float32)
problems = [
    {"kernel": kernel, "gram": gram, "limit": limit} for gram, limit in zip(grams, limits)
]
starts = random.random((6, 8, 8, 3), np.float32)
found = {}
for devices in (None, jax.devices()):
    method = LBFGS(history_size=4, first_change=2.0)
    for last in minimize_together(
        textured, starts, problems, method, Stopping(15), devices=devices
    ):
        found[devices is None] = last
    best_images = last[0].best_image.args[0]
    places = {shard.data.shape for shard in best_images.addressable_shards}
    assert places == ({(6, 8, 8, 3)} if devices is None else {(2, 8, 8, 3)}), places
assert len(jax.devices()) == 4
assert compiled.count(STEP_PROGRAM) == 2, compiled
one, four = found[True], found[False]
assert [getattr(step, "stop", "lost") for step in four] == ["steps"] * 2 + ["lost"] + ["steps"] * 3
steps = [(ours, theirs) for ours, theirs in zip(one, four) if hasattr(ours, "stop")]
assert max(step.restarts for step, _ in steps) > 0
for step, other in steps:
    assert (step.step, step.restarts, step.stop) == (other.step, other.restarts, other.stop)
    np.testing.assert_allclose(step.best_value, other.best_value, rtol=1e-3)
    np.testing.assert_allclose(step.best_image(), other.best_image(), atol=1e-3)
"""


@pytest.mark.slow
def test_four_devices_give_what_one_gives():
    """Six members on four devices: two places are filled up, two members on each."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    program = [sys.executable, "-W", "ignore", "-c", FOUR_DEVICES]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
