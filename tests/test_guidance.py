"""Several styles, regions and weights of positions, against float64 NumPy."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from colour_profiles import PROFILES
from compiled import evaluate, features_of
from PIL import Image

import nstyle
from nstyle import images
from nstyle.config import compose
from nstyle.errors import NstyleError
from nstyle.losses import (
    MMD,
    Covariance,
    Euclidean,
    GramMatrix,
    MeanStd,
    Rescaled,
    Wasserstein,
    moments,
)
from nstyle.networks import Average, extent
from nstyle.objective import LossWeights, Problem, Structure, Targets
from nstyle.objective.problems import content_target, style_target
from nstyle.objective.regions import Guide, Labels, coverage, guidance, pooled
from nstyle.runs import job, planning
from nstyle.solvers.compiled import stacked

LAYERS = ("conv1_1", "conv2_1")
TINY = {"size": 32, "steps": 2, "pyramid.levels": 1, "style_layers": LAYERS}
TINY |= {"content_layers": ["conv2_2"]}
RED, BLUE, GREEN = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)


def halves(height, width, first=RED, second=BLUE):
    """Left and right half in two colours, with a diagonal between them."""
    left = np.arange(width) + np.arange(height)[:, None] / 3 < width / 2
    return np.where(left[..., None], np.float32(first), np.float32(second))


@pytest.fixture
def masks(tmp_path, monkeypatch):
    """Label pictures for content.png (48 x 36) and style.png (40 x 40), in the working folder."""
    monkeypatch.chdir(tmp_path)
    images.save("content_mask.png", halves(36, 48))
    images.save("style_mask.png", halves(40, 40))
    images.save("other_mask.png", halves(40, 40, RED, GREEN))
    images.save("square_mask.png", halves(48, 48))
    images.save("photo_mask.png", np.random.default_rng(1).random((36, 48, 3)))
    images.save("black.png", np.zeros((36, 48, 3)))
    images.save("ramp.png", np.linspace(0, 1, 48)[None, :, None] * np.ones((36, 1, 3)))
    dot = halves(36, 48)
    dot[0, 0] = GREEN
    images.save("dot_mask.png", dot)
    return tmp_path


@pytest.fixture
def files(pictures):
    return {name: str(pictures / f"{name}.png") for name in ("content", "style")}


def problem_of(structure, vgg16, content, styles, guides=None, **rest):
    weights = LossWeights(
        dict.fromkeys(structure.content_layers, 1.0), dict.fromkeys(structure.style_layers, 1.0)
    )
    guides = guides or [None] * len(styles)
    each = [
        style_target(structure, vgg16.params, style, guide)
        for style, guide in zip(styles, guides, strict=True)
    ]
    style = {layer: sum((own[layer] for own in each), ()) for layer in structure.style_layers}
    targets = Targets(content_target(structure, vgg16.params, content), style)
    return Problem(vgg16.params, targets, weights, **rest)


def three_pictures(random):
    shapes = ((26, 21, 3), (24, 30, 3), (20, 20, 3))
    return [jnp.asarray(random.random(shape), jnp.float32) for shape in shapes]


def float64_features(structure, vgg16, picture):
    found = features_of(structure, vgg16.params, picture, structure.layers)
    return {layer: np.float64(value) for layer, value in found.items()}


def test_a_guided_gram_matrix_is_that_of_equations_5_and_6(vgg16, random):
    """F^r = T^r F with sum T^2 = 1, G^r = F^rT F^r; here over the channels, as `size` has it."""
    structure = Structure(content_layers=(), style_layers=LAYERS, regions=(0, 1))
    image, style, _ = three_pictures(random)
    labels = [Labels.of("", halves(*of.shape[:2])) for of in (image, style)]
    colours = labels[0].colours
    parts = [
        coverage(own, colours, of.shape, 1.5)
        for own, of in zip(labels, (image, style), strict=True)
    ]
    own, other = (
        {layer: jnp.asarray(value) for layer, value in found.items()}
        for found in (
            guidance(of, colours, at.shape, LAYERS, "vgg16", 1.5)
            for of, at in zip(labels, (image, style), strict=True)
        )
    )
    problem = problem_of(structure, vgg16, image, [style], [other], blend=(0.3, 0.7), guidance=own)
    found = evaluate(structure, image, problem)[1].style

    def gram(features, part, layer):
        guide = np.float64(pooled(part, layer, "vgg16"))
        guided = (features * guide[..., None]).reshape(-1, features.shape[-1])
        guided /= np.linalg.norm(guide)
        return guided.T @ guided / features.shape[-1]

    features = [float64_features(structure, vgg16, of) for of in (image, style)]
    for layer in LAYERS:
        expected = sum(
            share
            * np.sum((gram(features[0][layer], a, layer) - gram(features[1][layer], b, layer)) ** 2)
            for share, a, b in zip((0.3, 0.7), *parts, strict=True)
        )
        np.testing.assert_allclose(found[layer], expected, rtol=1e-4)


@pytest.mark.parametrize(
    "loss", [GramMatrix(), Covariance(), MeanStd(), MMD("linear"), MMD(), Wasserstein()], ids=str
)
def test_whole_weights_are_as_good_as_repeated_positions(loss, random):
    features = jnp.asarray(random.random((4, 5, 6)), jnp.float32)
    counts = random.integers(0, 4, (4, 5))
    repeated = np.repeat(np.asarray(features).reshape(-1, 6), counts.ravel(), axis=0)[None]
    found = loss.of_region(features, jnp.float32(counts / counts.sum()))
    expected = loss.of_moments(moments(jnp.asarray(repeated)), repeated.shape[1])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("normalization", ["none", "positions", "size"])
def test_one_region_is_the_whole_picture(vgg16, random, normalization):
    whole = Structure(content_layers=(), style_layers=LAYERS, style_loss=GramMatrix(normalization))
    guided = dataclasses.replace(whole, regions=(0,))
    image, style, _ = three_pictures(random)
    one = {
        layer: jnp.full((1, image.shape[0] // edge, image.shape[1] // edge), 1.0)
        for layer, edge in zip(LAYERS, (1, 2), strict=True)
    }
    one = {layer: value / value.size for layer, value in one.items()}
    problem = problem_of(whole, vgg16, image, [style])
    expected = evaluate(whole, image, problem)[0]
    found = evaluate(guided, image, problem._replace(guidance=one))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_blend_is_the_sum_of_losses_by_share(vgg16, random):
    structure = Structure(content_layers=(), style_layers=LAYERS, regions=(None, None))
    image, *styles = three_pictures(random)
    problem = problem_of(structure, vgg16, image, styles, blend=(0.7, 0.3))
    found = evaluate(structure, image, problem)[1].style

    def gram(picture, layer):
        features = float64_features(structure, vgg16, picture)[layer]
        flat = features.reshape(-1, features.shape[-1])
        return flat.T @ flat / flat.size

    for layer in LAYERS:
        squares = [np.sum((gram(image, layer) - gram(of, layer)) ** 2) for of in styles]
        np.testing.assert_allclose(found[layer], np.dot((0.7, 0.3), squares), rtol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_weights_multiply_the_content_loss_at_each_position(vgg16, random, reduction, rescaled):
    structure = Structure(
        content_layers=("conv2_2",),
        style_layers=(),
        content_loss=(Rescaled if rescaled else Euclidean)(reduction),
        content_weighted=True,
    )
    image, content = (jnp.asarray(random.random((24, 31, 3)), jnp.float32) for _ in range(2))
    plane = random.random((24, 31)).astype(np.float32)
    weights = {"conv2_2": jnp.asarray(pooled(plane, "conv2_2", "vgg16")[..., None], jnp.float32)}
    problem = problem_of(structure, vgg16, content, [], content_weights=weights)
    found = evaluate(structure, image, problem)[1].content["conv2_2"]

    f, p = (float64_features(structure, vgg16, of)["conv2_2"] for of in (image, content))
    expected = (f - p) ** 2
    if rescaled:
        variance = p.var(axis=(0, 1))
        expected /= variance + 0.01 * variance.mean() + 1e-6
    blocks = plane[:24, :30].reshape(12, 2, 15, 2).mean(axis=(1, 3))
    expected *= blocks[..., None]
    expected = expected.mean() if reduction == "mean" else 0.5 * expected.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("softness", [0.0, 2.5])
@pytest.mark.parametrize("shape", [(17, 23), (90, 64)])
def test_regions_share_out_every_pixel(softness, shape):
    labels = Labels.of("", halves(36, 48))
    parts = coverage(labels, labels.colours, shape, softness)
    np.testing.assert_allclose(np.sum(parts, axis=0), 1.0, atol=1e-5)
    np.testing.assert_allclose([part.mean() for part in parts], labels.areas, atol=0.03)


def test_planes_are_pooled_as_features_are(random):
    plane = random.random((37, 51)).astype(np.float32)
    expected = jnp.asarray(plane)[..., None]
    for layer in ("conv1_2", "conv2_1", "conv3_3", "conv4_1", "conv5_1"):
        np.testing.assert_allclose(pooled(plane, layer, "vgg16"), expected[..., 0], rtol=1e-5)
        expected = Average()(expected, 2)


def test_planes_have_the_extent_of_layers_that_go_by_steps(random):
    plane = random.random((70, 97))
    for layer in ("conv1", "conv2", "conv5"):
        found = pooled(plane, layer, "alexnet")
        assert found.shape == extent(layer, "alexnet", plane.shape)
        np.testing.assert_allclose(found.mean(), plane.mean(), rtol=0.05)
    assert pooled(plane[:12], "conv5", "alexnet").size == 0


def test_regions_count_by_area_and_styles_share_them():
    content = Labels(("#0000ff", "#ff0000"), "", np.uint8([[0, 1, 1, 1]]))
    guide = Guide(content, (Labels.plain("#ff0000"), None))
    assert guide.regions == (1, 0, 1)
    np.testing.assert_allclose(guide.blend([1.0, 3.0]), [0.75 / 4, 0.25, 0.75 * 3 / 4])
    with pytest.raises(NstyleError, match="style_blend: every style of region #0000ff"):
        guide.blend([1.0, 0.0])


REFUSED = [
    ({"style_mask": "style_mask.png"}, "style_mask: needs a content_mask"),
    ({"mask_softness": 2.0}, "mask_softness: needs a content_mask"),
    ({"mask_softness": -1.0}, "mask_softness: -1.0 is out of range"),
    ({"style_blend": [1.0]}, "style_blend: there is one style picture"),
    ({"style_blend": [1.0, 2.0]}, "style_blend: 2 shares for 1 style pictures"),
    ({"style_blend": [0.0]}, "style_blend: .* no share above 0"),
    ({"style": []}, "style: .* is neither a file nor a list of files"),
    ({"content_mask": "photo_mask.png"}, "content_mask photo_mask.png: 1[0-9]* colours"),
    ({"content_mask": "square_mask.png"}, "content_mask: square_mask.png is 48 x 48 pixels, not"),
    (
        {"init": "square_mask.png"},
        "init: square_mask.png is 48 x 48 pixels, not of the proportions",
    ),
    ({"size": "50x1"}, "content: 50 x 1 pixels are too few .* a long side of 200 would do"),
    ({"content_mask": "dot_mask.png"}, "content_mask: region #00ff00 is too small at 32 x 24"),
    (
        {"content_mask": "content_mask.png", "style_mask": "other_mask.png"},
        "style_mask: no style picture has the region #0000ff of content_mask .it has #00ff00, #ff",
    ),
    (
        {"content_mask": "content_mask.png", "style_mask": "redd"},
        "picture: redd: No such file",
    ),
    (
        {"content_mask": "content_mask.png", "style_mask": ["red", "blue"]},
        "style_mask: 2 for 1 style pictures",
    ),
    (
        {"content_mask": "content_mask.png", "style_mask": "style_mask.png", "tile": 32},
        "content_mask: memory and tile",
    ),
    (
        {"content_mask": "content_mask.png", "style_mask": "style_mask.png", "style_rotation": 9},
        "style_rotation: 9 degrees turn the style picture, but not its style_mask",
    ),
    (
        {"content_mask": "content_mask.png", "style_loss": "nnst"},
        "content_mask: style_loss=nnst is not one of moments",
    ),
    ({"content_mask": "content_mask.png", "style_layers": []}, "content_mask: there are no"),
    ({"content_weight_map": "content_mask.png"}, "content_weight_map: .* is not grey"),
    ({"content_weight_map": "black.png"}, "content_weight_map: black.png is black everywhere"),
    ({"content_weight_map": "ramp.png", "tile": 32}, "content_weight_map: memory and tile"),
    (
        {"content_weight_map": "ramp.png", "content_loss": "contextual"},
        "content_weight_map: content_loss=contextual is no sum over positions",
    ),
    ({"content_weight_map": "ramp.png", "content_layers": []}, "content_weight_map: there are no"),
]


@pytest.mark.parametrize(("settings", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_makes_no_sense_is_refused_in_one_line(settings, line, masks, files):
    with pytest.raises(NstyleError, match=line) as refused:
        planning.plan(compose(**{**TINY, **files, **settings}))
    assert "\n" not in str(refused.value)


def test_a_small_region_leaves_out_small_sizes(masks, files):
    """At 48 px the green dot has two pixels a side, of conv2_1 one position; at 24 px none."""
    dot = halves(36, 48)
    dot[:2, :2] = GREEN
    images.save("dot_mask.png", dot)
    pyramid = {"pyramid.levels": 2, "pyramid.least": 16, "size": 48}
    given = {**TINY, **files, **pyramid}
    assert len(planning.plan(compose(**given)).sizes) == 2
    assert len(planning.plan(compose(**given, content_mask="dot_mask.png")).sizes) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_as_their_pictures_are_seen(masks, files, orientation):
    """A TIFF file that is stored lying and shown upright has an upright mask."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (48, 36) if orientation < 5 else (36, 48)).save("photo.tiff", exif=exif)
    given = {**TINY, **files, "content": "photo.tiff", "content_mask": "content_mask.png"}
    assert planning.plan(compose(**given)).guide is not None
    images.save("upright_mask.png", np.swapaxes(halves(36, 48), 0, 1))
    with pytest.raises(NstyleError, match="content_mask: .* not of the proportions"):
        planning.plan(compose(**given | {"content_mask": "upright_mask.png"}))


