"""Paint three original style pictures, stroke by stroke, from nothing but a seed.

Run it as `python experiments/demo/paint_styles.py OUT_FOLDER`; it writes `swirls.jpg` (a night
of whirling light), `mosaic.jpg` (cubist facets under dark contours) and `blossom.jpg` (a garden
laid on with the palette knife).

Each picture is built the way a painter would: a coloured ground, then broad, medium and small
strokes. A stroke is a bundle of bristles, thin lines that follow a flow field, each with its own
shade and its own height. The heights, lit from the upper left, give the paint its relief.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

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


def swirls(rng: Rng) -> Image.Image:
    """Paint a night of eddies and glowing discs above a dark, furrowed hillside."""
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    flow = np.stack([np.ones_like(u), 0.5 * np.cos(6 * u + 3 * v) + 0.4 * noise(rng, 4)])
    glow = np.zeros_like(u)
    for x, y, reach, turn, warmth in [
        (0.66, 0.27, 0.25, 1, 1.0), (0.22, 0.47, 0.22, -1, 0.8), (0.20, 0.11, 0.12, 1, 0.9),
        (0.92, 0.09, 0.10, -1, 0.8), (0.49, 0.60, 0.11, 1, 0.7), (0.42, 0.06, 0.07, -1, 0.6),
    ]:  # fmt: skip
        du, dv = u - x, v - y
        r = np.hypot(du, dv) + 1e-9
        whirl = np.stack([-turn * dv - 0.35 * du, turn * du - 0.35 * dv]) / r
        flow += 5 * np.exp(-((r / reach) ** 2)) * whirl
        glow = np.maximum(glow, warmth * np.exp(-((r / (0.42 * reach)) ** 2)))
    hill = v - (0.93 - 0.34 * u**1.5 + 0.03 * np.sin(9 * u))
    flow = np.where(hill > 0, [np.ones_like(u), -0.5 * u + 0.8 * np.sin(9 * hill + 3 * u)], flow)
    angle = np.arctan2(flow[1], flow[0])

    tone = spread(smear(noise(rng, 9) + 1.2 * noise(rng, 26), angle))
    cool = ramp(tone, "ink ultramarine cobalt cobalt azure mist")
    green = ramp(tone, "ink pine teal turquoise cream")
    gilt = ramp(tone, "umber ochre gold cream")
    hue = spread(smear(noise(rng, 12), angle))
    sky = mix(mix(cool, green, 6 * hue - 3.6), gilt, 14 * hue - 12.6)
    disc = ramp(glow + 0.3 * (tone - 0.5), "turquoise ochre gold gold cream")
    sky = mix(sky, disc, 2.2 * glow - 0.3)
    ground = mix(ramp(tone, "ink ink pine teal leaf"), gilt, 8 * hue - 5.6)
    colours = np.where(hill[..., None] > 0, ground, sky)

    canvas = Canvas(rng, "gold", comb=20)
    for width, length in [(34, 170), (20, 110), (12, 70)]:
        canvas.layer(colours, angle, width, length)
    canvas.layer(1.2 * colours, angle, 8, 44, where=noise(rng, 14) + glow > 0.3)
    return canvas.finish(relief=0.8)


def facets(rng: Rng, depth: int) -> tuple[Array, list[Array]]:
    """Cut the picture by arcs, then by ever shorter lines; return facet labels and the cuts."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    labels = np.zeros((SIZE, SIZE), dtype=int)
    cuts: list[Array] = []

    def cut(piece: Array, inside: Array, curve: Array) -> None:
        """Split one piece in two and keep the part of the curve that runs through it."""
        px, py = pixel(curve).T
        on = piece[py, px] & ((curve >= 0) & (curve < SIZE)).all(axis=1)
        runs = np.split(curve, np.flatnonzero(np.diff(on.astype(int))) + 1)
        cuts.extend(run for run in runs[0 if on[0] else 1 :: 2] if len(run) > 8)
        labels[piece & inside] = labels.max() + 1

    turn = np.linspace(0, 2 * np.pi, 700)
    for cx, cy, r in [(-160, 860, 620), (980, 60, 560), (330, 300, 190), (330, 300, 90)]:
        circle = np.stack([cx + r * np.cos(turn), cy + r * np.sin(turn)], axis=1)
        for label in range(labels.max() + 1):
            cut(labels == label, np.hypot(x - cx, y - cy) < r, circle)
    for _ in range(depth):
        for label in range(labels.max() + 1):
            piece = labels == label
            if piece.sum() < 6000 * rng.uniform(0.6, 4):
                continue
            places = np.stack([x[piece], y[piece]], axis=1)
            middle = places.mean(axis=0) + rng.normal(0, 12, 2)
            long = np.linalg.eigh(np.cov(places.T))[1][:, 1]
            along = np.arctan2(long[1], long[0]) + np.pi / 2 + rng.normal(0, 0.45)
            way = np.array([np.cos(along), np.sin(along)])
            side = (x - middle[0]) * way[1] - (y - middle[1]) * way[0] > 0
            cut(piece, side, middle + np.linspace(-SIZE, SIZE, 1200)[:, None] * way)
    return labels, cuts


