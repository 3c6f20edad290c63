"""Reading and writing pictures; the only module that imports Pillow.

A picture in memory is a float32 array (height, width, 3), RGB in sRGB, from 0 (black) to 1 (white).
"""

import base64
import io
import math
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

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
    UnidentifiedImageError,
)

from nstyle.errors import NstyleError, check_choice
from nstyle.files import write_atomic

#: More pixels than this are refused before they are decoded: a small file can claim a huge picture.
MAX_PIXELS = 150_000_000

#: Longest side of a JPEG file that libjpeg writes.
MAX_JPEG_SIDE = 65_500

#: Side of a picture that a single number for its size means.
SIDES = ("long", "short", "width", "height")

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}

#: Formats, by Pillow's names, of pictures from people unknown: no reader among them runs programs.
RECEIVED = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")

_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


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
    values are scaled, palettes, greyscale and CMYK become RGB, transparent parts show white. Of a
    file with several pages the first is read.

    Args:
      path: PNG, JPEG, TIFF, WebP, GIF, BMP or what else Pillow reads.
      size: one side in pixels, or `"WIDTHxHEIGHT"`; None leaves the picture as it is.
      side: which side a single number means, one of `SIDES`.

    Returns:
      A float32 array (height, width, 3) in [0, 1].

    Raises:
      NstyleError: the file is missing, empty, truncated, not a picture, or too large.
    """
    try:
        path = Path(path).expanduser()
        with path.open("rb") as file:
            return decode(file, str(path), size, side)
    except RuntimeError as error:  # the home of nobody
        raise NstyleError(f"picture: {path}: {error}") from error
    except OSError as error:
        raise NstyleError(f"picture: {path}: {error.strerror}") from error


def received(file: BinaryIO, name: str, longest: int) -> np.ndarray:
    """Reads a picture that somebody sent, as `load` does, of a format in `RECEIVED` alone.

    Args:
      file: open at its beginning.
      name: what errors call it.
      longest: the longer side in pixels at most; a smaller picture stays as it is.

    Returns:
      A float32 array (height, width, 3) in [0, 1].

    Raises:
      NstyleError: it is empty, truncated, not such a picture, or too large.
    """
    picture = _decoded(file, name, RECEIVED)
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
      NstyleError: it is empty, truncated, not a picture, or too large.
    """
    rgb = _decoded(file, name)
    return to_float(rgb if size is None else _resized(rgb, size, side, name))


def _decoded(file: BinaryIO, name: str, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Returns a picture as 8-bit RGB in sRGB; None for all formats that Pillow reads."""
    try:
        if not file.read(1):
            raise NstyleError(f"picture: {name} is empty")
        file.seek(0)
        with warnings.catch_warnings():
            # Pillow warns far below our limit, and refuses at twice its own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with Image.open(file, formats=formats) as opened:
                _check_pixels(name, *opened.size)
                return _to_srgb(opened)
    except Image.DecompressionBombError as error:
        raise NstyleError(f"picture: {name} is too large: {error}") from error
    except UnidentifiedImageError as error:
        allowed = f" (allowed: {', '.join(formats)})" if formats else ""
        raise NstyleError(f"picture: {name} is not a picture that can be read{allowed}") from error
    except OSError as error:
        reason = error.strerror or f"damaged or truncated ({error})"
        raise NstyleError(f"picture: {name}: {reason}") from error
    except (SyntaxError, ValueError, struct.error, EOFError) as error:
        raise NstyleError(f"picture: {name}: damaged ({error})") from error


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


def dimensions(path: str | Path) -> tuple[int, int]:
    """Returns the height and width of a picture as it is read, from the head of its file."""
    with Image.open(Path(path).expanduser()) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return image.size if turned else (image.height, image.width)


def colour(text: str) -> str | None:
    """Returns a colour such as `red` or `#F00` as `#rrggbb`; None where it is none."""
    try:
        return "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(text)[:3])
    except ValueError:
        return None


def to_float(image: Image.Image) -> np.ndarray:
    """Returns an RGB Pillow image as float32 (height, width, 3) in [0, 1]."""
    return np.asarray(image, np.float32) / np.float32(255)


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
    """Returns the text that `save` embedded in a picture, or the empty string."""
    with Image.open(path) as image:
        if "nstyle" in image.info:
            return str(image.info["nstyle"])
        return str(image.getexif().get(ExifTags.Base.ImageDescription, ""))


def check_format(path: Path) -> str:
    """Returns the suffix of a picture to be written, in lower case.

    Raises:
      NstyleError: it is not a key of `FORMATS`.
    """
    return check_choice(f"out: file type of {path}", path.suffix.lower(), FORMATS)


def _check_pixels(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise NstyleError(
            f"picture: {name} has {width} x {height} pixels, more than {MAX_PIXELS:,}"
        )


def _to_srgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image, np.float64) / 65535
        profile = None
        image = Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))
    else:
        if image.mode == "F":
            raise NstyleError("picture: floating-point pixels have no fixed range; save it as PNG")
        profile = image.info.get("icc_profile")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        opaque = _by_profile(image.convert("RGB"), profile)
        white = Image.new("RGB", image.size, "white")
        return Image.composite(opaque, white, alpha)
    return _by_profile(image, profile)


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts to sRGB; a profile that is broken or of another colour space is passed over."""
    if image.mode == "P":
        image = image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def _resized(image: Image.Image, size: int | str, side: str, name: str) -> Image.Image:
    width, height = scaled_size(*image.size, size, side)
    _check_pixels(name, width, height)
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
