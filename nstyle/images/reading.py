"""Pictures from files and strangers: upright, in sRGB, as float32 in [0, 1]."""

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from nstyle.errors import NstyleError, nearest
from nstyle.images.sizes import scaled_size, to_float

#: More pixels than this are refused before they are decoded: a small file can claim a huge picture.
#: Fewer are too many where somebody unknown sent it.
MAX_PIXELS, MAX_RECEIVED_PIXELS = 150_000_000, 60_000_000


#: Formats that are read, by Pillow's names, and how their files' names end. No reader among them
#: runs programs, as that of EPS does, or passes over colour profiles, as that of JPEG 2000 does.
READ = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm"),
}


#: What Pillow's readers raise of damaged files, beside `OSError`.
_DAMAGED = (
    ArithmeticError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


#: Pixels that are converted at a time.
_STRIP_PIXELS = 2**18


#: Pillow's modes of colours, by the spaces of profiles.
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}


#: Modes that are not read: nothing says which number is white, or Pillow does not convert them.
_NOT_READ = {"F": "floating-point", "I": "signed or 32-bit", "LAB": "CIELAB"}


class Header(NamedTuple):
    """What a picture's file says of it before its pixels are decoded.

    Attributes:
      shape: (height, width, 3) as it is read, turned upright.
      mode: of its pixels, Pillow's name.
      depth: bits of a channel.
      orientation: EXIF's, from 1 to 8; 1 where there is none or none of these.
      profile: the embedded colour profile; empty where there is none.
      frames: how many pictures are in it.
    """

    shape: tuple[int, int, int]
    mode: str
    depth: int
    orientation: int
    profile: bytes
    frames: int


def load(path: str | Path, size: int | str | None = None, side: str = "long") -> np.ndarray:
    """Reads a picture and scales it with a Lanczos filter.

    Orientation is taken from EXIF, colours are converted to sRGB by the embedded profile, 16-bit
    values are scaled, palettes, greyscale and CMYK become RGB, transparent parts show white.

    Args:
      path: of a format in `READ`.
      size: one side in pixels, or `"WIDTHxHEIGHT"`; None leaves the picture as it is.
      side: which side a single number means, one of `SIDES`.

    Returns:
      A float32 array (height, width, 3) in [0, 1].

    Raises:
      NstyleError: the file is missing, empty, truncated, not such a picture, an animation, too
        large, or of pixels that cannot be read.
    """
    with _file(path) as file:
        return decode(file, str(path), size, side)


def header(path: str | Path) -> Header:
    """Returns what a picture's file says of it.

    Raises:
      NstyleError: the file is missing, empty, not a picture, or too large.
    """
    with _file(path) as file, _opened(file, str(path), MAX_PIXELS) as image:
        return _header(image)


def received(file: BinaryIO, name: str, longest: int) -> np.ndarray:
    """Reads a picture that somebody sent, as `load` does, but of fewer pixels.

    Args:
      file: open at its beginning.
      name: what errors call it.
      longest: the longer side in pixels at most; a smaller picture stays as it is.

    Returns:
      A float32 array (height, width, 3) in [0, 1].

    Raises:
      NstyleError: see `load`.
    """
    picture = _decoded(file, name, MAX_RECEIVED_PIXELS)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return to_float(picture)


def decode(
    file: BinaryIO, name: str, size: int | str | None = None, side: str = "long"
) -> np.ndarray:
    """Reads a picture from an open file, as `load` does.

    Args:
      file: binary, at its beginning; it can be sought in.
      name: what errors call it.
      size: see `load`.
      side: see `load`.

    Returns:
      A float32 array (height, width, 3) in [0, 1].

    Raises:
      NstyleError: see `load`.
    """
    rgb = _decoded(file, name, MAX_PIXELS)
    return to_float(rgb if size is None else _resized(rgb, size, side, name))


def load_deep(path: Path) -> np.ndarray:
    """Returns a TIFF of 16 bits a channel that this package wrote, float32 in [0, 1]."""
    import tifffile

    return tifffile.imread(path).astype(np.float32) / np.float32(65535)