def test_a_mask_in_a_wide_profile_has_the_regions_of_one_without(masks, files):
    """Red, green and blue of sRGB, as Display P3 has them in 8 bits."""
    colours = np.uint8([[[234, 51, 35], [117, 251, 76], [0, 0, 245]]]).repeat(36, 0).repeat(16, 1)
    images.save("mask.png", np.eye(3)[None].repeat(36, 0).repeat(16, 1))
    Image.fromarray(colours).save("wide.png", icc_profile=PROFILES["p3"])
    both = {**TINY, **files, "style": files["content"]}
    for content, style in (("mask.png", "wide.png"), ("wide.png", "mask.png")):
        planned = planning.plan(compose(**both, content_mask=content, style_mask=style))
        assert planned.guide.regions == (0, 1, 2)
    assert "#00ff00" not in planned.guide.content.colours


def test_masks_and_maps_name_the_run_by_what_they_show(masks, files):
    one = {**TINY, **files, "content_mask": "content_mask.png"}
    settings = [
        one,
        one | {"style_mask": "style_mask.png"},
        one | {"content_weight_map": "ramp.png"},
        one | {"style": [files["style"], files["content"]], "style_mask": ["red", "blue"]},
        one | {"style": [files["style"], files["content"]], "style_mask": ["blue", "red"]},
    ]
    digests = [planning.plan(compose(**own)).digests for own in settings]
    assert len({json.dumps(own) for own in digests}) == len(settings)
    Path("copy.png").write_bytes(Path("content_mask.png").read_bytes())
    assert planning.plan(compose(**one | {"content_mask": "copy.png"})).digests == digests[0]


