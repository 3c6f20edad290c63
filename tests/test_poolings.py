"""Every pooling against float64 NumPy, at windows of 2 (VGG) and of 3 (AlexNet)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import prepare
from conftest import command
from scipy.ndimage import correlate1d
from scipy.special import softmax
from scipy.stats import chisquare

from nstyle.errors import NstyleError
from nstyle.networks import (
    NETWORKS,
    POOLINGS,
    Average,
    Each,
    GeM,
    Lp,
    Maximum,
    Mixed,
    Soft,
    Stochastic,
    network_features,
)
from nstyle.objective import LossWeights, Structure, objective


def parts(x, edge):
    """The values of every window, (rows, columns, channels, edge^2), in float64."""
    rows, columns = ((length - edge) // 2 + 1 for length in x.shape[:2])
    found = [
        x[top : top + 2 * rows - 1 : 2, left : left + 2 * columns - 1 : 2]
        for top in range(edge)
        for left in range(edge)
    ]
    return np.stack(found, axis=-1).astype(np.float64)


def blurred(x, edge):
    """Every other value of the maxima of windows that go by one, blurred."""
    dense = maximum(x, edge)
    for axis in (0, 1):
        dense = correlate1d(dense, [0.25, 0.5, 0.25], axis=axis, mode="mirror")
    return dense[::2, ::2]


def maximum(x, edge):
    """The maximum of every window of `edge` positions that goes by one."""
    size = [length - edge + 1 for length in x.shape[:2]]
    shifts = [(top, left) for top in range(edge) for left in range(edge)]
    return np.max([x[a : a + size[0], b : b + size[1]] for a, b in shifts], axis=0).astype(float)


REFERENCES = {
    "avg": lambda x, edge: parts(x, edge).mean(-1),
    "max": lambda x, edge: parts(x, edge).max(-1),
    "l2": lambda x, edge: 1.57 * np.sqrt((parts(x, edge) ** 2).mean(-1)),
    "gem": lambda x, edge: (parts(x, edge) ** 3).mean(-1) ** (1 / 3),
    "lp": lambda x, edge: np.linalg.norm(parts(x, edge), 2, axis=-1),
    "mixed": lambda x, edge: 0.5 * (parts(x, edge).max(-1) + parts(x, edge).mean(-1)),
    "soft": lambda x, edge: (softmax(parts(x, edge), axis=-1) * parts(x, edge)).sum(-1),
    "blur": blurred,
    "stride": lambda x, edge: parts(x, edge)[..., 0],
}


def features(random, shape=(9, 12, 5)):
    """Features after a ReLU: half of them zero, one window of nothing else, no two alike."""
    x = np.maximum(random.normal(size=shape), 0).astype(np.float32)
    x[:4, :4] = 0
    return x


@pytest.mark.parametrize("edge", [2, 3])
@pytest.mark.parametrize("name", REFERENCES)
def test_every_pooling_equals_numpy(name, edge, random):
    x = features(random)
    found = POOLINGS[name]()(jnp.asarray(x), edge)
    np.testing.assert_allclose(found, REFERENCES[name](x, edge), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("edge", [2, 3])
@pytest.mark.parametrize("name", REFERENCES)
def test_every_gradient_equals_finite_differences_of_numpy(name, edge, random):
    """Along directions that keep zeros zero: there most have a corner, and a ReLU no slope."""
    x = features(random, (6, 7, 3))
    weights = random.normal(size=REFERENCES[name](x, edge).shape)
    gradient = jax.grad(lambda x: jnp.sum(weights * POOLINGS[name]()(x, edge)))(jnp.asarray(x))
    assert np.isfinite(gradient).all()
    for _ in range(3):
        direction = random.normal(size=x.shape) * (x > 0)
        step = 1e-6 * direction
        ahead, behind = (REFERENCES[name](x.astype(float) + way * step, edge) for way in (1, -1))
        slope = np.sum(weights * (ahead - behind)) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("edge", [2, 3])
def test_exponents_and_shares_go_from_the_mean_to_the_maximum(edge, random):
    x = jnp.asarray(features(random))
    mean, largest = Average()(x, edge), Maximum()(x, edge)
    for found, expected in [
        (GeM(exponent=1.0), mean),
        (GeM(exponent=1e6), largest),
        (Lp(exponent=1.0), edge**2 * mean),
        (Lp(exponent=1e6), largest),
        (Mixed(share=0.0), mean),
        (Mixed(share=1.0), largest),
        (Soft(temperature=1e6), mean),
        (Soft(temperature=1e-4), largest),
    ]:
        np.testing.assert_allclose(found(x, edge), expected, rtol=2e-5, atol=1e-5)


def test_powers_of_small_and_of_large_features_are_finite():
    x = jnp.asarray([[[1e-30], [1e30]], [[1e30], [0.0]]])
    found, slope = jax.value_and_grad(lambda x: jnp.sum(GeM(exponent=50.0)(x, 2)))(x)
    np.testing.assert_allclose(found, 1e30 * 0.5 ** (1 / 50), rtol=1e-5)
    assert np.isfinite(slope).all()


def test_a_stochastic_pooling_draws_by_size_and_its_slope_goes_where_it_drew(random):
    x = np.zeros((4, 4, 4000), np.float32)
    x[:2, :2, :] = np.array([1.0, 2.0, 0.0, 5.0]).reshape(2, 2, 1)
    pooling = Stochastic().drawn(jax.random.key(1))
    found, pull = jax.vjp(lambda x: pooling(x, 2), jnp.asarray(x))
    values, counts = np.unique(found[0, 0], return_counts=True)
    assert values.tolist() == [1.0, 2.0, 5.0]
    assert chisquare(counts, 4000 * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    assert not found[1:].any()
    np.testing.assert_array_equal(pull(jnp.ones_like(found))[0][:2, :2].sum((0, 1)), 1.0)
    drawn = np.asarray((x[:2, :2] == found[0, 0]) & (x[:2, :2] > 0))
    np.testing.assert_array_equal(pull(jnp.ones_like(found))[0][:2, :2] > 0, drawn)


def test_a_stochastic_network_is_that_of_its_key(vgg16, random):
    image = jnp.asarray(random.random((32, 32, 3)), jnp.float32)
    structure = Structure(
        pooling=Stochastic(), content_layers=("conv3_1",), style_layers=("conv2_1",)
    )
    weights = LossWeights({"conv3_1": 1.0}, {"conv2_1": 1.0})
    problem = prepare(structure, vgg16.params, weights, image, image)
    losses = [
        objective(structure)(image, problem._replace(seed=jnp.asarray(seed)))[0]
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] == 0.0  # the targets' draw
    assert losses[2] > 0.0


def test_each_pool_has_its_own_pooling(vgg16, random):
    image = jnp.asarray(random.random((32, 32, 3)), jnp.float32)
    options = {"network": "vgg16", "layers": ("conv1_2", "conv3_1"), "pixels": "torchvision"}

    def found(pooling):
        return network_features(vgg16.params, image, pooling=pooling, **options)["conv3_1"]

    one_each = found(Each(pools=(Maximum(), GeM(exponent=2.0), Average(), Average())))
    assert not np.allclose(one_each, found(Maximum()), rtol=1e-3)
    np.testing.assert_array_equal(found(Each(pools=(Maximum(),))), found(Maximum()))
    np.testing.assert_array_equal(
        found(Each(pools=(Maximum(), Average()))),
        found(Each(pools=(Maximum(), Average(), Maximum(), GeM()))),
    )


def test_as_many_poolings_as_pools():
    """The one after the last convolution counts where it is a layer."""
    deep = {"content_layers": ("pool5",), "style_layers": ()}
    Structure(pooling=Each(pools=(Maximum(),) * 5), **deep)
    with pytest.raises(NstyleError, match="pooling: 4 poolings for 5 pools"):
        Structure(pooling=Each(pools=(Maximum(),) * 4), **deep)
    layers = {"content_layers": ("conv3_1",), "style_layers": ()}
    Structure(pooling=Each(pools=(Maximum(), Average())), **layers)
    Structure(pooling=Each(pools=(Maximum(),) * 4), **layers)
    with pytest.raises(NstyleError, match="pooling: 3 poolings for 4 pools"):
        Structure(pooling=Each(pools=(Maximum(),) * 3))
    with pytest.raises(NstyleError, match="give the poolings of the network"):
        Each()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", [GeM(exponent=2.5, scale=1.3), Each(pools=(GeM(4.0), Mixed()))])
def test_traced_options_are_arguments_of_one_program(pooling, vgg16, random):
    """The static part is the same for all values, and a problem's values count."""
    layers = {"content_layers": ("conv3_1",), "style_layers": ("conv2_1",)}
    structure = Structure(pooling=pooling, **layers)
    other = Structure(pooling=pooling.static, **layers)
    assert structure.static == other.static == other
    picture, painting = (jnp.asarray(random.random((24, 24, 3)), jnp.float32) for _ in range(2))
    weights = LossWeights({"conv3_1": 1.0}, {"conv2_1": 1.0})
    problem = prepare(structure, vgg16.params, weights, picture, painting, balanced=True)
    compiled = jax.jit(objective(structure.static))
    loss, _ = compiled(painting, problem)
    compiled(painting, prepare(other, vgg16.params, weights, picture, painting, balanced=True))
    assert compiled._cache_size() == 1
    constants = problem._replace(options=())
    np.testing.assert_allclose(loss, objective(structure)(painting, constants)[0], rtol=1e-5)
    assert abs(loss / objective(other)(painting, constants)[0] - 1) > 1e-3


