"""Every kind of picture file against its twin: the colours that its numbers mean, computed here.

A case is a format, a mode, a depth, a profile and a kind of transparency; each is read in every
orientation. What cannot be read right is refused.
"""

import itertools
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from colour_profiles import PROFILES, meant
from PIL import Image

from nstyle import images
from nstyle.errors import NstyleError

#: Upright and turned; numbers that EXIF does not know.
ORIENTATIONS = (None, *range(10), 255)

#: Two steps of 8 bits and a rounding: a profile's tables, transparency, 16 bits cut to 8.
TOLERANCE = 2.5 / 255

#: How each of EXIF's orientations is undone.
TURNS = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: np.rot90,
}


class Kind(NamedTuple):
    """What a file is; `depth` is of a channel, `alpha` one of none, channel and key."""

    format: str
    colours: str
    depth: int
    alpha: str
    profile: str


def numbers(kind, random):
    """Numbers of a picture 8 wide and 6 high, and of its alpha, 0 to their largest."""
    channels = {"grey": 1, "rgb": 3}[kind.colours]
    most = 2**kind.depth
    pixels = random.integers(0, most, (6, 8, channels))
    if kind.alpha == "key":
        opaque = (pixels != pixels[2, 3]).any(axis=2)
        return pixels, np.where(opaque, most - 1, 0)
    return pixels, random.integers(0, most, (6, 8))


