"""Every kind of file that users have, and files that are no pictures."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nstyle import images
from nstyle.errors import NstyleError


@pytest.fixture
def rgb(random):
    """Smooth 8-bit colours, 12 wide and 8 high."""
    small = Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((12, 8), Image.Resampling.BICUBIC))


def loaded(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"picture{suffix}"
    image.save(path, **options)
    return np.round(images.load(path) * 255).astype(int)


def test_png_is_read_exactly(tmp_path, rgb):
    found = loaded(tmp_path, Image.fromarray(rgb))
    np.testing.assert_array_equal(found, rgb)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation(tmp_path, rgb, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = loaded(tmp_path, Image.fromarray(rgb), exif=exif)
    np.testing.assert_array_equal(found, turned(rgb))


def test_transparent_parts_show_white(tmp_path, rgb):
    alpha = np.zeros((8, 12, 1), np.uint8)
    alpha[:, 6:] = 255
    found = loaded(tmp_path, Image.fromarray(np.concatenate([rgb, alpha], axis=2)))
    np.testing.assert_array_equal(found[:, :6], 255)
    np.testing.assert_array_equal(found[:, 6:], rgb[:, 6:])


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (2, 0, 4, 2))
    found = loaded(tmp_path, image, transparency=0)
    np.testing.assert_array_equal(found[0], [[255] * 3] * 2 + [[0, 0, 255]] * 2)


def test_greyscale_one_bit_and_alpha(tmp_path, rgb):
    grey = Image.fromarray(rgb).convert("L")
    found = loaded(tmp_path, grey)
    np.testing.assert_array_equal(found, np.repeat(np.asarray(grey)[..., None], 3, axis=2))
    assert set(np.unique(loaded(tmp_path, grey.convert("1")))) <= {0, 255}
    np.testing.assert_array_equal(loaded(tmp_path, grey.convert("LA")), found)


def test_sixteen_bits_keep_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    for suffix in (".png", ".tiff"):
        found = loaded(tmp_path, Image.fromarray(ramp), suffix)
        np.testing.assert_array_equal(found[..., 0], np.round(ramp / 257))


def test_cmyk(tmp_path):
    found = loaded(tmp_path, Image.new("CMYK", (4, 4), (0, 255, 255, 0)), ".tiff")
    np.testing.assert_array_equal(found[0, 0], [255, 0, 0])


def test_colour_profile_is_applied(tmp_path, rgb):
    """A linear-light profile makes the same numbers lighter in sRGB; sRGB's own leaves them."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    same = loaded(tmp_path, Image.fromarray(rgb), icc_profile=srgb.tobytes())
    assert np.abs(same - rgb).max() <= 1
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    wrong = loaded(tmp_path, Image.fromarray(rgb), icc_profile=lab.tobytes())
    np.testing.assert_array_equal(wrong, rgb)
    broken = loaded(tmp_path, Image.fromarray(rgb), icc_profile=b"not a profile")
    np.testing.assert_array_equal(broken, rgb)


