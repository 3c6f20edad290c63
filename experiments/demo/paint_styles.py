"""Paint eight original style pictures, stroke by stroke, from nothing but a seed.

Run it as `python experiments/demo/paint_styles.py OUT_FOLDER`; it writes `swirls.jpg` (a night
of whirling light), `mosaic.jpg` (cubist facets under dark contours), `blossom.jpg` (a garden of
roses), `points.jpg` (a harbour in dots of pure colour), `impasto.jpg` (an autumn avenue in slabs
from the palette knife), and from `paper.py` `hatching.jpg` (a still life in pen and ink),
`watercolour.jpg` (poppies before misty hills) and `woodcut.jpg` (a sun over a rough sea).

An oil painting is built the way a painter would: a coloured ground, then broad, medium and small
strokes. A stroke is a bundle of bristles, thin lines that follow a flow field, each with its own
shade and its own height, or one slab from a knife. The heights, lit from the upper left, give the
paint its relief.
"""

import argparse
from pathlib import Path

import numpy as np
from canvas import (
    FINE,
    PIGMENTS,
    SIZE,
    Array,
    Canvas,
    Knife,
    Rng,
    mix,
    noise,
    pixel,
    ramp,
    smear,
    spread,
)
from paper import hatching, watercolour, woodcut
from PIL import Image, ImageColor, ImageDraw, ImageFilter


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


# The boats of the harbour: place and foot of the mast, its height, and the sails before and behind.
BOATS = [
    (0.17, 0.50, 0.12, "pink", "cream"), (0.88, 0.52, 0.17, "mist", "cream"),
    (0.75, 0.56, 0.26, "orange", "gold"), (0.35, 0.61, 0.46, "vermilion", "cream"),
]  # fmt: skip


def moor(picture: Array, upright: float) -> Array:
    """Draw the boats into a picture, upright or (where negative) upside down as reflections."""
    sketch = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sketch)
    for x, foot, tall, jib, sail in BOATS:
        for ink, corners in [
            (jib, [(-0.02, 0.95), (-0.02, 0.14), (-0.34, 0.17)]),
            (sail, [(0.02, 1), (0.02, 0.13), (0.42, 0.16), (0.27, 0.55)]),
            ("plum", [(-0.4, 0.1), (0.46, 0.09), (0.34, 0), (-0.28, 0)]),
        ]:
            outline = np.array([x, foot]) + tall * np.array(corners) * [1, -upright]
            draw.polygon((SIZE * outline).ravel().tolist(), fill=PIGMENTS[ink])
    return np.asarray(sketch) / 255


def harbour(rng: Rng) -> Array:
    """Lay out the colours of a harbour at sunset: sails, their reflections, and a near shore."""
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    away, shore = np.hypot(u - 0.62, v - 0.25), 0.46
    glow = np.exp(-((away / 0.28) ** 2))[..., None]
    picture = ramp(v / shore + 0.15 * noise(rng, 5), "cobalt azure azure mist pink orange")
    picture = picture * (1 - glow) + glow * ramp(1 - 4 * away, "orange gold cream")
    picture[away < 0.055] = 1, 0.99, 0.85
    hills = v > shore - 0.11 * np.exp(-(((u - 0.98) / 0.25) ** 2)) - 0.05 * np.sin(6 * u + 1) ** 2
    slopes = ramp(0.5 + 0.6 * noise(rng, 9), "ultramarine plum magenta") + 0.3 * glow
    picture = np.where(hills[..., None], slopes, picture)

    # The water mirrors all above it, shaken sideways, between cool ripples.
    ripple = np.sin(75 * np.sqrt(np.clip(v - 0.3, 0, 1)) + 4 * noise(rng, 6) + 2 * noise(rng, 16))
    mirrored = (SIZE * (2 * shore - v).clip(0, shore - 0.03)).astype(int)
    water = moor(np.take_along_axis(picture, mirrored[..., None], axis=0), upright=-0.9)
    shaken = (SIZE * np.clip(u + 0.13 * (v - shore + 0.05) * ripple, 0, 0.999)).astype(int)
    water = np.take_along_axis(water, shaken[..., None], axis=1)
    water = mix(water, ramp(v, "turquoise cobalt ultramarine"), 0.3 + 0.25 * ripple)
    picture = moor(np.where((v > shore)[..., None], water, picture), upright=1)

    # A pine leans in from the left over a strip of warm ground.
    ground = v > 0.93 - 0.16 * np.exp(-(((u - 0.02) / 0.3) ** 2)) + 0.02 * noise(rng, 8)
    sunlit = ramp(0.5 + 0.5 * noise(rng, 12) + 0.4 * noise(rng, 30), "plum vermilion orange gold")
    picture = np.where(ground[..., None], sunlit, picture)
    bend = 0.04 + 0.12 * (0.9 - v) ** 2 + 0.01 * noise(rng, 6)
    trunk = (np.abs(u - bend) < 0.012 + 0.012 * v) & (v > 0.12) & (v < 0.9)
    picture[trunk] = ramp(40 * (u - bend) + 0.5, "vermilion plum ink")[trunk]
    for x, y, wide in [(0.1, 0.06, 0.2), (0.02, 0.17, 0.13), (0.25, 0.14, 0.13), (0.13, 0.2, 0.1)]:
        r = np.hypot((u - x) / wide, (v - y) / (0.5 * wide)) + 0.35 * noise(rng, 20)
        leaves = ramp(0.55 + (y - v) / wide + 0.5 * noise(rng, 25), "ink pine leaf lime gold")
        picture = np.where((r < 1)[..., None], leaves, picture)
    return picture


