"""Dead leaves are what the model of them says, and decided by the generator alone."""

import numpy as np
import pytest

from nstyle import images
from nstyle.feedforward import dead_leaves


@pytest.mark.parametrize("size", [16, 48])
def test_a_picture_is_decided_by_the_generator(size):
    first, same, other = (
        dead_leaves.dead_leaves(size, np.random.default_rng(i)) for i in (1, 1, 2)
    )
    assert first.shape == (size, size, 3)
    assert first.dtype == np.float32
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1


def test_edges_have_the_spectrum_of_photographs():
    """Power falls as a power of frequency between 2 and 3.5; that of noise does not fall."""
    random = np.random.default_rng(0)
    size, count = 64, 40
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = np.zeros((size, size))
    for _ in range(count):
        grey = dead_leaves.dead_leaves(size, random).mean(axis=-1)
        power += np.abs(np.fft.fft2(window * (grey - grey.mean()))) ** 2
    frequency = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(size, 1 / size)]))
    radii = np.arange(3, size // 4)
    means = [power[np.round(frequency) == radius].mean() for radius in radii]
    slope, _ = np.polyfit(np.log(radii), np.log(means), 1)
    assert -3.5 < slope < -2


def test_outlines_are_ellipses_and_rectangles_around_their_centres(random):
    radii = np.array([[0.1], [0.2]]).repeat(50, axis=0)
    centres = random.random((100, 2))
    outlines = dead_leaves._outlines(radii, centres, random)
    np.testing.assert_allclose(outlines.mean(axis=1), centres, atol=1e-12)
    far = np.linalg.norm(outlines - centres[:, None], axis=-1).max(axis=1) / radii[:, 0]
    ellipses = np.isclose(far, 1)
    # A rectangle of half sides 1 and a, 0.4 at least, has its corners at the root of 1 + a^2.
    assert ((far[~ellipses] >= np.sqrt(1 + 0.4**2)) & (far[~ellipses] <= np.sqrt(2) + 1e-9)).all()
    assert 50 < ellipses.sum() < 90


def test_later_polygons_are_drawn_above():
    def square(left, right):
        return [[left, left], [right, left], [right, right], [left, right]]

    which = images.drawn(np.array([square(1, 4), square(3, 6)], float), 9, 8)
    expected = np.zeros((8, 9), int)
    expected[1:5, 1:5] = 1
    expected[3:7, 3:7] = 2
    np.testing.assert_array_equal(which, expected)