def test_swapped_primaries_in_a_profile_are_undone(tmp_path):
    """A profile whose first channel is sRGB's blue: pure 'red' numbers are blue light."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = {tag: profile.index(tag) for tag in (b"rXYZ", b"bXYZ")}
    swapped = bytearray(profile)
    swapped[at[b"rXYZ"] : at[b"rXYZ"] + 4] = b"bXYZ"
    swapped[at[b"bXYZ"] : at[b"bXYZ"] + 4] = b"rXYZ"
    found = loaded(tmp_path, Image.new("RGB", (2, 2), (255, 0, 0)), icc_profile=bytes(swapped))
    red, _, blue = found[0, 0]
    assert blue > 250
    assert red < 5


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        (6, "long", (6, 4)),
        (6, "short", (9, 6)),
        ("10x3", "long", (10, 3)),
        ("24", "long", (24, 16)),
    ],
)
def test_sizes(tmp_path, rgb, size, side, expected):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    height, width, _ = images.load(tmp_path / "a.png", size, side).shape
    assert (width, height) == expected


def test_resizing_is_lanczos(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(rgb).resize((6, 4), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(np.round(images.load(tmp_path / "a.png", 6) * 255), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_saved_pictures_come_back_with_their_metadata(tmp_path, rgb, suffix):
    path = tmp_path / "new folder" / f"a{suffix}"
    metadata = json.dumps({"style_weight": 1e5})
    smooth = np.broadcast_to(np.linspace(0, 1, 12)[None, :, None], (8, 12, 3))
    images.save(path, smooth, metadata)
    np.testing.assert_allclose(images.load(path), smooth, atol=0.02)
    assert json.loads(images.read_metadata(path)) == {"style_weight": 1e5}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def samples_of(png):
    """The 16-bit samples of a PNG whose rows all lack the one above, as the standard has them."""
    content, place, body = png.read_bytes(), 8, b""
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[:8])
        body += data if kind == b"IDAT" else b""
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 6 * width + 1)
    assert (rows[:, 0] == 2).all()
    whole = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    return whole.view(">u2").reshape(height, width, 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_sixteen_bits_are_written_as_they_are(tmp_path_factory, height, width, seed):
    folder = tmp_path_factory.mktemp("deep")
    picture = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    expected = np.round(65535 * picture.astype(np.float64)).astype(int)
    for suffix in ("png", "tiff"):
        images.save(folder / f"x.{suffix}", picture, "told", bits=16)
        assert images.read_metadata(folder / f"x.{suffix}") == "told"
        eight = np.asarray(Image.open(folder / f"x.{suffix}").convert("RGB")).astype(int)
        np.testing.assert_allclose(eight, expected / 257, atol=1)
    for found in (samples_of(folder / "x.png"), tifffile.imread(folder / "x.tiff")):
        np.testing.assert_allclose(found.astype(int), expected, atol=1)  # of float32's rounding
    np.testing.assert_allclose(images.load_deep(folder / "x.tiff"), picture, atol=0.51 / 65535)


def test_values_outside_the_range_are_clipped_and_nan_never_saved(tmp_path):
    images.save(tmp_path / "a.png", np.array([[[-1.0, 0.5, 2.0]]]))
    np.testing.assert_array_equal(
        np.round(images.load(tmp_path / "a.png") * 255), [[[0, 128, 255]]]
    )
    with pytest.raises(NstyleError, match="not finite"):
        images.save(tmp_path / "b.png", np.array([[[np.nan, 0, 0]]]))
    assert not (tmp_path / "b.png").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    images.save(path, np.zeros((2, 2, 3)))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NstyleError, match=r"a\.png: No space left"):
        images.save(path, np.ones((2, 2, 3)))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def png_bytes(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def claims_to_be_huge():
    """A valid header of a PNG of 100,000 x 100,000 pixels, and nothing behind it."""
    import struct
    import zlib

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b""))


BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "is not a picture"),
    "truncated": (png_bytes(Image.effect_noise((64, 64), 50))[:900], "truncated|damaged"),
    "huge": (claims_to_be_huge(), "is too large"),
    "float": (None, "floating-point"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_in_one_line(tmp_path, name):
    content, line = BAD_FILES[name]
    path = tmp_path / "bad.tiff"
    if content is None:
        Image.new("F", (4, 4)).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(NstyleError, match=line) as raised:
        images.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", ["0", "-4", "big", "10x", "10x0", "1e3", "3.5"])
def test_wrong_sizes_are_refused(size):
    with pytest.raises(NstyleError, match="is no size"):
        images.parse_size(size)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(8, 60), height=st.integers(8, 60), degrees=st.floats(-360, 360, width=32))
def test_a_turned_picture_has_no_empty_corner_and_is_as_large_as_can_be(width, height, degrees):
    """White stays white; the area is within pixels of the best of all widths and heights."""
    found = images.rotate(np.ones((height, width, 3), np.float32), degrees)
    assert (found == 1).all()
    cosine, sine = abs(np.cos(np.radians(degrees))), abs(np.sin(np.radians(degrees)))
    columns = np.linspace(0.01, width + height, 2000)
    # An upright rectangle lies inside where its own extent along both sides of the turned one does.
    inside = columns * cosine <= width, columns * sine <= height
    rows = np.minimum(
        (width - columns * cosine) / max(sine, 1e-9), (height - columns * sine) / max(cosine, 1e-9)
    )
    best = np.max(np.where(inside[0] & inside[1], columns * np.minimum(rows, 1e3), 0))
    assert found.shape[0] * found.shape[1] > best - sum(found.shape[:2]) - 3


def test_quarter_turns_are_exact_and_anticlockwise(random):
    image = images.to_float(images.to_pillow(random.random((7, 10, 3))))
    for turns in range(-3, 5):
        np.testing.assert_array_equal(images.rotate(image, 90 * turns), np.rot90(image, turns))


def test_a_turned_wave_has_the_angle_asked_for():
    """A wave along x, turned: its phase at each position is that of a wave along the angle."""
    rows, columns = np.indices((90, 120)) - np.array([44.5, 59.5])[:, None, None]
    wave = 0.5 + 0.4 * np.sin(columns / 5)
    turned = images.rotate(np.repeat(wave[..., None], 3, axis=2), 30)[..., 0]
    height, width = turned.shape
    rows, columns = np.indices(turned.shape) - np.array([height - 1, width - 1])[:, None, None] / 2
    along = columns * np.cos(np.radians(30)) - rows * np.sin(np.radians(30))
    np.testing.assert_allclose(turned, 0.5 + 0.4 * np.sin(along / 5), atol=0.02)


@pytest.mark.parametrize(
    ("size", "percent", "expected"),
    [(512, "50%", 256), ("640x480", "25%", "160x120"), (100, "150.5%", 150), (3, "1%", 1)],
)
def test_a_size_in_percent(size, percent, expected):
    assert images.times(size, images.parse_percent(percent)) == expected


def test_other_sizes_are_no_percent():
    assert [images.parse_percent(size) for size in (50, "50", "640x480", "content")] == [None] * 4


def test_a_sheet_has_every_row_named_or_not():
    shades = [[np.full((4, 4, 3), shade) for shade in pair] for pair in ((0, 0.2), (0.4, 0.6))]
    for names in ((), ("a", "b")):
        sheet = images.contact_sheet(shades, ["one", "two"], names, cell=32)
        assert {0.2, 0.4, 0.6} <= {round(float(value), 1) for value in np.unique(sheet)}
    with pytest.raises(ValueError, match="zip"):
        images.contact_sheet(shades, ["one", "two"], ["a"], cell=32)
