"""What the memory estimates say, against the compiler's own count."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from nstyle.networks import extent, kernel_shape, layer_names, width
from nstyle.objective import LossWeights, Problem, Structure, Targets
from nstyle.objective.memory import CPU_PIXELS, automatic, batch_size, member_bytes, shared_bytes
from nstyle.objective.problems import objective
from nstyle.solvers import LBFGS, SGD, Adam
from nstyle.solvers.compiled import Many, compiled


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
        problem = Problem(network, Targets(content, style), numbers)
        paths, tree = jax.tree.flatten_with_path(problem)
        shared = ("params", "blend")
        axes = tuple(None if path[0].name in shared else 0 for path, _ in paths)
        functions = compiled(objective(structure), method, 1.0, Many(tree, axes, None))
        pictures = floats((count, side, side, 3), "float32")
        memory = jax.eval_shape(functions.blank, pictures)
        need = functions.step.lower(pictures, memory, problem).compile().memory_analysis()
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
