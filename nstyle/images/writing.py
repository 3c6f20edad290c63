"""Pictures to files: PNG, JPEG and TIFF with what made them, and data for pages."""

import base64
import io
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from nstyle.errors import NstyleError, check_choice
from nstyle.files import Json, write_atomic
from nstyle.images.sizes import check_finite, to_float, to_pillow

#: Longest side of a JPEG file that libjpeg writes.
MAX_JPEG_SIDE = 65_500


FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}


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


def parse_colour(text: str) -> str | None:
    """Returns a colour such as `red` or `#F00` as `#rrggbb`; None where it is none."""
    try:
        return "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(text)[:3])
    except ValueError:
        return None


def save(
    path: str | Path, image: np.ndarray, metadata: str = "", quality: int = 95, bits: int = 8
) -> None:
    """Writes a picture as PNG, JPEG or TIFF, by its suffix, in one step.

    Args:
      path: its suffix is a key of `FORMATS`.
      image: float (height, width, 3); clipped to [0, 1].
      metadata: text to embed, as PNG text `nstyle` or as the EXIF image description.
      quality: of a JPEG, from 1 to 95.
      bits: a channel, 8 or, of a PNG or TIFF, 16.

    Raises:
      NstyleError: unknown suffix, a value that is not finite, or `path` cannot be written.
    """
    path = Path(path)
    kind = FORMATS[check_format(path, bits)]
    if bits == 16:
        write_atomic(path, (_deep_png if kind == "PNG" else _deep_tiff)(_deep(image), metadata))
        return
    options: Json = {}
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


def _deep(image: np.ndarray) -> np.ndarray:
    """Returns a picture as uint16, clipped to [0, 1] and rounded; see `to_pillow`."""
    check_finite(image)
    return np.round(np.clip(image, 0, 1) * 65535).astype(np.uint16)


def _deep_tiff(values: np.ndarray, metadata: str) -> bytes:
    """Returns a TIFF file; Pillow writes none of 16 bits and three channels."""
    import tifffile

    buffer = io.BytesIO()
    described = metadata.encode("ascii", "replace").decode()
    tifffile.imwrite(
        buffer,
        values,
        photometric="rgb",
        compression="zlib",
        predictor=True,
        description=described,
        metadata=None,
    )
    return buffer.getvalue()


def _deep_png(values: np.ndarray, metadata: str) -> bytes:
    """Returns a PNG file (ISO/IEC 15948); Pillow writes none of 16 bits and three channels."""
    height, width = values.shape[:2]
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.insert(rows - above, 0, 2, axis=1)  # each row says that it lacks the one above
    text = PngImagePlugin.PngInfo()
    text.add_itxt("nstyle", metadata)
    buffer = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    buffer.seek(0, io.SEEK_END)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 6)
    PngImagePlugin.putchunk(buffer, b"IHDR", head)
    for kind, data, *_ in text.chunks:
        PngImagePlugin.putchunk(buffer, kind, data)
    PngImagePlugin.putchunk(buffer, b"IDAT", body)
    PngImagePlugin.putchunk(buffer, b"IEND")
    return buffer.getvalue()


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


def check_format(path: Path, bits: int = 8) -> str:
    """Returns the suffix of a picture to be written, in lower case.

    Args:
      path: of the picture.
      bits: a channel.

    Raises:
      NstyleError: it is not a key of `FORMATS`, or holds fewer bits.
    """
    suffix = check_choice(f"out: file type of {path}", path.suffix.lower(), FORMATS)
    if bits > 8 and FORMATS[suffix] == "JPEG":
        raise NstyleError(f"bits: {bits} are too many for {path} (.png and .tiff hold them)")
    return suffix


def contact_sheet(
    cells: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    rows: Sequence[str] = (),
    cell: int = 256,
) -> np.ndarray:
    r"""Lays pictures out in a grid with a name for every row and column.

    Args:
      cells: rows of pictures, each float (height, width, 3); None leaves a cell empty.
      columns: a name for each column, above it; `\n` starts a new line.
      rows: a name for each row, to its left; none leaves them unnamed.
      cell: side in pixels of the square that each picture is fitted into.

    Returns:
      A float32 picture, black on white.
    """
    rows = rows or [""] * len(cells)
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
    for row, (name, shown) in enumerate(zip(rows, fitted, strict=True)):
        top = above + row * (height + gap)
        draw.multiline_text((gap, top + height // 2), name, "black", font, anchor="lm")
        for column, image in enumerate(shown):
            if image is not None:
                x = left + column * (width + gap) + (width - image.width) // 2
                sheet.paste(image, (x, top + (height - image.height) // 2))
    return to_float(sheet)
