"""Tools of the painters: pigments, random fields, lines that follow a flow, and canvases.

A field is a SIZE x SIZE array, one value (or one RGB colour, 0..1) for each pixel of the picture.
Angles are in radians, clockwise from the right, since y points down.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageColor, ImageDraw

Array = np.ndarray
Rng = np.random.Generator

SIZE = 768  # side of a finished picture, in pixels
FINE = 2  # supersampling: strokes are drawn FINE times larger, then reduced
LUMA = np.array([0.299, 0.587, 0.114])

PIGMENTS = {
    "ink": "#0d1428", "umber": "#2e1a17", "ultramarine": "#1c2a7c", "cobalt": "#2358b8",
    "azure": "#5b9fd8", "teal": "#12686f", "turquoise": "#4dbcb4", "mist": "#c5e2d8",
    "pine": "#0f3a3c", "leaf": "#3d8a3c", "lime": "#a9c24a", "ochre": "#c98a26",
    "gold": "#f2bd35", "cream": "#fbefcb", "orange": "#e97a25", "vermilion": "#dd3b24",
    "brick": "#9c2f24", "plum": "#5a1744", "magenta": "#c0246f", "pink": "#f39ab0",
}  # fmt: skip


def ramp(t: Array | float, names: str) -> Array:
    """Blend through the named pigments as t goes from 0 to 1; RGB (0..1) is the last axis."""
    stops = np.array([ImageColor.getrgb(PIGMENTS[name]) for name in names.split()]) / 255
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(t, at, channel) for channel in stops.T], axis=-1)


def noise(rng: Rng, cells: int) -> Array:
    """Return a smooth SIZE x SIZE random field, roughly in -1..1, with that many cells a side."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def mix(a: Array, b: Array, share: Array) -> Array:
    """Blend colour field b into a, where share (0..1) says how much at each place."""
    share = np.clip(share, 0, 1)[..., None]
    return a * (1 - share) + b * share


def spread(field: Array) -> Array:
    """Replace values by their rank, from 0 to 1, so that every tone gets an equal share."""
    ranks = np.empty(field.size)
    ranks[np.argsort(field, axis=None)] = np.linspace(0, 1, field.size)
    return ranks.reshape(field.shape)


def pixel(point: Array) -> Array:
    """Return the nearest pixel (integers x, y) inside the picture, for one point or many."""
    return np.clip(point, 0, SIZE - 1).astype(int)


def follow(angle: Array, points: Array, lengths: Array, steps: int = 14) -> Iterator[Array]:
    """Walk many points at once along the angle field; yield their places after each step."""
    for _ in range(steps + 1):
        yield points
        x, y = pixel(points).T
        heading = np.stack([np.cos(angle[y, x]), np.sin(angle[y, x])], axis=1)
        points = points + heading * (lengths / steps)[:, None]


def smear(field: Array, angle: Array, length: float = 170) -> Array:
    """Average a field along the flow, which draws it out into ribbons."""
    y, x = np.mgrid[:SIZE, :SIZE]
    places, total = np.stack([x, y], axis=-1).reshape(-1, 2).astype(float), np.zeros(SIZE * SIZE)
    for way in (length, -length):
        for spots in follow(angle, places, np.full(len(places), way), steps=30):
            px, py = pixel(spots).T
            total += field[py, px]
    return total.reshape(SIZE, SIZE)


