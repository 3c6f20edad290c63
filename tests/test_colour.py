"""Colours of the photograph kept, from the arithmetic to the written file."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from compiled import prepare, value_and_grad
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nstyle import images
from nstyle.config import compose
from nstyle.errors import NstyleError
from nstyle.images import colour
from nstyle.objective import LossWeights, Structure
from nstyle.runs.planning import kind_of, plan

#: R, G, B -> Y, I, Q (FCC 1953).
YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

PHOTOGRAPHS = hnp.arrays(np.uint8, (4, 5, 3))
RESULTS = hnp.arrays(np.float32, (4, 5, 3), elements=st.floats(-1, 2, width=32))
RECOLOURED = ("matched_luminance", "cholesky", "square_root", "histogram")


def in_bytes(image):
    return np.asarray(images.to_pillow(image), int)


def covariance(image):
    return np.cov(image.reshape(-1, 3).astype(np.float64), rowvar=False, bias=True)


@settings(max_examples=50, deadline=None)
@given(photograph=PHOTOGRAPHS, result=RESULTS)
def test_written_chrominance_is_the_photographs_exactly(photograph, result):
    """Whatever was optimised: differences of channels, which I and Q are made of, are the same."""
    content = photograph.astype(np.float32) / 255
    written = in_bytes(colour.with_chrominance(result, content))
    np.testing.assert_array_equal(np.diff(written), np.diff(photograph.astype(int)))
    chrominance = (written @ YIQ.T - photograph @ YIQ.T)[..., 1:]
    np.testing.assert_allclose(chrominance, 0, atol=255 * 1.1e-3)  # rows of YIQ sum to so little


@settings(max_examples=50, deadline=None)
@given(photograph=PHOTOGRAPHS, result=RESULTS)
def test_written_luminance_is_the_nearest_that_the_colour_has(photograph, result):
    """Against all 511 shades of each pixel."""
    content = photograph.astype(np.float32) / 255
    written = in_bytes(colour.with_chrominance(result, content))
    shades = np.arange(-255, 256)[:, None, None, None] + photograph.astype(int)
    exists = ((shades >= 0) & (shades <= 255)).all(axis=-1)
    wanted = 255 * result.astype(np.float64) @ YIQ[0]
    misses = np.where(exists, abs(shades @ YIQ[0] - wanted), np.inf)
    found = abs(written @ YIQ[0] - wanted)
    np.testing.assert_allclose(found, misses.min(axis=0), atol=1e-3)


def test_chrominance_of_a_picture_that_is_not_of_8_bits(random):
    content, result = (random.random((6, 7, 3)).astype(np.float32) for _ in range(2))
    found = colour.with_chrominance(2 * result - 0.5, content)
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(np.diff(found), np.diff(content), atol=2e-7)


@pytest.mark.parametrize("root", [np.linalg.cholesky, colour.square_root])
def test_moments_become_the_others(root, random):
    """To float64's rounding but for the noise that is added to covariances."""
    points, others = (
        random.normal(size=(n, 3)) @ random.normal(size=(3, 3)) + random.normal(size=3)
        for n in (200, 300)
    )
    moved = colour.match_moments(points, others, root)
    np.testing.assert_allclose(moved.mean(axis=0), others.mean(axis=0), atol=1e-12)
    found, expected = (np.cov(values, rowvar=False, bias=True) for values in (moved, others))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_square_root_is_scipys(random):
    factor = random.normal(size=(3, 3))
    matrix = factor @ factor.T
    np.testing.assert_allclose(colour.square_root(matrix), scipy.linalg.sqrtm(matrix), atol=1e-12)


@pytest.mark.parametrize("way", ["cholesky", "square_root"])
def test_covariance_of_the_painting_is_the_photographs(way, random):
    """Pictures of little contrast, of which nothing is clipped."""
    style, content = (
        (0.5 + 0.05 * random.normal(size=(20, 30, 3)) @ mix).astype(np.float32)
        for mix in (np.eye(3), np.tri(3))
    )
    found = colour.recoloured(style, content, way)
    assert found.dtype == np.float32 and found.min() > 0 and found.max() < 1
    np.testing.assert_allclose(covariance(found), covariance(content), atol=2e-4)
    np.testing.assert_allclose(found.mean((0, 1)), content.mean((0, 1)), atol=1e-5)


def test_luminance_of_the_painting_is_matched(random):
    style = (0.4 + 0.1 * random.random((20, 30, 3))).astype(np.float32)
    content = (0.3 + 0.4 * random.random((10, 10, 3))).astype(np.float32)
    found = colour.recoloured(style, content, "matched_luminance")
    wanted = content.astype(np.float64) @ YIQ[0]
    np.testing.assert_allclose(found.mean(), wanted.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.std(), wanted.std(), rtol=0.02)
    np.testing.assert_array_equal(found, found[..., :1].repeat(3, axis=-1))


def test_histogram_of_the_painting_is_the_photographs(random):
    """As many values, none twice: those of each channel, sorted, become the photograph's."""
    style, content = (random.random((12, 12, 3)).astype(np.float32) for _ in range(2))
    found = colour.recoloured(style, content, "histogram")
    np.testing.assert_allclose(
        np.sort(found.reshape(-1, 3), axis=0), np.sort(content.reshape(-1, 3), axis=0), atol=1e-6
    )