def png(path, kind, pixels, alpha, orientation):
    """Writes a PNG file by hand: Pillow writes neither all depths nor all keys."""
    colour_type = {"grey": 0, "rgb": 2}[kind.colours]
    chunks = {}
    if kind.profile != "none":
        chunks[b"iCCP"] = b"profile\0\0" + zlib.compress(PROFILES[kind.profile])
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        chunks[b"eXIf"] = exif.tobytes().removeprefix(b"Exif\0\0")
    if kind.alpha == "key":
        chunks[b"tRNS"] = pixels[2, 3].astype(">u2").tobytes()
    if kind.alpha == "channel":
        colour_type += 4
        pixels = np.dstack([pixels, alpha])
    bits = (pixels[..., None] >> np.arange(kind.depth)[::-1]) & 1
    rows = np.packbits(bits.reshape(6, -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", 8, 6, kind.depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    body = {b"IHDR": header} | chunks | {b"IDAT": data, b"IEND": b""}
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in body.items():
            check = struct.pack(">I", zlib.crc32(name + content))
            file.write(struct.pack(">I", len(content)) + name + content + check)


def tiff(path, kind, pixels, alpha, orientation):
    """Writes a TIFF file, whose numbers are in the order of the format's name."""
    pixels = np.dstack([pixels, alpha]) if kind.alpha == "channel" else pixels
    photometric = "rgb" if kind.colours == "rgb" else "minisblack"
    if kind.format.endswith("inverted"):
        pixels, photometric = 2**kind.depth - 1 - pixels, "miniswhite"
    tifffile.imwrite(
        path,
        pixels.squeeze().astype(f"u{kind.depth // 8}"),
        byteorder=">" if "big" in kind.format else "<",
        photometric=photometric,
        extrasamples=["unassalpha"] if kind.alpha == "channel" else None,
        planarconfig="contig",
        iccprofile=PROFILES[kind.profile] or None,
        extratags=[] if orientation is None else [(274, "H", 1, orientation, True)],
        metadata=None,
    )


def by_pillow(path, kind, pixels, alpha, orientation):
    """Writes a file of any other format."""
    image = Image.fromarray(pixels.squeeze().astype(np.uint8))
    if kind.alpha == "channel":
        image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    exact = {"WEBP": {"lossless": True, "exact": True}}.get(kind.format, {"quality": 100})
    image.save(path, kind.format, icc_profile=PROFILES[kind.profile], exif=exif, **exact)


WRITERS = {"PNG": png, "TIFF": tiff, "TIFF-big": tiff, "TIFF-inverted": tiff}


def kinds():
    for format, colours, depth, alpha, profile in itertools.product(
        ("PNG", "TIFF", "TIFF-big", "TIFF-inverted", "JPEG", "WEBP", "AVIF"),
        ("grey", "rgb"),
        (1, 2, 4, 8, 16),
        ("none", "channel", "key"),
        PROFILES,
    ):
        grey, shallow = colours == "grey", depth < 8
        exists = {
            "PNG": not shallow or (grey and alpha != "channel"),
            "TIFF": not shallow and alpha != "key",
            "TIFF-big": not shallow and alpha != "key",
            "TIFF-inverted": not shallow and alpha == "none" and grey,
            "JPEG": depth == 8 and alpha == "none",
        }.get(format, depth == 8 and alpha != "key")
        if exists:
            yield Kind(format, colours, depth, alpha, profile)


def refused(kind):
    """What is refused, and the line that says so."""
    if kind[:4] == ("PNG", "rgb", 16, "key"):
        return "a transparent colour of 16 bits cannot be told"
    if kind.format.startswith("TIFF") and kind[1:4] == ("grey", 16, "channel"):
        return "is not a picture that can be read .allowed: PNG, JPEG"
    return ""


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: "-".join(map(str, kind)))
def test_a_file_reads_as_its_twin_and_its_header_tells_the_shape(kind, tmp_path, random):
    pixels, alpha = numbers(kind, random)
    write, path = WRITERS.get(kind.format, by_pillow), tmp_path / "picture"
    write(path, kind, pixels, alpha, None)
    if line := refused(kind):
        with pytest.raises(NstyleError, match=rf"^picture: {path}:? {line}"):
            images.load(path)
        return
    values = np.broadcast_to(pixels, (6, 8, 3)) / (2**kind.depth - 1)
    if write is by_pillow:  # not all of them keep numbers exactly
        with Image.open(path) as image:
            values = np.asarray(image.convert("RGB")) / 255
    opacity = 1.0 if kind.alpha == "none" else alpha[..., None] / (2**kind.depth - 1)
    twin = opacity * meant(values, kind.profile) + 1 - opacity
    for orientation in ORIENTATIONS if kind.profile in ("none", "grey") else (6,):
        write(path, kind, pixels, alpha, orientation)
        header, found = images.header(path), images.load(path)
        assert header.shape == found.shape
        assert header.orientation == (orientation if orientation in TURNS else 1)
        assert (header.depth, header.frames) == (kind.depth, 1)
        np.testing.assert_allclose(found, TURNS.get(orientation, np.array)(twin), atol=TOLERANCE)


@pytest.mark.parametrize("transparency", [None, 3, bytes([255, 128, 0, 64])])
@pytest.mark.parametrize("profile", ["none", "p3", "grey"])
@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF"])
def test_palettes(form, profile, transparency, tmp_path, random):
    if form != "PNG" and (isinstance(transparency, bytes) or profile != "none"):
        return  # the format has none
    image = Image.fromarray(random.integers(0, 4, (6, 8), np.uint8), "P")
    palette = random.integers(0, 256, (4, 3), np.uint8)
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a", form, icc_profile=PROFILES[profile] or None, **options)
    opacity = np.ones(4)
    if form != "TIFF" and transparency is not None:
        opacity = np.array([1, 128 / 255, 0, 64 / 255] if transparency != 3 else [1, 1, 1, 0])
    twin = opacity[:, None] * meant(palette / 255, profile) + 1 - opacity[:, None]
    np.testing.assert_allclose(images.load(tmp_path / "a"), twin[np.asarray(image)], atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["cmyk", "16-bit ppm", "12-bit tiff", "two bits"])
def test_rarer_kinds(kind, tmp_path, random):
    small = Image.fromarray(random.integers(40, 216, (2, 3, 3), np.uint8))
    rgb = np.asarray(small.resize((8, 6), Image.Resampling.BICUBIC))
    twin, path = rgb, tmp_path / "picture"
    match kind:
        case "cmyk":
            image = Image.fromarray(255 - np.dstack([rgb, np.full((6, 8), 255, np.uint8)]), "CMYK")
            image.save(path, "TIFF")
        case "two bits":
            Image.fromarray(rgb[..., 0] > 128).save(path, "TIFF")
            twin = 255 * (rgb[..., :1] > 128)
        case "16-bit ppm":
            values = random.integers(0, 2**16, (6, 8))
            path.write_bytes(b"P5 8 6 65535\n" + values.astype(">u2").tobytes())
            twin = values[..., None] / 257
        case "12-bit tiff":
            values = random.integers(0, 2**12, (6, 8))
            bits = (values[..., None] >> np.arange(12)[::-1]) & 1
            packed = np.packbits(bits.reshape(6, -1).astype(np.uint8), axis=1).tobytes()
            path.write_bytes(one_strip(packed, 8, 6, {258: 12, 262: 1}))
            twin = values[..., None] / 4095 * 255
    np.testing.assert_allclose(
        images.load(path), np.broadcast_to(twin, (6, 8, 3)) / 255, atol=TOLERANCE
    )


def one_strip(data, width, height, tags):
    """A TIFF file of one strip, with these tags besides."""
    tags = {256: width, 257: height, 259: 1, 277: 1, 278: height, 279: len(data), **tags}
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int16", "float32"])
def test_pixels_without_a_range_are_refused_with_the_files_name(dtype, tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", np.arange(48).reshape(6, 8).astype(dtype))
    kind = "floating-point" if dtype == "float32" else "signed or 32-bit"
    with pytest.raises(NstyleError, match=rf"a\.tiff: {kind} pixels cannot be read"):
        images.load(tmp_path / "a.tiff")


def test_cielab_is_refused_with_the_files_name(tmp_path):
    Image.new("LAB", (8, 6)).save(tmp_path / "a.tiff")
    with pytest.raises(NstyleError, match=r"a\.tiff: CIELAB pixels cannot be read"):
        images.load(tmp_path / "a.tiff")


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_and_pages_are_refused(form, tmp_path, random):
    first, *rest = (Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)) for _ in range(3))
    first.save(tmp_path / "a", form, save_all=True, append_images=rest)
    assert images.header(tmp_path / "a").frames == 3
    with pytest.raises(NstyleError, match=r"/a has 3 frames or pages \(save the one"):
        images.load(tmp_path / "a")