class Canvas:
    """A canvas that keeps the colour and the height of the paint on it."""

    def __init__(self, rng: Rng, ground: str, comb: float) -> None:
        """Prime the canvas with one pigment; comb says how deep the bristles scratch."""
        side = (SIZE * FINE, SIZE * FINE)
        self.rng, self.comb = rng, comb
        self.paint = Image.new("RGB", side, PIGMENTS[ground])
        self.height = Image.new("L", side, 90)
        self._colour, self._relief = ImageDraw.Draw(self.paint), ImageDraw.Draw(self.height)

    def stroke(self, path: Array, width: float, colour: Array, vary: float = 1) -> None:
        """Draw one loaded brush along path (points x, y), as a bundle of uneven bristles."""
        rng, path, width = self.rng, path * FINE, width * FINE
        normal = np.gradient(path, axis=0)[:, ::-1] * [-1, 1]
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        taper = np.interp(np.linspace(0, 1, len(path)), [0, 0.12, 0.8, 1], [0.75, 1, 1, 0.55])
        count = max(4, int(width / 2.2))
        across = np.linspace(-1, 1, count)
        # Two half-mixed pigments on one brush, a lit edge, and a shade for every single bristle.
        second = colour + vary * rng.normal(0, 0.075, 3) + vary * rng.normal(0, 0.07)
        side = 0.5 + 0.5 * np.tanh(2 * (across - rng.uniform(-0.8, 0.8)))[:, None]
        shade = rng.normal(0, 0.045, (count, 1)) + rng.normal(0, 0.018, (count, 3))
        tints = np.clip(colour * (1 - side) + second * side + vary * shade, 0, 1) * 255
        # Paint is pushed outwards, so a stroke stands highest near its two edges.
        body = rng.uniform(90, 140) + 45 * across**4 + rng.normal(0, self.comb, count)
        starts, ends = rng.integers(0, 3, count), len(path) - rng.integers(0, 4, count)
        for i in rng.permutation(count):
            line = path + normal * (taper * across[i] * width / 2)[:, None]
            points = [tuple(p) for p in line[starts[i] : ends[i]].tolist()]
            if len(points) > 1:
                thick = int(rng.integers(2, 5))
                self._colour.line(points, tuple(int(c) for c in tints[i]), thick, "curve")
                self._relief.line(points, int(np.clip(body[i], 0, 255)), thick)

    def layer(
        self, colours: Array, angle: Array, width: float, length: float,
        where: Array | bool = True, vary: float = 1,
    ) -> None:  # fmt: skip
        """Cover the canvas (or where a mask allows) with strokes that follow the angle field."""
        gap = width * 0.75
        marks = np.arange(0, SIZE + gap, gap)
        middles = np.stack(np.meshgrid(marks, marks), axis=-1).reshape(-1, 2)
        middles = self.rng.permutation(middles + self.rng.uniform(-gap, gap, middles.shape))
        x, y = pixel(middles).T
        middles = middles[np.broadcast_to(where, (SIZE, SIZE))[y, x]]
        lengths = length * self.rng.uniform(0.6, 1.3, len(middles))
        *_, starts = follow(angle, middles, -lengths / 2)
        paths = np.stack(list(follow(angle, starts, lengths)), axis=1)
        for path, (x, y) in zip(paths, pixel(middles), strict=True):
            self.stroke(path, width * self.rng.uniform(0.7, 1.2), colours[y, x], vary)

    def finish(self, relief: float) -> Image.Image:
        """Light the relief, balance the tones around mid-key and reduce to the final size."""
        heights = np.asarray(self.height, dtype=np.float32) / 255
        soft = np.asarray(self.height.resize((SIZE, SIZE)).resize(self.height.size), np.float32)
        heights = 0.5 * heights + 0.5 * soft / 255
        slope = sum(np.gradient(heights))  # rising to the right and downwards: facing the light
        picture = np.asarray(self.paint, dtype=np.float32) / 255
        picture = picture + relief * np.tanh(4 * slope)[..., None] * (0.35 + 0.65 * picture)
        low, high = np.percentile(picture @ LUMA, [1.5, 98.5])
        picture = np.clip(0.03 + 0.94 * (picture - low) / (high - low), 0, 1)
        picture **= np.log(0.5) / np.log((picture @ LUMA).mean())
        image = Image.fromarray((picture * 255).astype(np.uint8))
        return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