def test_runs_that_differ_in_shares_and_masks_are_of_one_kind(masks, files):
    images.save("mirrored.png", images.load("content_mask.png")[:, ::-1])
    both = {**TINY, "content": files["content"], "style": [files["style"], files["content"]]}
    blends = [planning.plan(compose(**both, style_blend=own)) for own in ([7, 3], [0.0, 1.0])]
    assert planning.kind_of(blends[0]) == planning.kind_of(blends[1])
    np.testing.assert_allclose(blends[0].blend, (0.7, 0.3))
    regions = both | {"style_mask": ["red", "blue"]}
    masked = [
        planning.plan(compose(**regions, content_mask=own))
        for own in ("content_mask.png", "mirrored.png")
    ]
    assert planning.kind_of(masked[0]) == planning.kind_of(masked[1]) != planning.kind_of(blends[0])
    joined, axes = stacked([job.build(own).stages[0].problem for own in masked])
    by_array = jax.tree.unflatten(jax.tree.structure(joined), axes)
    assert by_array.guidance == dict.fromkeys(LAYERS, 0)


@pytest.mark.slow
def test_the_command_makes_them_and_counts_one_compilation(nstyle_here, masks, pictures):
    """A sweep over shares in regions; `out` may not be any of the pictures that a run reads."""
    content, style = (pictures / f"{name}.png" for name in ("content", "style"))
    given = [f"content={content}", f"style=[{style},{content}]", "content_mask=content_mask.png"]
    given += ["content_weight_map=ramp.png", "mask_softness=1", "size=32", "steps=4"]
    given += ["pyramid.levels=1", "style_layers=[conv1_1,conv2_1]", "content_layers=[conv2_2]"]
    status, _, err = nstyle_here("-m", *given, "style_blend=[1,0],[1,3]")
    assert status == 0, err
    results = [json.loads(path.read_text()) for path in Path("runs").glob("*/result.json")]
    assert sorted(result["compiles"] for result in results) == [0, 1]
    assert set(results[0]["inputs"]) >= {"style_1", "style_2", "content_mask", "content_weight_map"}
    for folder in Path("runs").glob("content-style_content-*"):
        trace = pd.read_csv(folder / "trace.csv")
        assert trace["best_loss"].iloc[-1] < trace["loss"][0]
        scores = json.loads((folder / "scores.json").read_text())["scores"]
        assert scores["colour_histogram"] is not None
    for own in ("content_mask.png", "ramp.png"):
        status, _, err = nstyle_here(*given, f"out={own}")
        assert (status, "is the run's own" in err) == (2, True)