# The pigments of the dots; the first nine are also used as tints.
PURE = [
    "ultramarine", "cobalt", "turquoise", "leaf", "lime", "gold", "orange", "vermilion",
    "magenta", "azure", "plum", "pine", "pink", "cream",
]  # fmt: skip


def points(rng: Rng) -> Image.Image:
    """Paint a harbour in dots of pure colour, which only the eye mixes."""
    target = harbour(rng)
    pure = np.array([ImageColor.getrgb(PIGMENTS[name]) for name in PURE]) / 255
    pure = np.concatenate([pure, 0.45 * pure[:9] + 0.55])  # and tints, let down with white
    canvas = Image.new("RGB", (SIZE * FINE, SIZE * FINE), PIGMENTS["cream"])
    draw = ImageDraw.Draw(canvas)
    for size in (15.0, 13.0, 11.0):
        marks = np.arange(0.0, 1.15 * SIZE, size)
        grid = np.stack(np.meshgrid(marks, 0.9 * marks), axis=-1)
        grid[1::2, :, 0] += size / 2
        spots = rng.permutation(grid.reshape(-1, 2))
        spots += rng.normal(0, size / 6, spots.shape)
        x, y = pixel(spots).T
        # Each dot takes the pigment nearest to a guess: the colour meant here, thrown about it, and
        # now and then its complement, which makes it vibrate.
        guess = target[y, x] + rng.normal(0, 0.085, (len(x), 3))
        other = rng.uniform(0, 1, len(x)) < 0.05
        guess[other] = 1.15 - guess[other]
        chosen = np.linalg.norm(guess[:, None] - pure, axis=2).argmin(axis=1)
        radii = FINE * size / 2 * rng.uniform(0.75, 1, (len(x), 1))
        radii = radii * rng.uniform(0.9, 1.1, (len(x), 2))
        boxes = np.concatenate([spots * FINE - radii, spots * FINE + radii], axis=1)
        tints = (255 * np.clip(pure[chosen] + rng.normal(0, 0.02, (len(x), 3)), 0, 1)).astype(int)
        for box, tint in zip(boxes.tolist(), tints.tolist(), strict=True):
            draw.ellipse(box, tuple(tint))
    soft = canvas.filter(ImageFilter.GaussianBlur(0.5 * FINE))
    return soft.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


# The trunks along the avenue, from far to near: place, foot and width.
TRUNKS = [
    (0.485, 0.54, 0.010), (0.60, 0.545, 0.012), (0.42, 0.57, 0.018), (0.67, 0.575, 0.020),
    (0.32, 0.61, 0.028), (0.78, 0.63, 0.032), (0.17, 0.69, 0.044), (0.93, 0.71, 0.048),
]  # fmt: skip