class Knife(Canvas):
    """A canvas worked with a palette knife: flat slabs of marbled paint, ridged at the rim."""

    def stroke(self, path: Array, width: float, colour: Array, vary: float = 1) -> None:
        """Press one straight slab from the first to the last point of the path."""
        rng, (start, end) = self.rng, path[[0, -1]] * FINE
        length, half = np.hypot(*(end - start)) / 2, width * FINE / 2
        way = (end - start) / (2 * length)
        corner = ((start + end) / 2 - length - half).astype(int)
        y, x = np.mgrid[: int(2 * (length + half)), : int(2 * (length + half))]
        x, y = x + corner[0] - (start + end)[0] / 2, y + corner[1] - (start + end)[1] / 2
        along, across = (x * way[0] + y * way[1]) / length, (y * way[0] - x * way[1]) / half

        # The knife leaves straight sides, and a torn end where the paint ran out.
        streak = rng.normal(0, 1, 40)[np.clip(20 + 19 * across, 0, 39).astype(int)]
        skew = rng.normal(0, 0.15)
        reach = along + skew * across
        inside = (np.abs(across) < 1) & (reach > -0.85) & (reach < 0.85 + 0.06 * streak)
        # Two or three pigments, half mixed, are drawn out into streaks along the slab.
        pigments = colour + vary * rng.normal(0, [[0.03], [0.09], [0.12]], (3, 3))
        bands = across + 0.12 * streak + 0.25 * along * rng.normal()
        order = np.searchsorted(np.sort(rng.uniform(-1.2, 1.2, 2)), bands)
        tint = np.clip(pigments[order] * (1 + 0.06 * streak[..., None]), 0, 1)
        # Paint squeezed from under the blade stands up along both sides and heaps at the end.
        body = 95 + rng.uniform(-15, 15) + 5 * streak + 50 * np.clip(reach, 0, 1) ** 6
        body = body + 75 * np.exp(-(((np.abs(across) - 0.93) / 0.09) ** 2))

        mask, place = Image.fromarray(inside), (int(corner[0]), int(corner[1]))
        self.paint.paste(Image.fromarray((tint * 255).astype(np.uint8)), place, mask)
        self.height.paste(Image.fromarray(np.clip(body, 0, 255).astype(np.uint8)), place, mask)


def trace(rng: Rng, angle: Array, gap: Array, where: Array, length: float) -> list[Array]:
    """Fill a place with lines along the angle field, `gap` pixels apart and about `length` long."""
    free = Image.fromarray(where.astype(np.uint8))
    taken, pixels = ImageDraw.Draw(free), free.load()
    assert pixels is not None
    towards = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    lines = []
    for x, y in rng.permutation(np.argwhere(where)[:, ::-1])[: SIZE * SIZE // 12].tolist():
        if not pixels[x, y]:
            continue
        halves: list[list[tuple[float, float]]] = []
        for step in (-2, 2):
            px, py, half = x, y, []
            for _ in range(int(length * rng.uniform(0.15, 0.35))):
                dx, dy = towards[int(py), int(px)]
                px, py = px + step * dx, py + step * dy
                if not (0 <= px < SIZE and 0 <= py < SIZE and pixels[int(px), int(py)]):
                    break
                half.append((px, py))
            halves.append(half)
        line = [*halves[0][::-1], (x, y), *halves[1]]
        taken.line(line, 0, round(2 * gap[y, x]))
        if len(line) > 4:
            lines.append(np.array(line))
    return lines


def mark(draw: ImageDraw.ImageDraw, path: Array, width: float, ink: str, tip: float = 0.5) -> None:
    """Draw a line that swells and tapers; a larger tip makes its two ends more pointed."""
    normal = np.gradient(path, axis=0)[:, ::-1] * [-1, 1]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    swell = width / 2 * np.sin(np.linspace(0.03, 0.97, len(path)) * np.pi) ** tip
    outline = np.concatenate(
        [path + normal * swell[:, None], (path - normal * swell[:, None])[::-1]]
    )
    draw.polygon([tuple(p) for p in (outline * FINE).tolist()], fill=ink)
