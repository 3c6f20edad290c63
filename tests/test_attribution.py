"""What each term does to a picture: against the whole loss, and by hand."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compiled import features_of, prepare, value_and_grad

from nstyle import images
from nstyle.losses import Cosine, NearestNeighbour, StyleLoss
from nstyle.networks import GeM
from nstyle.objective import LossWeights, Structure, attribution, objective
from nstyle.objective.attribution import parts
from nstyle.objective.sensitivity import sensitivity
from nstyle.solvers import LBFGS


@pytest.fixture
def arrays(random):
    return [jnp.asarray(random.random((24, 28, 3)), jnp.float32) for _ in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"style_loss": NearestNeighbour(), "content_loss": Cosine(), "pooling": GeM(exponent=4.0)},
        {"luminance": True, "value_range": 255.0},
    ],
)
def test_parts_are_the_whole(options, vgg16, arrays):
    """Losses and slopes of all terms sum to those of the total loss."""
    jax.clear_caches()
    structure = Structure(
        content_layers=("conv2_2",), style_layers=("conv1_1", "conv2_1.pre"), **options
    )
    weights = LossWeights({"conv2_2": 1.0}, {"conv1_1": 3.0, "conv2_1.pre": 2.0}, 0.5)
    problem = prepare(structure, vgg16.params, weights, *arrays[:2], balanced=True)
    image = structure.value_range * arrays[2]
    found = parts(structure, image, problem)
    assert list(found) == ["content/conv2_2", "style/conv1_1", "style/conv2_1.pre", "tv"]
    (total, _), slope = value_and_grad(structure, image, problem)
    np.testing.assert_allclose(sum(part.loss for part in found.values()), total, rtol=1e-5)
    summed = sum(part.slope for part in found.values())
    scale = float(jnp.abs(slope).max())
    np.testing.assert_allclose(summed, slope, rtol=1e-4, atol=1e-5 * scale)
    assert found["tv"].pull == {}
    if not options:  # a program of each kind for all terms
        assert (attribution._slope._cache_size(), attribution._pull._cache_size()) == (1, 1)
    assert {term: list(part.pull) for term, part in found.items() if part.pull} == {
        "content/conv2_2": ["conv2_2"],
        "style/conv1_1": ["conv1_1"],
        "style/conv2_1.pre": ["conv2_1.pre"],
    }


def test_pulls_of_content_and_gram_by_hand(vgg16, arrays):
    """2 w (F - P) / n of the mean of squares; 4 w F (G - A) / (h w c) of the Gram loss."""
    structure = Structure(content_layers=("conv1_2",), style_layers=("conv1_1",))
    weights = LossWeights({"conv1_2": 2.0}, {"conv1_1": 3.0})
    problem = prepare(structure, vgg16.params, weights, *arrays[:2])
    found = parts(structure, arrays[2], problem)

    def features(picture, layer):
        return np.asarray(features_of(structure, vgg16.params, picture, (layer,))[layer], float)

    own, photograph = features(arrays[2], "conv1_2"), features(arrays[0], "conv1_2")
    expected = np.linalg.norm(2 * 2.0 * (own - photograph) / own.size, axis=2)
    pull = found["content/conv1_2"].pull["conv1_2"]
    np.testing.assert_allclose(pull, expected, rtol=1e-4, atol=1e-9)
    own, painting = (features(picture, "conv1_1").reshape(-1, 64) for picture in arrays[2:0:-1])
    difference = (own.T @ own - painting.T @ painting) / own.size
    expected = np.linalg.norm(4 * 3.0 * own @ difference / own.size, axis=1).reshape(24, 28)
    pull = found["style/conv1_1"].pull["conv1_1"]
    np.testing.assert_allclose(pull, expected, rtol=1e-3, atol=1e-6 * expected.max())


@pytest.mark.slow
def test_a_run_is_inspected(nstyle_here, given, tmp_path):
    quick = ["size=40", "steps=4", "pyramid.levels=1", "scores=false", "tolerance=0"]
    assert nstyle_here(*given, *quick, "save_every=2")[0] == 0
    (folder,) = tmp_path.glob("runs/content-*")
    status, out, err = nstyle_here("inspect", str(folder))
    assert status == 0, err
    assert out.splitlines() == [str(folder / "inspection.csv"), str(folder / "inspection.png")]
    table = pd.read_csv(folder / "inspection.csv")
    assert table.groupby("picture")["share_of_loss"].sum().to_numpy() == pytest.approx(1.0)
    assert sorted(table["step"].unique()) == [2, 4]
    best = pd.read_csv(folder / "trace.csv")["loss"].min()
    own = table[table["picture"] == "result.png"]
    assert own["loss"].sum() == pytest.approx(best, rel=0.05)  # pixels of 8 bits
    sheet = images.load(folder / "inspection.png")
    assert sheet.shape[0] > sheet.shape[1]  # a row for each of seven terms
    assert nstyle_here(*given, *quick, "save_every=2", "reuse=false")[0] == 0
    assert not (folder / "inspection.png").exists()  # it was of another picture
    (folder / "result.png").write_bytes(b"")
    status, _, err = nstyle_here("inspect", str(folder))
    assert (status, err.count("\n")) == (2, 1)


@dataclass(frozen=True)
class MeanColour(StyleLoss):
    """The mean of each channel: at pixels the best picture is the photograph, lighter or darker."""

    name = "mean_colour"

    def statistic(self, features):
        return jnp.mean(features, axis=(0, 1))

    def compare(self, found, target, pixels):
        return jnp.sum(jnp.square(found - target))


@pytest.mark.slow
def test_what_a_layers_weight_changes_has_a_known_answer(vgg16, arrays):
    """a C t^2 + b S (1 - t)^2 is least at t = b S / (a C + b S), t the share of the way."""
    photograph, painting = arrays[0], arrays[1] ** 2
    structure = Structure(
        content_layers=("input",), style_layers=("input",), style_loss=MeanColour()
    )
    weights = LossWeights({"input": 2.0}, {"input": 0.3})
    problem = prepare(structure, vgg16.params, weights, photograph, painting)

    def terms(picture):
        found = objective(structure)(picture, problem)[1]
        return {"content": float(found.content["input"]), "style": float(found.style["input"])}

    to_the_painting = jnp.mean(painting - photograph, axis=(0, 1))
    all_content = terms(photograph + to_the_painting)["content"]
    all_style = terms(photograph)["style"]

    def share(factor):
        style = factor * 0.3 * all_style
        return style / (2.0 * all_content + style)

    best = photograph + share(1.0) * to_the_painting
    slope = sensitivity(structure, problem, best, LBFGS(), terms, "input")
    more, less = share(2**0.5), share(2**-0.5)
    assert slope["content"] == pytest.approx(all_content * (more**2 - less**2), rel=1e-3)
    expected = all_style * ((1 - more) ** 2 - (1 - less) ** 2)
    assert slope["style"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_a_run_says_how_its_scores_depend_on_its_layers(nstyle_here, given, tmp_path):
    quick = ["size=40", "steps=4", "pyramid.levels=1", "tolerance=0"]
    layers = ["style_layers=[conv1_1,conv2_1]", "style_layer_weights=[1,0]"]
    assert nstyle_here(*given, *quick, *layers)[0] == 0
    (folder,) = tmp_path.glob("runs/content-*")
    status, out, err = nstyle_here("inspect", "--sensitivity", str(folder))
    assert status == 0, err
    assert out.splitlines()[-1] == str(folder / "sensitivity.csv")
    table = pd.read_csv(folder / "sensitivity.csv")
    assert list(table["layer"]) == ["conv1_1"]  # the other has no weight
    assert {"colour_histogram", "ssim_content"} <= set(table)
    assert table["ssim_content"].abs().item() > 0


@pytest.mark.slow
def test_what_cannot_be_inspected_is_one_line(nstyle_here, given, tmp_path):
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false", "tolerance=0"]
    assert nstyle_here(*given, *quick, "tile=16")[0] == 0
    (folder,) = tmp_path.glob("runs/content-*")
    for where, line in ((folder, "a run by tiles"), (tmp_path / "none", "no finished run")):
        status, _, err = nstyle_here("inspect", str(where))
        assert (status, err.count("\n")) == (2, 1)
        assert line in err


@pytest.mark.slow
def test_a_run_with_ones_own_loss_is_inspected(nstyle_here, given, tmp_path):
    own = f"--config-dir={Path(__file__).parent / 'extensions'}"
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false", "style_loss=angle"]
    assert nstyle_here(own, *given, *quick)[0] == 0
    (folder,) = tmp_path.glob("runs/content-*")
    assert nstyle_here("inspect", own, str(folder))[0] == 0