def test_stylize_takes_several_arrays(files):
    own = [images.load(files[name], 32) for name in ("style", "content")]
    result = nstyle.stylize(own[1], own, **TINY, style_blend=[1.0, 2.0])
    assert result.image.shape == own[1].shape
    with pytest.raises(NstyleError, match="style: files or arrays are needed, not ndarray, str"):
        nstyle.stylize(own[1], [own[0], "a.png"])
    for several in (own, list(files.values())):
        with pytest.raises(NstyleError, match="content: one picture, not 2"):
            nstyle.stylize(several, own[0])


@pytest.mark.slow
def test_each_region_takes_its_own_style_and_the_seam_shows_no_halo(tmp_path, vgg16):
    """Closer to its own style than to the other; the seam neither lighter, darker nor rougher."""
    import skimage.data

    styles = Path(__file__).parents[1] / "experiments" / "demo" / "styles"
    pair = [styles / "swirls.jpg", styles / "mosaic.jpg"]
    images.save(tmp_path / "mask.png", halves(64, 64))
    content = np.float32(skimage.data.astronaut()) / 255
    result = nstyle.stylize(
        content,
        pair,
        size=64,
        steps=60,
        style_weight=100,
        style_falloff=1,
        tv_weight=0,
        content_mask=tmp_path / "mask.png",
        style_mask=["red", "blue"],
    ).image

    structure = Structure(content_layers=())
    labels = Labels.of("", halves(64, 64))
    guide = guidance(labels, ("#ff0000", "#0000ff"), (64, 64), structure.style_layers, "vgg16", 0.0)
    own = features_of(structure, vgg16.params, jnp.asarray(result), structure.style_layers)
    loss = GramMatrix()
    wanted = [
        style_target(structure, vgg16.params, jnp.asarray(images.load(path, 64))) for path in pair
    ]
    for layer in structure.style_layers:
        found = [loss.of_region(own[layer], region) for region in guide[layer]]
        for i, gram in enumerate(found):
            right, swapped = (float(loss.compare(gram, wanted[j][layer][0], 1)) for j in (i, 1 - i))
            assert right < swapped, (layer, i)

    # A halo would be a band of its own luminance, over the photograph's, or of its own roughness.
    weights = np.float32([0.2126, 0.7152, 0.0722])
    change = (result - images.resize(content, 64, 64)) @ weights
    roughness = np.hypot(*np.gradient(result @ weights))
    offset = np.arange(64) + np.arange(64)[:, None] / 3 - 32  # 0 on the seam
    seam, left, right = np.abs(offset) < 3, offset < -8, offset > 8
    changes = [change[part].mean() for part in (left, right)]
    assert min(changes) - 0.1 < change[seam].mean() < max(changes) + 0.1
    rough = [roughness[part].mean() for part in (left, right)]
    assert 0.5 * min(rough) < roughness[seam].mean() < 1.25 * max(rough)
