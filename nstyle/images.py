"""Reading and writing pictures; the only module that imports Pillow.

A picture in memory is a float32 array (height, width, 3), RGB in sRGB, from 0 (black) to 1 (white).
"""

import base64
import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageColor,
    ImageDraw,
    ImageFont,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from nstyle.errors import NstyleError, check_choice
from nstyle.files import write_atomic

#: More pixels than this are refused before they are decoded: a small file can claim a huge picture.
#: Fewer are too many where somebody unknown sent it.
MAX_PIXELS, MAX_RECEIVED_PIXELS = 150_000_000, 60_000_000

#: Longest side of a JPEG file that libjpeg writes.
MAX_JPEG_SIDE = 65_500

#: Side of a picture that a single number for its size means.
SIDES = ("long", "short", "width", "height")

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}

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


def parse_size(size: int | str) -> int | tuple[int, int]:
    """Returns a size as one side (`512`) or as (width, height) (`"640x480"`).

    Raises:
      NstyleError: it is neither.
    """
    if match := re.fullmatch(r"\s*(\d{1,6})(?:\s*x\s*(\d{1,6}))?\s*", str(size)):
        numbers = [int(number) for number in match.groups() if number is not None]
        if all(number > 0 for number in numbers):
            return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    raise NstyleError(
        f"size: {size!r} is no size (allowed: one side in pixels such as 512, or 640x480)"
    )


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
    except OSError as error:
        raise NstyleError(f"picture: {path}: {error.strerror}") from error


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


def scaled_size(width: int, height: int, size: int | str, side: str = "long") -> tuple[int, int]:
    """Returns the (width, height) that a picture has after scaling to `size`."""
    check_choice("size_side", side, SIDES)
    target = parse_size(size)
    if isinstance(target, tuple):
        return target
    sides = {"long": max(width, height), "short": min(width, height)}
    scale = target / (sides | {"width": width, "height": height})[side]
    return max(1, round(width * scale)), max(1, round(height * scale))


def parse_percent(size: int | str) -> float | None:
    """Returns the factor that a size such as `50%` stands for; None of any other.

    Raises:
      NstyleError: it is out of range.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*%\s*", str(size))
    if not match:
        return None
    percent = float(match[1])
    if not 1 <= percent <= 1000:
        raise NstyleError(f"size: {size} is out of range (allowed: from 1% to 1000%)")
    return percent / 100


def times(size: int | str, factor: float) -> int | str:
    """Returns a size, one side or `"WIDTHxHEIGHT"`, as large as the factor says."""
    target = parse_size(size)
    if isinstance(target, int):
        return max(1, round(factor * target))
    width, height = (max(1, round(factor * side)) for side in target)
    return f"{width}x{height}"


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Returns a picture turned anticlockwise, cut to the largest upright rectangle inside it.

    So no corner is empty, and nothing is mirrored or scaled: strokes keep their length and get the
    direction asked for. Bicubic, in 8 bits a channel; quarter turns are exact.
    """
    height, width = image.shape[:2]
    angle = math.radians(degrees)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    size = columns, rows = _inside_turned(width, height, abs(cosine), abs(sine))
    # Pillow asks where in the picture each pixel of the result comes from; centre from centre.
    left = (width - cosine * columns + sine * rows) / 2
    top = (height - sine * columns - cosine * rows) / 2
    turned = to_pillow(image).transform(
        size,
        Image.Transform.AFFINE,
        (cosine, -sine, left, sine, cosine, top),
        Image.Resampling.BICUBIC,
    )
    return to_float(turned)