QUICK = ["size=32", "steps=2", "pyramid.levels=1", "scores=false", "tolerance=0"]
SHALLOW = ["content_layers=[conv1_2]", "style_layers=[conv1_1,conv2_1]"]


def results(folder):
    found = [json.loads(path.read_text()) for path in folder.glob("runs/*/result.json")]
    return [result.get("content", result) for result in found]


TEN = ",".join(str(1 + 0.5 * number) for number in range(10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "axis", "count"),
    [
        (["pooling=gem"], f"pooling.exponent={TEN}", 10),
        (["pooling=mixed"], "pooling.share=0,0.3,1", 3),
        (["smoothing=swag"], "smoothing.temperature=5,10,20", 3),
        (["style_loss=mmd"], "style_loss.offset=0,1,3", 3),
        (["content_loss=contextual", "init=noise"], "content_loss.bandwidth=0.1,0.3", 2),
        ([], "pooling_scale=1,2", 2),
        ([], "style_layer_weights=[1,0],[1,2]", 2),
    ],
    ids=str,
)
def test_a_sweep_over_numbers_compiles_once(chosen, axis, count, nstyle_here, given, tmp_path):
    jax.clear_caches()
    status, _, err = nstyle_here("-m", *given, *QUICK, *SHALLOW, *chosen, axis)
    assert status == 0, err
    found = results(tmp_path)
    assert len({result["best"]["loss"] for result in found}) == len(found) == count
    assert sum(result["compiles"] for result in found) == 1


