"""The network that paints in one pass: whole, by tiles, on disk, exported, and from the shell."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.feedforward import apply, models
from nstyle.feedforward.network import (
    EPSILON,
    UPSAMPLINGS,
    UPSCALES,
    Architecture,
    initial_params,
    layers_of,
    paint,
    single_style,
)
from nstyle.feedforward.resolution import reduced
from nstyle.feedforward.tiles import paint_by_tiles

painted_whole = jax.jit(paint, static_argnums=0)

TINY = Architecture(width=2, blocks=1, styles=2)
ENLARGING = Architecture(width=2, blocks=1, upscale=4)


def network(architecture, random):
    """A network whose every parameter differs from what it is at first."""
    params = initial_params(architecture, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: np.asarray(leaf + 0.2 * random.standard_normal(leaf.shape), np.float32), params
    )


def by_pillow(image, shape):
    """A picture scaled by Pillow's cubic, in float32 and nothing clipped."""
    planes = [Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(3)]
    size = shape[1], shape[0]
    return np.stack([plane.resize(size, Image.Resampling.BICUBIC) for plane in planes], axis=-1)


def by_scipy_and_pillow(picture, factor):
    """A picture reduced: a Gaussian in float64, then Pillow's cubic."""
    height, width = picture.shape[:2]
    blurred = gaussian_filter(picture.astype(np.float64), (1, 1, 0), mode="reflect")
    return by_pillow(blurred, (height // factor, width // factor))


def made_larger(image, added):
    """The cubic and what a network adds, back-projected."""
    total = by_pillow(image, added.shape) + added
    lacking = image - by_scipy_and_pillow(total, len(added) // len(image))
    return total + by_pillow(lacking, added.shape)


def in_float64(architecture, params, image, mixture):
    """The same network by loops over the entries of kernels; sides are multiples of 4."""
    x = 2 * image.astype(np.float64) - 1
    for layer in layers_of(architecture):
        if layer.name.endswith("_1") and layer.name.startswith("block"):
            before = x
        if layer.name.startswith("up"):
            large = np.zeros((2 * x.shape[0], 2 * x.shape[1], x.shape[2]))
            large[::2, ::2] = x
            if architecture.upsampling == "resize":
                large[1::2] = large[::2]
                large[:, 1::2] = large[:, ::2]
            x = large
        stride = 2 if layer.name.startswith("down") else 1
        kernel = params[layer.name]["kernel"].astype(np.float64)
        edge = 9 if layer.name in ("first", "last") else 3
        beyond = "reflect" if architecture.border == "reflect" else "constant"
        border = np.pad(x, ((edge // 2,) * 2, (edge // 2,) * 2, (0, 0)), mode=beyond)
        x = sum(
            border[i : i + x.shape[0] : stride, j : j + x.shape[1] : stride] @ kernel[i, j]
            for i in range(edge)
            for j in range(edge)
        )
        if layer.name == "last" or architecture.upscale:
            x = x + params[layer.name]["bias"]
        else:
            x = (x - x.mean(axis=(0, 1))) / np.sqrt(x.var(axis=(0, 1)) + EPSILON)
            norm = params[f"{layer.name}_norm"]
            x = x * (mixture @ norm["scale"]) + mixture @ norm["shift"]
        if layer.name == "last":
            return made_larger(image, x) if architecture.upscale else 1 / (1 + np.exp(-x))
        x = x + before if layer.name.endswith("_2") else np.maximum(x, 0)
    raise AssertionError("the last layer is named so")


@pytest.mark.slow
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("upscale", [None, 4])
@pytest.mark.parametrize("border", ["reflect", "zeros"])
def test_the_network_is_that_of_the_papers_whole_and_by_tiles(border, upscale, upsampling, random):
    architecture = Architecture(2, 1, 2, upsampling, upscale, border)
    params = network(architecture, random)
    image = random.random((20, 28, 3)).astype(np.float32)
    mixture = np.array([0.3, 0.7], np.float32)
    expected = in_float64(architecture, params, image, mixture)
    whole = painted_whole(architecture, params, image[None], mixture[None])[0]
    np.testing.assert_allclose(whole, expected, atol=2e-5)
    assert expected.std() > 0.05
    # Tiles of 8 on maps of 5 x 7 to 20 x 28 positions: many, few and one, overlapping and not.
    tiled = paint_by_tiles(architecture, params, image, mixture, tile=8)
    np.testing.assert_allclose(tiled, expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "shape"), [(TINY, (33, 46, 3)), (ENLARGING, (132, 184, 3))]
)
def test_any_size_is_painted_alike_whole_and_by_tiles(architecture, shape, random):
    params = network(architecture, random)
    image = random.random((33, 46, 3)).astype(np.float32)
    mixture = single_style(architecture)
    whole = painted_whole(architecture, params, image[None], mixture[None])[0]
    assert whole.shape == shape
    tiled = paint_by_tiles(architecture, params, image, mixture, 30)
    np.testing.assert_allclose(tiled, whole, atol=2e-5)


@pytest.mark.parametrize("upscale", UPSCALES)
def test_an_untrained_network_enlarges_by_the_cubic_and_agrees_with_what_is_given(upscale, random):
    architecture = Architecture(width=2, blocks=1, upscale=upscale)
    image = random.random((9, 12, 3)).astype(np.float32)
    made = painted_whole(
        architecture, initial_params(architecture, jax.random.key(0)), image[None], np.ones((1, 1))
    )[0]
    expected = made_larger(image, np.zeros((9 * upscale, 12 * upscale, 3)))
    np.testing.assert_allclose(made, expected, atol=2e-6)
    given = by_scipy_and_pillow(expected, upscale)
    cubic = by_scipy_and_pillow(by_pillow(image, expected.shape), upscale)
    assert np.abs(given - image).mean() < 0.8 * np.abs(cubic - image).mean()
    assert np.abs(expected - np.clip(expected, 0, 1)).max() > 0.01, "nothing is clipped"


def test_a_network_that_enlarges_has_the_layers_of_the_paper():
    layers = layers_of(Architecture(width=64, blocks=4, upscale=8))
    names = [f"block{block}_{half}" for block in range(1, 5) for half in (1, 2)]
    assert [layer.name for layer in layers] == ["first", *names, "up1", "up2", "up3", "last"]
    assert {layer.channels for layer in layers[:-1]} == {64}
    assert not any(layer.normalised or layer.stride > 1 for layer in layers)


def test_pictures_are_reduced_as_scipy_and_pillow_do(random):
    pictures = random.random((2, 24, 36, 3)).astype(np.float32)
    expected = [by_scipy_and_pillow(picture, 4) for picture in pictures]
    np.testing.assert_allclose(reduced(pictures, 4), expected, atol=1e-6)


def test_one_style_of_several_is_the_network_with_its_scale_and_shift(random):
    params = network(TINY, random)
    second = {
        layer: {
            name: leaf[1:] if name in ("scale", "shift") else leaf for name, leaf in own.items()
        }
        for layer, own in params.items()
    }
    image = random.random((1, 16, 16, 3)).astype(np.float32)
    both = painted_whole(TINY, params, image, np.array([[0.0, 1.0]], np.float32))
    alone = painted_whole(Architecture(2, 1, 1), second, image, np.ones((1, 1), np.float32))
    np.testing.assert_allclose(both, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width: 0 is not from 1 to 1024"),
        ({"upsampling": "resise"}, "did you mean 'resize'"),
        ({"border": "zero"}, "did you mean 'zeros'"),
        ({"upscale": 2}, r"upscale: 2 is none of \(4, 8\)"),
    ],
)
def test_an_architecture_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(NstyleError, match=message):
        Architecture(**options)


@pytest.fixture
def model(random, tmp_path):
    found = models.Model(TINY, network(TINY, random), {"styles": [{"file": "a.jpg"}]})
    models.write(tmp_path / "model" / models.FILE, found)
    return found


def test_a_model_comes_back_from_its_file(model, tmp_path):
    read = models.read(tmp_path / "model")
    assert read.architecture == TINY
    assert read.card["styles"] == model.card["styles"]
    jax.tree.map(np.testing.assert_array_equal, read.params, dict(model.params))


def test_a_file_that_is_no_model_is_refused(tmp_path, vgg16):
    from safetensors.numpy import save_file

    file = tmp_path / "a.safetensors"
    with pytest.raises(NstyleError, match="there is no"):
        models.read(file)
    file.write_bytes(b"nonsense")
    with pytest.raises(NstyleError, match="no model of nstyle-train"):
        models.read(file)
    (tmp_path / "settings.json").touch()
    with pytest.raises(NstyleError, match="its training has not ended"):
        models.read(tmp_path)
    save_file({"conv1_1": np.zeros(3)}, file)
    with pytest.raises(NstyleError, match="no model of nstyle-train"):
        models.read(file)
    models.write(file, models.Model(TINY, {"first": {"kernel": np.zeros((9, 9, 3, 7))}}, {}))
    with pytest.raises(NstyleError, match=r"block1_1.kernel is missing|first.kernel is missing"):
        models.read(file)


def test_the_exported_program_paints_the_same_at_any_size(model, random):
    mixture = np.array([0.25, 0.75], np.float32)
    program = jax.export.deserialize(models.exported(model, mixture).serialize())
    for shape in ((1, 16, 24, 3), (1, 32, 20, 3)):
        image = random.random(shape).astype(np.float32)
        expected = painted_whole(TINY, model.params, image, mixture[None])
        np.testing.assert_allclose(program.call(image), expected, atol=1e-4)


def test_the_exported_program_enlarges_any_size(random):
    model = models.Model(ENLARGING, network(ENLARGING, random), {})
    program = jax.export.deserialize(models.exported(model, np.ones(1)).serialize())
    image = random.random((1, 9, 13, 3)).astype(np.float32)
    expected = painted_whole(ENLARGING, model.params, image, np.ones((1, 1), np.float32))
    np.testing.assert_allclose(program.call(image), expected, atol=1e-4)


def applied(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["nstyle-apply", *map(str, arguments)])
    status = 0
    try:
        apply.main()
    except SystemExit as exit_:
        status = exit_.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_apply_paints_folders_in_order_and_passes_over_what_it_cannot_read(
    model, tmp_path, random, monkeypatch, capsys
):
    frames = tmp_path / "frames"
    still = random.random((16, 20, 3))
    for number in range(3):
        images.save(frames / f"{number}.png", still)
    (frames / "1b.jpg").write_bytes(b"nonsense")
    out = tmp_path / "out"
    status, told, noted = applied(
        monkeypatch, capsys, tmp_path / "model", frames, f"out={out}", "mixture=[1,1]"
    )
    assert status == 0
    assert told.split() == [str(out / f"{number}.png") for number in range(3)]
    assert "1b.jpg is not a picture" in noted
    photograph = images.load(frames / "0.png")
    mixture = np.array([[0.5, 0.5]], np.float32)
    expected = painted_whole(TINY, model.params, photograph[None], mixture)[0]
    np.testing.assert_allclose(images.load(out / "0.png"), expected, atol=0.5 / 255 + 1e-4)


def test_batches_are_what_one_by_one_is_and_folders_stay_folders(
    model, tmp_path, random, monkeypatch, capsys
):
    """Sizes in turn, one picture too few for a batch, frames that steady each other."""
    frames = tmp_path / "frames"
    sizes = {"0": 16, "1": 16, "2": 16, "more/0": 20, "more/1": 16, "more/2": 16}
    for name, size in sizes.items():
        images.save(frames / f"{name}.jpg", random.random((size, 24, 3)))
    painted = {}
    for batch in (1, 2):
        out = tmp_path / f"painted{batch}"
        status, told, _ = applied(
            monkeypatch, capsys, tmp_path / "model", frames, f"out={out}", "steady=0.5",
            f"batch={batch}",
        )  # fmt: skip
        assert status == 0
        files = [out / f"{name}.png" for name in sizes]
        assert told.split() == [str(file) for file in files]
        painted[batch] = [images.load(file) for file in files]
    for one, other in zip(painted[1], painted[2], strict=True):
        np.testing.assert_allclose(one, other, atol=1.01 / 255)  # a rounding of 8 bits at most
    photographs = random.random((2, 16, 24, 3)).astype(np.float32)
    mixture = np.array([0.5, 0.5], np.float32)
    together = apply.painted_pictures(model, photographs, mixture)
    for photograph, both in zip(photographs, together, strict=True):
        alone = apply.painted_picture(model, photograph, mixture)
        np.testing.assert_allclose(both, alone, atol=5e-6)


def test_every_combination_has_a_folder_of_its_own(model, tmp_path, random, monkeypatch, capsys):
    images.save(tmp_path / "a.png", random.random((16, 20, 3)))
    given = ["-m", tmp_path / "model", tmp_path / "a.png", f"out={tmp_path / 'x, y'}"]
    status, told, _ = applied(monkeypatch, capsys, *given, "mixture=[1,0],[0.3,0.7]", "bits=8,16")
    assert status == 0 and len(told.splitlines()) == 4
    depths = {
        (shares, bits): images.header(
            str(tmp_path / "x, y" / f"mixture={shares},bits={bits}" / "a.png")
        ).depth
        for shares in ("[1,0]", "[0.3,0.7]")
        for bits in (8, 16)
    }
    assert all(depth == bits for (_, bits), depth in depths.items())
    for wrong, line in (
        (["format=png,jpg", "bits=16"], "bits: 16 are too many for any.jpg"),
        (["steady=0,0"], "a value is given twice"),
    ):
        status, told, error = applied(monkeypatch, capsys, *given, *wrong)
        assert (status, told) == (2, "") and line in error, error
    status, _, error = applied(monkeypatch, capsys, *given[:2], "export=a.stablehlo", "size=64,128")
    assert status == 2 and "export: every combination would write it" in error
    status, told, error = applied(monkeypatch, capsys, *given, "steady=0,2")
    assert (status, told) == (2, "") and "steady: 2.0 is out of range" in error


def test_what_an_earlier_command_painted_is_not_painted_again(
    model, tmp_path, random, monkeypatch, capsys
):
    images.save(tmp_path / "photos" / "a.jpg", random.random((12, 12, 3)))
    out = tmp_path / "photos" / "painted"
    for _ in range(2):
        status, told, _ = applied(
            monkeypatch, capsys, tmp_path / "model", tmp_path / "photos", f"out={out}"
        )
        assert (status, told) == (0, f"{out / 'a.png'}\n")


def test_a_folder_may_be_painted_into_itself_again_and_again(
    model, tmp_path, random, monkeypatch, capsys
):
    photos = tmp_path / "photos"
    for name in ("a", "b/c"):
        images.save(photos / f"{name}.jpg", random.random((12, 12, 3)))
    for _ in range(2):
        status, told, noted = applied(
            monkeypatch, capsys, tmp_path / "model", photos, f"out={photos}"
        )
        assert (status, noted) == (0, "")
        assert told.split() == [str(photos / "a.png"), str(photos / "b/c.png")]
    images.save(photos / "a.png", random.random((12, 12, 3)))  # the user's own
    status, _, noted = applied(monkeypatch, capsys, tmp_path / "model", photos, f"out={photos}")
    assert (status, noted.count("\n")) == (2, 1)
    assert "would both be written to" in noted


def test_frames_are_painted_in_the_order_of_their_numbers(
    model, tmp_path, random, monkeypatch, capsys
):
    """From a folder, and as a shell writes out `*`."""
    frames = tmp_path / "frames"
    for number in (1, 2, 10, 11):
        images.save(frames / f"{number}.png", random.random((12, 12, 3)))
    for named in ([frames], sorted(frames.iterdir())):
        status, told, _ = applied(
            monkeypatch, capsys, tmp_path / "model", *named, f"out={tmp_path / 'out'}"
        )
        assert status == 0
        assert [Path(line).stem for line in told.split()] == ["1", "2", "10", "11"]


def test_what_is_not_painted_is_told(model, tmp_path, random, monkeypatch, capsys):
    """Other types and animations of a folder with a note; a file that is named at the end."""
    monkeypatch.chdir(tmp_path)
    images.save(Path("photos/a.png"), random.random((12, 12, 3)))
    images.to_pillow(random.random((12, 12, 3))).save("photos/b.avif")
    for name in ("c.heic", "d.jp2", "e.HEIC", ".hidden"):
        Path("photos", name).write_bytes(b"")
    frames = [images.to_pillow(random.random((12, 12, 3))) for _ in range(3)]
    frames[0].save("photos/f.gif", save_all=True, append_images=frames[1:])
    status, told, noted = applied(monkeypatch, capsys, "model", "photos", "out=o")
    assert (status, told.split()) == (0, ["o/a.png", "o/b.png"])
    types, clip = noted.splitlines()
    assert "passed over in photos: 2 .heic, 1 .jp2 (painted are PNG, JPEG, " in types
    assert "photos/f.gif has 3 frames" in clip
    named = ["none.png", "photos/a.png", "photos/f.gif"]
    status, told, noted = applied(monkeypatch, capsys, "model", *named, "out=o")
    assert (status, told, noted.count("\n")) == (2, "o/a.png\n", 1)
    assert "none.png: No such file" in noted
    assert "photos/f.gif has 3 frames" in noted


def test_a_name_that_is_not_utf_8_does_not_end_the_work(
    model, tmp_path, random, monkeypatch, capsys
):
    images.save(tmp_path / "photos" / os.fsdecode(b"K\xf6ln.png"), random.random((12, 12, 3)))
    images.save(tmp_path / "photos" / "b.png", random.random((12, 12, 3)))
    out = tmp_path / "out"
    status, told, _ = applied(
        monkeypatch, capsys, tmp_path / "model", tmp_path / "photos", f"out={out}"
    )
    assert status == 0
    assert told.splitlines() == [f"{out}/b.png", f"{out}/K\\udcf6ln.png"]
    assert len(list(out.iterdir())) == 2


def test_an_export_that_lacks_a_package_says_which(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nstyle.feedforward.apply.find_spec", lambda name: None)
    status, _, told = applied(monkeypatch, capsys, tmp_path / "model", f"export={tmp_path}/a")
    assert (status, told.count("\n")) == (2, 1)
    assert "pip install 'nstyle[train]'" in told


def test_apply_writes_the_program(model, tmp_path, random, monkeypatch, capsys):
    file = tmp_path / "net.stablehlo"
    assert applied(monkeypatch, capsys, tmp_path / "model", f"export={file}")[0] == 0
    image = random.random((1, 16, 16, 3)).astype(np.float32)
    expected = painted_whole(TINY, model.params, image, np.array([[1.0, 0.0]], np.float32))
    painted = jax.export.deserialize(file.read_bytes()).call(image)
    np.testing.assert_allclose(painted, expected, atol=1e-4)


@pytest.fixture
def enlarging(random, tmp_path):
    found = models.Model(ENLARGING, network(ENLARGING, random), {"styles": []})
    models.write(tmp_path / "enlarging" / models.FILE, found)
    return found


def test_apply_writes_larger_pictures(enlarging, tmp_path, random, monkeypatch, capsys):
    images.save(tmp_path / "small.png", random.random((11, 14, 3)))
    status, _, told = applied(
        monkeypatch, capsys, tmp_path / "enlarging", tmp_path / "small.png", f"out={tmp_path}/out"
    )
    assert (status, told) == (0, "")
    small = images.load(tmp_path / "small.png")[None]
    expected = painted_whole(ENLARGING, enlarging.params, small, np.ones((1, 1), np.float32))[0]
    written = images.load(tmp_path / "out" / "small.png")
    assert written.shape == (44, 56, 3)
    np.testing.assert_allclose(written, np.clip(expected, 0, 1), atol=0.5 / 255 + 1e-4)
    assert json.loads(images.read_metadata(tmp_path / "out" / "small.png"))["upscale"] == 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("size=64", "size: this model has no styles, it makes pictures 4 times as large"),
        ("mixture=[1]", "mixture: this model has no styles"),
        ("steady=0.5", "steady: this model has no styles"),
        ("tile=16", "48 x 48 pixels are too many, 4 times as large (at most 2,000)"),
        ("format=jpg", "48 x 48 pixels are too many for a side of a JPEG (at most 47"),
    ],
)
def test_apply_refuses_what_larger_pictures_have_not(
    setting, message, enlarging, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(images, "MAX_PIXELS", 2000 if setting == "tile=16" else 10_000)
    monkeypatch.setattr(images, "MAX_JPEG_SIDE", 47)
    monkeypatch.chdir(tmp_path)
    images.save(tmp_path / "photo.png", np.full((12, 12, 3), 0.5))
    status, _, told = applied(monkeypatch, capsys, "enlarging", "photo.png", "out=o", setting)
    assert status == 2
    assert message in told
    assert told.count("\n") == 1


def test_what_stands_still_keeps_a_share_of_the_frame_before(random):
    photograph, painted, before = random.random((3, 8, 8, 3))
    moved = photograph.copy()
    moved[:4] = 1 - np.round(photograph[:4])
    result = apply.steadied(painted, moved, photograph, before, 0.75)
    np.testing.assert_allclose(result[4:], 0.25 * painted[4:] + 0.75 * before[4:], atol=1e-6)
    np.testing.assert_allclose(result[:4], painted[:4], atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png"], "out: no folder given"),
        (["photo.png", "out=o", "mixture=[1]"], "mixture: [1.0] is not a number from 0 on for"),
        (["photo.png", "out=o", "mixtur=[1,2]"], "did you mean 'mixture'"),
        (["photo.png", "out=o", "size=big"], "size: Value 'big'"),
        (["photo.png", "out=o", "batch=0"], "batch: 0 is out of range"),
        (["photo.png", "out=o", "steady=2"], "steady: 2.0 is out of range"),
        (["photo.png", "out=o", "format=webp"], "format: unknown value 'webp'"),
        (["photo.png", "out=o.jpg"], "out: o.jpg is no folder"),
        (["none.png", "out=o"], "none.png: No such file"),
        (["~nobody-here/a.png", "out=o"], "pictures: ~nobody-here/a.png: "),
        (["photo.png", "out=."], "photo.png is one of the pictures"),
        (
            ["photo.png", "photo.png", "out=o"],
            "photo.png and photo.png would both be written to o/photo.png",
        ),
        (["out=o"], "pictures: none given"),
        (["photo.png", "export=a"], "export: it takes a model alone"),
    ],
)
def test_apply_refuses_in_one_line(arguments, message, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images.save(tmp_path / "photo.png", np.full((12, 12, 3), 0.5))
    (tmp_path / "empty").mkdir()
    status, _, told = applied(monkeypatch, capsys, "model", *arguments)
    assert status == 2
    assert message in told
    assert told.count("\n") == 1
