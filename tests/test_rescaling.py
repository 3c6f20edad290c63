"""Mean activations are kept, and kept apart for what they depend on."""

import jax.numpy as jnp
import numpy as np
import pytest

from nstyle.losses import gram_matrix, style_loss
from nstyle.networks import Average, Maximum, layer_names, network_features, rescaling


@pytest.fixture
def few_photographs(monkeypatch, tmp_path):
    monkeypatch.setenv("NSTYLE_CACHE", str(tmp_path))
    monkeypatch.setattr(rescaling, "SIDE", 48)
    monkeypatch.setattr(rescaling, "PHOTOGRAPHS", ("chelsea.png", "rocket.jpg"))
    return tmp_path


def test_photographs_are_squares_of_balanced_colours():
    pictures = rescaling.photographs()
    assert {picture.shape for picture in pictures} == {(224, 224, 3)}
    means = np.mean([picture.mean(axis=(0, 1)) for picture in pictures], axis=0)
    np.testing.assert_allclose(means, means.mean(), rtol=1e-5)


@pytest.mark.slow
def test_activations_are_kept_by_weights_pooling_and_photographs(
    few_photographs, vgg16, monkeypatch, capsys
):
    first = rescaling.activations(vgg16, Average())
    assert "measuring" in capsys.readouterr().err
    again = rescaling.activations(vgg16, Average())
    assert capsys.readouterr().err == ""
    for layer in layer_names("vgg16"):
        np.testing.assert_array_equal(first[layer], again[layer])
    others = [(vgg16, Maximum()), (vgg16._replace(sha256="0"), Average()), (vgg16, Average())]
    for number, (weights, pooling) in enumerate(others):
        if number == 2:
            monkeypatch.setattr(rescaling, "PHOTOGRAPHS", ("coffee.png",))
        rescaling.activations(weights, pooling)
        assert "measuring" in capsys.readouterr().err
    assert len(list((few_photographs / "activations").iterdir())) == 4


@pytest.mark.slow
def test_losses_compare_across_poolings_after_rescaling(
    vgg16, torch_reference, tmp_path, monkeypatch
):
    """As trained, conv4_1's loss differs by more than 50 times; rescaled, by less than 5."""
    monkeypatch.setenv("NSTYLE_CACHE", str(tmp_path))
    layers = ("conv2_1", "conv3_1", "conv4_1")
    pair = [jnp.asarray(torch_reference[name], jnp.float32) / 255 for name in ("content", "style")]

    def losses(params, pooling):
        options = {"network": "vgg16", "pooling": pooling, "pixels": "torchvision"}
        features = [network_features(params, picture, layers=layers, **options) for picture in pair]
        grams = [[gram_matrix(feature[layer]) for layer in layers] for feature in features]
        return np.array([float(style_loss(*both)) for both in zip(*grams, strict=True)])

    before = losses(vgg16.params, Maximum()) / losses(vgg16.params, Average())
    after = losses(rescaling.rescaled(vgg16, Maximum()), Maximum()) / losses(
        rescaling.rescaled(vgg16, Average()), Average()
    )
    assert before[-1] > 50
    assert (after > 0.2).all()
    assert (after < 5).all(), after
