"""Members of a batch follow the course that each has by itself, whatever the others do."""

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstyle import images
from nstyle.batch import (
    CPU_PIXELS,
    automatic,
    batch_size,
    compile_batch,
    member_bytes,
    minimize_batch,
    shared_bytes,
    stacked,
)
from nstyle.errors import NstyleError
from nstyle.networks import extent, kernel_shape, layer_names, width
from nstyle.objective import LossWeights, Problem, Structure, Targets
from nstyle.solver import (
    LBFGS,
    SGD,
    STEP_PROGRAM,
    Adam,
    Stopping,
    check_start,
    minimize,
)
from nstyle.transfer import equal_weights, objective, prepare

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
    """The steps of each member, and the rounds."""
    args, axes = stacked(own)
    rounds = []
    steps = [[] for _ in own]
    for found in minimize_batch(function, starts, args, axes, method, stopping, **options):
        rounds.append(found)
        for i in found.advanced:
            steps[i].append(found.members[i])
    return steps, rounds


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
            (only,) = steps[i]
            assert decided(only) == (0, 0, 0, "diverged")
            with pytest.raises(NstyleError, match=str(expected)):
                check_start(only.value, only.gradient_norm)
            continue
        assert list(map(decided, steps[i])) == list(map(decided, expected))
        for name in ("value", "gradient_norm", "best_value"):
            found, wanted = ([getattr(item, name) for item in run] for run in (steps[i], expected))
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
        for found, wanted in zip(steps[i], expected, strict=True):
            np.testing.assert_allclose(found.aux["raw"], wanted.aux["raw"], rtol=1e-6)
        np.testing.assert_allclose(rounds[-1].best_image(i), expected[-1].best_image, rtol=1e-5)
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
        last = max(number for number, found in enumerate(rounds) if i in found.advanced)
        assert last == run[-1].step + run[-1].restarts
    restarts = [run[-1].restarts for run in steps]
    assert restarts[0] == 0 < min(restarts[1:])


def test_a_member_that_has_stopped_stays_as_it_was(scales):
    starts, own = cast(scales, ["stuck", "plain", "slow"])
    args, axes = stacked(own)
    ended = {}
    for found in minimize_batch(bowl, starts, args, axes, METHODS["lbfgs"], STOPPING):
        for i, member in enumerate(found.members):
            if member.stop:
                image = np.asarray(found.best_image(i))
                before, kept = ended.setdefault(i, (member, image))
                assert before is member
                np.testing.assert_array_equal(image, kept)
    assert len({member.step for member, _ in ended.values()}) == 3


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
def test_goes_on_from_courses_in_any_company(method, cut, scales):
    """A member goes on by itself, or in another batch beside one that only starts."""
    starts, own = cast(scales, ["plain", "walled", "stuck"])
    args, axes = stacked(own)
    courses, whole = [], [[], [], []]
    for number, found in enumerate(minimize_batch(bowl, starts, args, axes, method, STOPPING)):
        if number == cut:
            courses = [jax.device_get(found.course(i)) for i in range(3)]
        if number > cut:
            for i in found.advanced:
                whole[i].append(found.members[i])
    for i in range(2):
        rest = list(minimize(bowl, starts[i], own[i], method, STOPPING, resume=courses[i]))
        assert list(map(decided, rest)) == list(map(decided, whole[i]))
        np.testing.assert_allclose(rest[-1].value, whole[i][-1].value, rtol=1e-6)
    resume = [courses[1], None]
    chosen = jnp.stack([starts[1], starts[0]])
    steps, rounds = together(chosen, [own[1], own[0]], method, resume=resume)
    assert list(map(decided, steps[0])) == list(map(decided, whole[1]))
    assert list(map(decided, steps[1])) == list(map(decided, alone(starts[0], own[0], method)))
    assert all(len(found.members) == 2 for found in rounds)


def test_what_all_members_have_is_shared(scales):
    shared, starts = np.ones((3, 2)), [np.zeros(4), np.ones(4)]
    args, axes = stacked([{"w": shared, "x": start, "n": 1.0, "same": starts} for start in starts])
    assert args["w"] is shared
    assert args["same"] == starts
    assert axes == {"w": None, "x": 0, "n": 0, "same": [None, None]}
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


