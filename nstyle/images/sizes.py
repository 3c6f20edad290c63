"""Sizes of pictures: what a setting asks for, scaling, turning, and averages over areas."""

import math
import re

import numpy as np
from PIL import Image

from nstyle.errors import NstyleError, check_choice

#: Side of a picture that a single number for its size means.
SIDES = ("long", "short", "width", "height")


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
    check_finite(image)
    return Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))


def check_finite(image: np.ndarray) -> None:
    """Refuses a picture with values that are not finite: none is ever written."""
    if not np.isfinite(image).all():
        raise NstyleError("the picture has values that are not finite")