def of_pillow(image: Any, name: str) -> np.ndarray | None:
    """Returns a picture of Pillow as `load` returns a file; None of anything else.

    Raises:
      NstyleError: see `load`.
    """
    if not isinstance(image, Image.Image):
        return None
    header = _header(image)
    _check_readable(image, header, name)
    return to_float(_to_srgb(ImageOps.exif_transpose(image), header))


@contextmanager
def _file(path: str | Path) -> Iterator[BinaryIO]:
    try:
        with Path(path).expanduser().open("rb") as file:
            yield file
    except RuntimeError as error:  # the home of nobody
        raise NstyleError(f"picture: {path}: {error}") from error
    except IsADirectoryError as error:
        raise NstyleError(
            f"picture: {path} is a folder (a sweep over its pictures: -m contents=FOLDER"
            " styles=FOLDER, or -m 'style=glob(FOLDER/*.jpg)')"
        ) from error
    except OSError as error:
        near = ""
        with suppress(OSError, RuntimeError):
            place = Path(path).expanduser()
            there = [own.name for own in place.parent.iterdir()]
            near = "" if place.exists() else nearest(place.name, there)
        raise NstyleError(f"picture: {path}: {error.strerror}{near}") from error


@contextmanager
def _opened(file: BinaryIO, name: str, most: int) -> Iterator[Image.Image]:
    """Opens a picture of so many pixels at most; what is wrong with it is told in one line."""
    try:
        if not file.read(1):
            raise NstyleError(f"picture: {name} is empty")
        file.seek(0)
        with warnings.catch_warnings():
            # Pillow warns far below our limit, and refuses at twice its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with Image.open(file, formats=tuple(READ)) as image:
                if image.width * image.height > most:
                    raise NstyleError(
                        f"picture: {name} has {image.width} x {image.height} pixels, more than"
                        f" {most:,}"
                    )
                yield image
    except Image.DecompressionBombError as error:
        raise NstyleError(f"picture: {name} is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise NstyleError(
            f"picture: {name} is not a picture that can be read (allowed: {', '.join(READ)})"
        ) from error
    except OSError as error:
        reason = error.strerror or f"damaged or truncated ({error})"
        raise NstyleError(f"picture: {name}: {reason}") from error
    except _DAMAGED as error:
        raise NstyleError(f"picture: {name}: damaged ({error})") from error


def _header(image: Image.Image) -> Header:
    """Returns what is known of a picture that is open and not decoded."""
    depth = {"1": 1, "I": 16, "I;16": 16, "I;16B": 16, "F": 32}.get(image.mode, 8)
    if bits := _tag(image, TiffImagePlugin.BITSPERSAMPLE):
        depth = bits[0]
    elif isinstance(image, PngImagePlugin.PngImageFile):
        named = re.search(r";(\d+)", str(image.tile))
        depth = int(named[1]) if named else depth
    # A PNG file may say at its end how it is turned: Pillow then decodes it.
    told = image.getexif().get(ExifTags.Base.Orientation)
    orientation = next((number for number in range(1, 9) if number == told), 1)
    width, height = image.size
    # Of a TIFF file with such a tag Pillow has turned the size.
    if orientation >= 5 and _tag(image, ExifTags.Base.Orientation) is None:
        width, height = height, width
    # The further pictures of a phone's or camera's MPO are previews, or another eye's.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    profile = image.info.get("icc_profile") or b""
    return Header((height, width, 3), image.mode, depth, orientation, profile, frames)


def _tag(image: Image.Image, tag: int) -> Any:
    """Returns what a TIFF file says under a tag; None where it says nothing, or is another file."""
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _decoded(file: BinaryIO, name: str, most: int) -> Image.Image:
    """Returns a picture of so many pixels at most as 8-bit RGB in sRGB."""
    with _opened(file, name, most) as image:
        header = _header(image)
        _check_readable(image, header, name)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _to_srgb(image, header)