@pytest.mark.slow
def test_runs_of_different_numbers_are_a_batch(nstyle_here, given, tmp_path):
    """Their losses are those of each by itself."""
    axis = ["pooling=gem", "pooling.exponent=1,2,8"]
    assert nstyle_here("-m", *given, *QUICK, *SHALLOW, *axis, "batch=3")[0] == 0
    together = {own["config"]["pooling"]["exponent"]: own for own in results(tmp_path)}
    assert {own["batch"] for own in together.values()} == {3}
    assert nstyle_here("-m", *given, *QUICK, *SHALLOW, *axis, "runs_dir=alone/runs")[0] == 0
    for own in results(tmp_path / "alone"):
        other = together[own["config"]["pooling"]["exponent"]]
        assert other["best"]["loss"] == pytest.approx(own["best"]["loss"], rel=1e-3)


@pytest.mark.slow
def test_a_search_over_an_exponent_compiles_once(given, tmp_path):
    pytest.importorskip("optuna", reason="optuna is not installed")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    search += ["objectives=[style_gram]", "hydra.sweeper.direction=[minimize]"]
    quick = ["size=48", "steps=2", "pyramid.levels=1", "pooling=gem", *SHALLOW]
    process = command(
        "-m", *search, *given, *quick, "pooling.exponent=interval(1,8)", folder=tmp_path
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found = results(tmp_path)
    assert len(found) == 3
    assert sum(result["compiles"] for result in found) == 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["pooling=[max,gemm]"], "pooling: unknown value 'gemm'; did you mean 'gem'"),
        (["pooling=[max,avg]"], "pooling: 2 poolings for 4 pools"),
        (["pooling=gem", "pooling.exponent=0.5"], "pooling.exponent: 0.5 is out of range"),
        (["pooling=soft", "rescale=true"], "rescale: pooling=soft depends on how large"),
        (["pooling=blur", "tile=32"], "pooling: blur may read beyond its windows"),
        (["pooling=stochastic", "tile=32"], "pooling: stochastic may read beyond its windows"),
        (["pooling=each", "pooling.pools=null"], "pooling.pools: None is no list of names"),
        (["pooling.pools=[max]", "pooling=[max,avg]"], "pooling.pools: given twice"),
        (
            ["pooling=[max,avg]", "rescale=true", "content_layers=[conv3_1]", "style_layers=[]"],
            "pooling: 2 poolings for 4 pools",
        ),
        (["pooling=[max,max,blur,avg]", "tile=32"], "pooling: each may read beyond its windows"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(settings, line, nstyle_here, given):
    status, _, err = nstyle_here(*given, "size=32", *settings)
    assert (status, err.count("\n")) == (2, 1)
    assert line in err


@pytest.mark.slow
@pytest.mark.parametrize("own", ["pooling=stochastic", "style_loss=sliced_wasserstein"])
def test_every_seed_draws(own, nstyle_here, given):
    """All 32 bits of it."""
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false"]
    assert nstyle_here(*given, *quick, own, f"seed={2**32 - 1}")[0] == 0


@pytest.mark.slow
def test_a_single_name_is_a_list_of_one(nstyle_here, given):
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false"]
    assert nstyle_here(*given, *quick, "pooling=each", "pooling.pools=max")[0] == 0


@pytest.mark.slow
def test_lists_and_names_are_one_axis(nstyle_here, given, tmp_path):
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false"]
    status, _, err = nstyle_here("-m", *given, *quick, "pooling=avg,[max,max,avg,avg]")
    assert status == 0, err
    assert "nstyle: 2 runs" in err


@pytest.mark.parametrize("name", POOLINGS)
def test_scaling_maps_scales_what_a_homogeneous_pooling_makes(name, random):
    pooling = POOLINGS[name]()
    x = jnp.asarray(features(random))
    same = np.allclose(pooling(3.0 * x, 2), 3.0 * pooling(x, 2), rtol=1e-5)
    assert same == pooling.is_homogeneous


def test_every_network_pools_by_two_or_three():
    """The windows that the tests above cover are all there are."""
    assert {network.pool for network in NETWORKS.values()} == {2, 3}