def _inside_turned(width: int, height: int, cosine: float, sine: float) -> tuple[int, int]:
    """Returns width and height of the largest upright rectangle inside a turned one.

    Two of its corners lie on long sides of the turned one where that is narrow, else all four on
    all sides.
    """
    long, short = max(width, height), min(width, height)
    if short <= 2 * sine * cosine * long:
        sides = (short / (2 * sine), short / (2 * cosine))
        found = sides if width >= height else sides[::-1]
    else:
        spread = cosine**2 - sine**2
        found = (
            (width * cosine - height * sine) / spread,
            (height * cosine - width * sine) / spread,
        )
    columns, rows = (max(1, math.floor(side + 1e-6)) for side in found)
    return columns, rows


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns a picture scaled to (height, width, 3) with a Lanczos filter, in 8 bits a channel."""
    return to_float(to_pillow(image).resize((width, height), Image.Resampling.LANCZOS))


def area_average(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns a float32 plane scaled to (height, width), each value the mean of what it covers."""
    scaled = Image.fromarray(np.float32(plane)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(scaled, np.float32)


def drawn(outlines: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns which of some filled polygons shows at each pixel, later ones above.

    Args:
      outlines: x and y of every corner in pixels, (polygons, corners, 2).
      width: of the picture.
      height: of the picture.

    Returns:
      An int32 array (height, width): 0 where there is none, 1 for the first polygon.
    """
    picture = Image.new("I", (width, height))
    draw = ImageDraw.Draw(picture)
    for number, outline in enumerate(outlines, start=1):
        draw.polygon(outline.ravel().tolist(), fill=number)
    return np.asarray(picture)


def colour(text: str) -> str | None:
    """Returns a colour such as `red` or `#F00` as `#rrggbb`; None where it is none."""
    try:
        return "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(text)[:3])
    except ValueError:
        return None


def to_float(image: Image.Image) -> np.ndarray:
    """Returns an RGB Pillow image as float32 (height, width, 3) in [0, 1]."""
    values = np.array(image, np.float32)
    values /= np.float32(255)
    return values


def to_pillow(image: np.ndarray) -> Image.Image:
    """Returns a picture as an 8-bit RGB Pillow image, clipped to [0, 1] and rounded.

    Raises:
      NstyleError: a value is not finite; such a picture is never written.
    """
    array = np.asarray(image)
    if not np.isfinite(array).all():
        raise NstyleError("the picture has values that are not finite")
    return Image.fromarray(np.round(np.clip(array, 0, 1) * 255).astype(np.uint8))


def save(path: str | Path, image: np.ndarray, metadata: str = "", quality: int = 95) -> None:
    """Writes a picture as PNG, JPEG or TIFF, by its suffix, in one step.

    Args:
      path: its suffix is a key of `FORMATS`.
      image: float (height, width, 3); clipped to [0, 1].
      metadata: text to embed, as PNG text `nstyle` or as the EXIF image description.
      quality: of a JPEG, from 1 to 95.

    Raises:
      NstyleError: unknown suffix, a value that is not finite, or `path` cannot be written.
    """
    path = Path(path)
    kind = FORMATS[check_format(path)]
    options: dict[str, Any] = {}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("nstyle", metadata)
        options = {"pnginfo": text}
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = metadata.encode("ascii", "replace").decode()
        options = {"exif": exif}
        if kind == "JPEG":
            options |= {"quality": quality, "subsampling": 0}
    buffer = io.BytesIO()
    try:
        to_pillow(image).save(buffer, kind, **options)
    except OSError as error:  # a format that cannot hold it
        raise NstyleError(f"cannot write {path} as {kind}: {error}") from error
    write_atomic(path, buffer.getvalue())


def data_uri(image: np.ndarray, longest: int, quality: int = 85) -> str:
    """Returns a picture as a JPEG in a `data:` URI, for a page that holds its own pictures.

    Args:
      image: float (height, width, 3); clipped to [0, 1].
      longest: the longer side in pixels at most; a smaller picture stays as it is.
      quality: of the JPEG, from 1 to 95.

    Raises:
      NstyleError: a value is not finite.
    """
    picture = to_pillow(image)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_metadata(path: str | Path) -> str:
    """Returns the text that `save` embedded in a picture, or the empty string.

    Raises:
      NstyleError: see `header`.
    """
    with _file(path) as file, _opened(file, str(path), MAX_PIXELS) as image:
        if "nstyle" in image.info:
            return str(image.info["nstyle"])
        return str(image.getexif().get(ExifTags.Base.ImageDescription, ""))


def check_format(path: Path) -> str:
    """Returns the suffix of a picture to be written, in lower case.

    Raises:
      NstyleError: it is not a key of `FORMATS`.
    """
    return check_choice(f"out: file type of {path}", path.suffix.lower(), FORMATS)


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


def contact_sheet(
    cells: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    rows: Sequence[str] = ("",),
    cell: int = 256,
) -> np.ndarray:
    r"""Lays pictures out in a grid with a name for every row and column.

    Args:
      cells: rows of pictures, each float (height, width, 3); None leaves a cell empty.
      columns: a name for each column, above it; `\n` starts a new line.
      rows: a name for each row, to its left.
      cell: side in pixels of the square that each picture is fitted into.

    Returns:
      A float32 picture, black on white.
    """
    gap, font = cell // 32, ImageFont.load_default(max(11, cell // 16))
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def extent(text: str) -> tuple[int, int]:
        left, top, right, bottom = measure.multiline_textbbox((0, 0), text or " ", font=font)
        return math.ceil(right - min(left, 0)), math.ceil(bottom - min(top, 0))

    fitted = [
        [
            None if image is None else ImageOps.contain(to_pillow(image), (cell, cell))
            for image in row
        ]
        for row in cells
    ]
    pictures = [image for row in fitted for image in row if image is not None]
    width = max(max(image.width for image in pictures), *(extent(name)[0] for name in columns))
    height = max(image.height for image in pictures)
    left = max(extent(name)[0] for name in rows) + 2 * gap if any(rows) else gap
    above = max(extent(name)[1] for name in columns) + 2 * gap
    sheet = Image.new(
        "RGB",
        (left + len(columns) * (width + gap), above + len(rows) * (height + gap)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        middle = left + column * (width + gap) + width // 2
        draw.multiline_text((middle, above - gap), name, "black", font, anchor="md", align="center")
    for row, name in enumerate(rows):
        top = above + row * (height + gap)
        draw.multiline_text((gap, top + height // 2), name, "black", font, anchor="lm")
        for column, image in enumerate(fitted[row]):
            if image is not None:
                x = left + column * (width + gap) + (width - image.width) // 2
                sheet.paste(image, (x, top + (height - image.height) // 2))
    return to_float(sheet)