def test_memory_of_a_member_is_what_the_compiler_needs():
    """What one more member adds to the compiled step; the network is there once."""
    structure, side, method = Structure(), 64, LBFGS(history_size=20)
    floats = jax.ShapeDtypeStruct

    def compiled_bytes(count):
        network = {
            name: {
                "kernel": floats(kernel_shape(name, "vgg16"), jnp.float32),
                "bias": floats((width(name, "vgg16"),), jnp.float32),
            }
            for name in layer_names("vgg16")
        }
        content = {
            name: floats(
                (count, *extent(name, "vgg16", (side, side)), width(name, "vgg16")), "float32"
            )
            for name in structure.content_layers
        }
        style = {
            name: (floats((count, width(name, "vgg16"), width(name, "vgg16")), "float32"),)
            for name in structure.style_layers
        }
        numbers = LossWeights(
            *(dict.fromkeys(layers, floats((count,), "float32")) for layers in (content, style)),
            floats((count,), "float32"),
        )
        args = Problem(network, Targets(content, style), numbers)
        axes = Problem(None, 0, 0, blend=None)
        is_none = {"is_leaf": lambda leaf: leaf is None}
        leaves, treedef = jax.tree.flatten(args)
        by_leaf = tuple(jax.tree.leaves(jax.tree.broadcast(axes, args, **is_none), **is_none))
        programs = compile_batch(objective(structure), method, 1.0, treedef, by_leaf, None)
        pictures = floats((count, side, side, 3), "float32")
        memory = jax.eval_shape(programs.blank, pictures)
        need = programs.step.lower(pictures, memory, leaves).compile().memory_analysis()
        return (
            need.argument_size_in_bytes
            + need.output_size_in_bytes
            - need.alias_size_in_bytes
            + need.temp_size_in_bytes
        )

    one, three = compiled_bytes(1), compiled_bytes(3)
    assert 1.0 < member_bytes(structure, (side, side, 3), method) / ((three - one) / 2) < 1.3
    np.testing.assert_allclose(shared_bytes(structure), one - (three - one) / 2, rtol=0.1)


def test_as_many_as_fit():
    structure, shape, method = Structure(), (64, 48, 3), Adam()
    each, shared = member_bytes(structure, shape, method), shared_bytes(structure)
    for count in (1, 2, 7):
        enough = math.ceil((shared + count * each) / 0.9)
        assert batch_size(structure, shape, method, enough + 1) == count
        assert batch_size(structure, shape, method, enough - 10) == max(1, count - 1)
    assert batch_size(structure, shape, method, 0) == 1
    rememberings = {LBFGS(history_size=50): 100, LBFGS(history_size=10): 20, method: 3, SGD(): 1}
    for other, pictures in rememberings.items():
        more = member_bytes(structure, shape, other) - each
        assert more == 64 * 48 * 12 * (pictures - 3)


def device(limit, used):
    return SimpleNamespace(memory_stats=lambda: {"bytes_limit": limit, "bytes_in_use": used})


def test_automatic_size_by_device():
    structure, shape, method = Structure(), (64, 64, 3), LBFGS()
    both = [device(8 * 2**30, 2**30), device(8 * 2**30, 2 * 2**30)]
    fits = batch_size(structure, shape, method, 6 * 2**30)
    assert fits > 50
    assert automatic(structure, shape, method, both[1:]) == fits
    assert automatic(structure, shape, method, both) == 2 * fits
    assert automatic(structure, shape, method) == CPU_PIXELS // 64**2 == 16
    assert automatic(structure, (512, 512, 3), method) == 1


FOUR_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from nstyle.batch import minimize_batch
from nstyle.solver import LBFGS, STEP_PROGRAM, Stopping

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
args = {
    "kernel": random.normal(size=(3, 3, 3, 4)).astype(np.float32),
    "gram": random.normal(size=(6, 4, 4)).astype(np.float32),
    "limit": np.array([np.inf, np.inf, 0.0, np.inf, np.inf, np.inf], np.float32),
}
axes = {"kernel": None, "gram": 0, "limit": 0}
starts = random.random((6, 8, 8, 3), np.float32)
found = {}
for devices in (None, jax.devices()):
    method = LBFGS(history_size=4, first_change=2.0)
    for last in minimize_batch(
        textured, starts, args, axes, method, Stopping(15), devices=devices
    ):
        state = last.course.args[0]
        found[devices is None] = last
    places = {shard.data.shape for shard in state.memory.s_history.addressable_shards}
    assert places == ({(6, 4, 8, 8, 3)} if devices is None else {(2, 4, 8, 8, 3)}), places
assert len(jax.devices()) == 4
assert compiled.count(STEP_PROGRAM) == 2, compiled
one, four = found[True], found[False]
assert len(four.members) == 6
assert [m.stop for m in four.members] == ["steps", "steps", "diverged", "steps", "steps", "steps"]
assert max(m.restarts for m in four.members) > 0
for i, (member, other) in enumerate(zip(one.members, four.members)):
    assert (member.step, member.restarts, member.stop) == (other.step, other.restarts, other.stop)
    np.testing.assert_allclose(member.best_value, other.best_value, rtol=1e-3)
    np.testing.assert_allclose(one.best_image(i), four.best_image(i), atol=1e-3)
"""


def test_four_devices_give_what_one_gives():
    """Six members on four devices: two places are filled up, two members on each."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    program = [sys.executable, "-W", "ignore", "-c", FOUR_DEVICES]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