def _check_readable(image: Image.Image, header: Header, name: str) -> None:
    """Refuses what has several pictures, or pixels that would not be read right."""
    if header.frames > 1:
        raise NstyleError(
            f"picture: {name} has {header.frames} frames or pages (save the one that is meant as a"
            " file of its own)"
        )
    sixteen = header.mode == "I" and image.format == "PPM"
    if header.mode in _NOT_READ and not sixteen:
        raise NstyleError(
            f"picture: {name}: {_NOT_READ[header.mode]} pixels cannot be read (save it in RGB or"
            " grey, in 8 or 16 bits)"
        )
    if header.mode == "RGB" and header.depth > 8 and "transparency" in image.info:
        raise NstyleError(
            f"picture: {name}: a transparent colour of {header.depth} bits cannot be told from its"
            " neighbours (save it with an alpha channel)"
        )


def read_metadata(path: str | Path) -> str:
    """Returns the text that `save` embedded in a picture, or the empty string.

    Raises:
      NstyleError: see `header`.
    """
    with _file(path) as file, _opened(file, str(path), MAX_PIXELS) as image:
        if "nstyle" in image.info:
            return str(image.info["nstyle"])
        return str(image.getexif().get(ExifTags.Base.ImageDescription, ""))


def _to_srgb(image: Image.Image, header: Header) -> Image.Image:
    """Returns a picture as 8-bit RGB in sRGB on white; by strips, so that no copy is held."""
    convert = _converter(image.mode, header.profile)
    key = image.info.get("transparency")
    if image.mode == "L" and key is not None:  # Pillow leaves it as it is in 2 and 4 bits
        image.info["transparency"] = key * (255 // (2**header.depth - 1))
    levels = _levels(image, header.depth) if image.mode.startswith("I") else None
    result = Image.new("RGB", image.size, "white")
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        alpha = None
        if levels is not None:
            values = np.asarray(strip)
            strip = Image.fromarray(levels[values])
            alpha = None if key is None else Image.fromarray(values != key)
        elif strip.has_transparency_data:
            alpha = strip.convert("RGBA").getchannel("A")
        result.paste(convert(strip), (0, top), alpha)
    return result


def _levels(image: Image.Image, depth: int) -> np.ndarray:
    """Returns what each value of a picture of 9 to 16 bits is in 8 bits, uint8."""
    levels = np.round(np.linspace(0, 255, 2**depth)).astype(np.uint8)
    # That white is zero Pillow minds up to 8 bits alone.
    inverted = _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return levels[::-1] if inverted else levels


def _converter(mode: str, profile: bytes) -> Callable[[Image.Image], Image.Image]:
    """Returns what makes a picture of a mode, its transparency aside, RGB in sRGB.

    A grey profile is a tone curve, that of each channel of a picture in colour. A profile that is
    broken or of another colour space is passed over.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _MODES[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError):
        space = ""

    def by_profile(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image.convert(space), transform)
        assert converted is not None, "it is not converted in place"
        return converted

    def by_channel(image: Image.Image) -> Image.Image:
        channels = image.convert("RGB").split()
        return Image.merge("RGB", [by_profile(channel).getchannel(0) for channel in channels])

    grey = Image.getmodebase(mode) == "L"
    own = "L" if grey else "CMYK" if mode == "CMYK" else "RGB"
    if space == own or (own, space) == ("L", "RGB"):
        return by_profile
    if (own, space) == ("RGB", "L"):
        return by_channel
    return lambda image: image.convert("RGB")


def _resized(image: Image.Image, size: int | str, side: str, name: str) -> Image.Image:
    width, height = scaled_size(*image.size, size, side)
    if width * height > MAX_PIXELS:
        raise NstyleError(
            f"size: {size} makes {name} {width} x {height} pixels, more than {MAX_PIXELS:,}"
        )
    return image.resize((width, height), Image.Resampling.LANCZOS)