def avenue(rng: Rng) -> tuple[Array, Array]:
    """Lay out an avenue in autumn rain; return its colours and the turn of the knife."""
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    du, dv = u - 0.54, v - 0.5  # from the place where the road vanishes
    away = np.hypot(du, dv)
    patch = noise(rng, 8) + 0.7 * noise(rng, 18)
    warm = ramp(0.55 + 0.4 * patch, "plum brick vermilion orange gold gold")
    green = ramp(0.5 + 0.45 * patch, "pine teal leaf lime gold")
    light = ramp(0.5 + 0.3 * noise(rng, 6) + 0.25 * patch, "azure azure mist mist cream")
    opening = 0.07 + 0.75 * np.clip(-dv, 0, 1) ** 1.3 + 0.1 * noise(rng, 9) - np.abs(du)
    above = mix(mix(warm, green, 4 * noise(rng, 4) - 1.2), light, 10 * opening)
    above = mix(above, ramp(1.1 - 5 * away, "orange gold cream"), 1.35 - 7 * away)

    # The wet road is cool, but for the light that it mirrors; fallen leaves lie along its sides.
    wet = 0.45 + 0.35 * noise(rng, 7) + 0.3 * patch + 0.5 * dv
    road = ramp(wet, "ink ultramarine cobalt cobalt azure mist")
    shine = np.exp(-((du / (0.05 + 0.12 * dv.clip(0))) ** 2)) + 0.5 * noise(rng, 14)
    road = mix(road, ramp(1 - 1.6 * dv + 0.3 * patch, "orange gold cream"), 1.3 * shine - 0.2)
    litter = ramp(0.35 + 0.4 * patch, "plum brick vermilion orange gold")
    road = mix(road, litter, 25 * (np.abs(du) - 0.05 - 1.0 * dv + 0.04 * noise(rng, 12)))
    below = dv > 0.03 + 0.25 * np.abs(du) ** 1.2
    colours = np.where(below[..., None], road, above)
    turn = np.where(below, 0.25 * noise(rng, 7), 2 * noise(rng, 7) - 0.8)
    return colours, turn


def impasto(rng: Rng) -> Image.Image:
    """Paint an avenue in autumn rain with slabs of paint from a palette knife."""
    colours, turn = avenue(rng)
    canvas = Knife(rng, "umber", comb=0)
    for width, length in [(46, 84), (34, 58)]:
        canvas.layer(colours, turn, width, length)
    canvas.layer(1.05 * colours, turn, 22, 42, where=noise(rng, 9) > 0)
    for x, foot, wide in TRUNKS:
        tall, lean = 14 * wide + 0.1, rng.normal(0, 0.03)
        t = np.linspace(0, 1, 4 + int(60 * wide))
        for lower, upper in zip(t[:-1], t[1:] + 0.04, strict=True):
            thick = SIZE * wide * (1 - 0.5 * lower)
            for side, names in [(0, "ink umber plum"), (-0.32, "brick plum cobalt")]:
                path = [(x + lean * s + side * wide, foot - tall * s) for s in (lower, upper)]
                colour = ramp(rng.uniform(), names)
                canvas.stroke(SIZE * np.array(path), max(5, thick * (1 + side)), colour, vary=0.6)
    canvas.layer(1.15 * colours, turn + 0.7, 13, 26, where=noise(rng, 14) > 0.3)
    return canvas.finish(relief=1)


# Every picture with its seed and the quality of its JPEG.
PICTURES = [
    (swirls, 8, 92), (mosaic, 2, 92), (blossom, 3, 92), (points, 5, 88), (impasto, 5, 88),
    (hatching, 7, 88), (watercolour, 7, 90), (woodcut, 7, 88),
]  # fmt: skip


def main() -> None:
    """Paint all pictures into the folder named on the command line, or only those named too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="paint no others")
    arguments = parser.parse_args()
    folder = arguments.out_folder
    folder.mkdir(parents=True, exist_ok=True)
    for paint, seed, quality in PICTURES:
        if arguments.only and paint.__name__ not in arguments.only:
            continue
        target = folder / f"{paint.__name__}.jpg"
        paint(np.random.default_rng(seed)).save(target, quality=quality)
        print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