@pytest.mark.parametrize("way", RECOLOURED)
@pytest.mark.parametrize("style", ["colours", "grey", "flat"])
@pytest.mark.parametrize("content", ["colours", "grey", "flat"])
def test_pictures_that_lack_colours(way, style, content, random):
    """Finite, and no more colours in the painting than it had."""
    kinds = {"colours": random.random((9, 8, 3)), "flat": np.full((9, 8, 3), 0.25)}
    kinds["grey"] = kinds["colours"][..., :1].repeat(3, axis=-1)
    found = colour.recoloured(*(kinds[name].astype(np.float32) for name in (style, content)), way)
    assert found.shape == (9, 8, 3) and found.min() >= 0 and found.max() <= 1
    if style == "flat":
        assert np.ptp(found.reshape(-1, 3), axis=0).max() < 1e-5
    if (style == "grey" and content == "grey") or way == "matched_luminance":
        np.testing.assert_allclose(found, found[..., :1].repeat(3, axis=-1), atol=1e-3)


def test_loss_of_luminance_is_that_of_grey_pictures(vgg16, random):
    """Of the same picture in grey; its gradient is shared by the colours as luminance is."""
    layers = {"content_layers": ("conv1_2",), "style_layers": ("conv1_1",)}
    weights = LossWeights({"conv1_2": 1.0}, {"conv1_1": 1e4}, 10.0)
    content, style, image = (jnp.asarray(random.random((9, 8, 3)), jnp.float32) for _ in range(3))

    def grey(picture):
        shades = np.asarray(picture, np.float64) @ YIQ[0]
        return jnp.asarray(shades[..., None].repeat(3, axis=-1), jnp.float32)

    def result(structure, *pictures):
        problem = prepare(structure, vgg16.params, weights, *pictures[:2])
        return value_and_grad(structure, pictures[2], problem)

    (found, _), gradient = result(Structure(luminance=True, **layers), content, style, image)
    (expected, _), of_grey = result(Structure(**layers), *map(grey, (content, style, image)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    shared = np.asarray(of_grey).sum(axis=-1, keepdims=True) * YIQ[0]
    np.testing.assert_allclose(gradient, shared, rtol=1e-3, atol=1e-4 * abs(shared).max())


SMALL = ["size=32", "style_size=50%", "pyramid.levels=1", "steps=2", "scores=false"]
SMALL += ["content_layers=[conv1_2]", "style_layers=[conv1_1]"]


@pytest.mark.slow
def test_luminance_to_the_files_of_a_batch(nstyle_here, given, pictures, tmp_path):
    """Result and saved steps of runs optimised together have the photograph's chrominance."""
    status, _, err = nstyle_here(
        "-m",
        "batch=2",
        "colour=luminance",
        "init=noise",
        "seed=0,1",
        "save_every=1",
        *given,
        *SMALL,
    )
    assert status == 0, err
    expected = np.diff(in_bytes(images.load(pictures / "content.png", 32)))
    written = list((tmp_path / "runs").glob("*/*.png"))
    assert len(written) == 6
    for path in written:
        np.testing.assert_array_equal(np.diff(in_bytes(images.load(path))), expected)


def planned(pictures, **own):
    files = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    return plan(compose(**files | {"size": 32} | own))


def test_the_painting_is_recoloured_for_targets_and_start_and_not_for_scores(pictures):
    own = {"init": "style", "style_size": "content", "pyramid.levels": 1}
    plain, found = (planned(pictures, colour=way, **own) for way in ("none", "cholesky"))
    assert found.styles == plain.styles and found.content == plain.content
    assert (found.initial,) == found.recoloured != plain.recoloured == plain.styles


def test_ways_that_change_numbers_share_a_step(pictures):
    kinds = {way: kind_of(planned(pictures, colour=way)) for way in colour.COLOURS}
    assert kinds["none"] == kinds["cholesky"] == kinds["square_root"] == kinds["histogram"]
    assert kinds["luminance"] == kinds["matched_luminance"] != kinds["none"]


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ({"colour": "luma"}, "colour: unknown value 'luma'"),
        (
            {"colour": "cholesky", "recipe": "texture"},
            "colour: cholesky .* content_layers is",
        ),
        ({"colour": "histogram", "style_layers": []}, "colour: histogram .* style_layers is empty"),
        ({"colour": "luminance", "content": None}, "content: no picture given"),
        ({"style_rotation": 10, "style_size": "content"}, "style_rotation: 10 degrees cut"),
        ({"style_rotation": 1000}, "style_rotation: 1000.0 is out of range"),
        ({"style_rotation": 45, "style_size": 20}, "style: .* pixels are too few"),
        ({"style_size": "0%"}, "size: 0% is out of range"),
        ({"style_size": "half"}, "size: 'half' is no size"),
        ({"pooling_scale": 0}, "pooling_scale: 0.0 is out of range"),
        ({"pooling_scale": 2, "rescale": True}, "pooling_scale: 2.0 with rescale=true"),
    ],
)
def test_what_makes_no_sense_is_refused(own, line, pictures):
    with pytest.raises(NstyleError, match=line):
        planned(pictures, **own)