def test_the_previews_in_a_cameras_jpeg_are_no_frames(tmp_path, random):
    """A JPEG file of several pictures, as phones write it: the first is the photograph."""
    first, other = (Image.new("RGB", (8, 6), colour) for colour in ("white", "black"))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[other])
    assert images.header(tmp_path / "a.jpg").frames == 1
    np.testing.assert_array_equal(images.load(tmp_path / "a.jpg"), 1)


def test_a_format_that_is_not_read_is_refused_with_those_that_are(tmp_path):
    for form in ("JPEG2000", "EPS", "ICO"):
        Image.new("RGB", (16, 16)).save(tmp_path / "a", form)
        with pytest.raises(
            NstyleError, match="allowed: PNG, JPEG, WEBP, TIFF, GIF, BMP, AVIF, PPM"
        ):
            images.load(tmp_path / "a")


def test_a_size_that_is_too_large_is_not_said_of_the_file(tmp_path):
    images.save(tmp_path / "a.png", np.zeros((6, 8, 3)))
    with pytest.raises(
        NstyleError, match=r"^size: 20000 makes .*a\.png 20000 x 15000 pixels, more"
    ):
        images.load(tmp_path / "a.png", 20000)


def peak():
    """The most memory that this process has had since it was last told to begin anew, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize("mode", ["I;16", "L", "LA", "RGB", "RGBA", "P"])
def test_a_large_picture_takes_four_bytes_a_channel_beside_the_result(mode, tmp_path):
    """Of a grey or wide profile, turned; not even half of a copy in float64."""
    width, height = 3000, 2000
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = PROFILES["p3" if mode in ("RGB", "RGBA", "P") else "grey"]
    Image.new(mode, (width, height)).save(
        tmp_path / "a.png", compress_level=1, icc_profile=profile, exif=exif
    )
    images.load(tmp_path / "a.png", 8)  # what is loaded once and for all
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    result = images.load(tmp_path / "a.png")
    beside = peak() - before - result.nbytes
    assert beside < 4 * 3 * width * height + 2**23