def mosaic(rng: Rng) -> Image.Image:
    """Paint cubist facets: a brushed gradient in every one, and bold dark contours."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    labels, cuts = facets(rng, depth=5)
    colours, angle = np.zeros((SIZE, SIZE, 3)), np.zeros((SIZE, SIZE))
    light = spread(noise(rng, 3) + 0.5 * noise(rng, 6))
    families = [
        "umber brick vermilion orange gold",
        "ink pine teal turquoise mist",
        "umber brick orange gold cream",
        "umber ochre gold cream cream",
        "ink ultramarine cobalt azure mist",
    ]
    for label in np.unique(labels):
        piece = labels == label
        tilt = rng.uniform(0, 2 * np.pi)
        t = (x * np.cos(tilt) + y * np.sin(tilt))[piece]
        t = (t - t.min()) / (np.ptp(t) + 1e-9) - 0.5
        t = 0.5 * t + 0.2 + 0.6 * light[piece].mean() + rng.normal(0, 0.2)
        colours[piece] = ramp(t, families[rng.choice(5, p=[0.25, 0.27, 0.2, 0.2, 0.08])])
        angle[piece] = tilt + np.pi / 2 + rng.normal(0, 0.3)
    angle += 0.5 * noise(rng, 6)
    canvas = Canvas(rng, "umber", comb=18)
    for width, length in [(28, 60), (18, 42)]:
        canvas.layer(colours, angle, width, length)
    canvas.layer(colours, angle, 10, 30, where=noise(rng, 9) > -0.1)
    for i, line in enumerate(cuts):  # the first cuts are the great arcs: draw them boldest
        bold = np.interp(i / len(cuts), [0, 0.1, 1], [14, 11, 6])
        canvas.stroke(line[::2], bold, ramp(rng.uniform(0, 0.5), "ink umber"), vary=0.5)
    return canvas.finish(relief=0.7)


def blossom(rng: Rng) -> Image.Image:
    """Paint a garden in thick knife strokes: great roses over foliage and light."""
    v, u = np.mgrid[:SIZE, :SIZE]
    canvas = Canvas(rng, "pine", comb=12)
    light = spread(-v / SIZE + 0.8 * noise(rng, 5) + 0.3 * noise(rng, 14))
    colours = ramp(light, "ink pine pine leaf lime turquoise turquoise cream")
    angle = 2 * noise(rng, 5) - 1.2
    for width, length in [(40, 70), (26, 44)]:
        canvas.layer(colours, angle, width, length, vary=1.5)
    kinds = [
        "plum brick vermilion orange cream",
        "plum magenta magenta pink cream",
        "brick vermilion pink pink cream",
        "brick ochre gold cream cream",
    ]
    canvas.layer(1.15 * colours, angle + 0.6, 11, 20, where=noise(rng, 12) > 0.25, vary=1.5)
    heads = [(*rng.uniform(0, SIZE, 2), rng.uniform(16, 50)) for _ in range(44)]
    heads += [(600, 160, 105), (130, 620, 120), (545, 520, 185), (235, 265, 200)]
    for i, (x, y, reach) in enumerate(heads):
        r, turn = np.hypot(u - x, v - y) / reach, np.arctan2(v - y, u - x)
        lobes = 0.88 + 0.1 * np.cos(5 * turn + i) + 0.05 * noise(rng, 20)
        # A petal is one tooth of a saw that winds around the heart: dark within, light at the rim.
        whorl = 4.5 * np.sqrt(r) + 2 * turn / (2 * np.pi) + 0.35 * np.cos(5 * turn + 9 * r)
        tone = 0.1 + 0.65 * (whorl % 1) + 0.22 * r * np.sin(-turn - 0.8) + 0.1 * noise(rng, 12)
        petals, bloom = ramp(tone, kinds[i % 4]), r < lobes
        for share in (0.2, 0.12, 0.06):
            width = max(share * reach, 7)
            canvas.layer(petals, turn + 1.9, width, 2.2 * width, where=bloom, vary=1.2)
    return canvas.finish(relief=0.9)


def main() -> None:
    """Paint the three pictures into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_folder", type=Path)
    folder = parser.parse_args().out_folder
    folder.mkdir(parents=True, exist_ok=True)
    for paint, seed in {swirls: 8, mosaic: 2, blossom: 3}.items():
        target = folder / f"{paint.__name__}.jpg"
        paint(np.random.default_rng(seed)).save(target, quality=92)
        print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
