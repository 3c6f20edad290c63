"""Paint three original style pictures, stroke by stroke, from nothing but a seed.

Run it as `python experiments/demo/paint_styles.py OUT_FOLDER`; it writes `swirls.jpg` (a night
of whirling light), `mosaic.jpg` (cubist facets under dark contours) and `blossom.jpg` (a garden
laid on with the palette knife).

Each picture is built the way a painter would: a coloured ground, then broad, medium and small
strokes. A stroke is a bundle of bristles, thin lines that follow a flow field, each with its own
shade and its own height. The heights, lit from the upper left, give the paint its relief.
"""

import argparse
from pathlib import Path

import numpy as np
from canvas import SIZE, Array, Canvas, Rng, mix, noise, pixel, ramp, smear, spread
from PIL import Image


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
