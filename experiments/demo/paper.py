"""Three pictures on paper: a pen drawing, a watercolour and a woodcut."""

import numpy as np
from canvas import FINE, PIGMENTS, SIZE, Array, Rng, mark, mix, noise, ramp, spread, trace
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from scipy.interpolate import PchipInterpolator
from skimage import measure


def contour(shape: Array) -> list[Array]:
    """Return the outlines (points x, y) of the places where a field is positive."""
    return [line[::2, ::-1] for line in measure.find_contours(shape, 0) if len(line) > 12]


# --- Pen and ink -------------------------------------------------------------------------------

# What stands on the table, from back to front: place of the foot, height, glaze (0 is white) and
# the half widths from the foot up to the rim. All of it is in shares of the picture's side.
POTS: list[tuple[float, float, float, float, list[float]]] = [
    (0.25, 0.70, 0.60, 0.42, [0.085, 0.10, 0.105, 0.105, 0.10, 0.06, 0.034, 0.032, 0.032, 0.036]),
    (0.60, 0.76, 0.46, 0.05, [0.10, 0.15, 0.185, 0.19, 0.17, 0.13, 0.09, 0.075, 0.08, 0.105]),
    (0.87, 0.77, 0.25, 0.20, [0.0, 0.085, 0.10, 0.10, 0.085, 0.062, 0.047, 0.042, 0.036, 0.0]),
    (0.23, 0.89, 0.21, 0.00, [0.06, 0.065, 0.10, 0.135, 0.155, 0.17, 0.18, 0.186, 0.19, 0.195]),
    (0.56, 0.90, 0.15, 0.28, [0.0, 0.055, 0.073, 0.080, 0.083, 0.084, 0.082, 0.074, 0.056, 0.0]),
    (0.76, 0.95, 0.17, 0.08, [0.0, 0.065, 0.085, 0.093, 0.096, 0.096, 0.093, 0.085, 0.065, 0.0]),
]


def still_life(rng: Rng) -> tuple[Array, Array, Array]:
    """Turn the pots on a wheel and light them; return darkness, pen direction and labels."""
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    table = v > 0.60 + 0.015 * np.sin(5 * u)
    folds = np.sin(17 * u + 5 * noise(rng, 3) - 6 * v)
    wall = 0.72 - 0.55 * u + 0.22 * v + 0.2 * noise(rng, 4)
    dark = np.where(table, 0.3 + 0.2 * folds + 0.5 * (v - 0.75), wall)
    angle = np.where(table, 0.12 + 0.35 * folds, 0.9 + 0.25 * noise(rng, 3))
    labels = table.astype(int)
    light = np.array([-0.62, -0.50, 0.60])
    for x, foot, tall, glaze, widths in POTS:
        shadow = np.hypot((u - x - 0.13) / 0.2, (v - foot + 0.005) / 0.04) < 1
        dark = np.where(shadow & (labels == 1), dark + 0.45, dark)
        # Squares between the given widths, so that a pot that closes does so in a round curve.
        square = PchipInterpolator(np.linspace(0, 1, len(widths)), np.square(widths))
        h = np.clip((foot - v) / tall, 0, 1)
        # Seen from a little above, rings around a pot bow downwards in its middle.
        h = (foot - v + 0.22 * np.sqrt(np.clip(square(h) - (u - x) ** 2, 0, None))) / tall
        radius = np.sqrt(square(np.clip(h, 0, 1)).clip(1e-6))
        turn = (u - x) / radius
        body = (np.abs(turn) < 1) & (h > 0) & (h < 1)
        slope = square.derivative()(np.clip(h, 0, 1)) / (2 * radius * tall)
        normal = np.stack([turn, slope, np.sqrt(np.clip(1 - turn**2, 0, 1))])
        lit = np.tensordot(light, normal / np.linalg.norm(normal, axis=0), axes=1)
        shade = 0.82 - 0.95 * lit + glaze - 0.25 * np.clip(turn, 0, 1) ** 6
        down, right = np.gradient(h)
        mouth = np.hypot(u - x, (v - foot + tall) / 0.22) < widths[-1]
        dark = np.where(mouth, 0.75 + 3 * (x - u), np.where(body, shade, dark))
        angle = np.where(mouth, 0.3, np.where(body, np.arctan2(-right, down), angle))
        labels[body], labels[mouth] = labels.max() + 1, labels.max() + 2
    return dark + 0.05 * noise(rng, 30), angle, labels


def hatching(rng: Rng) -> Image.Image:
    """Draw a still life with the pen: all its tones are lines, crossed where it is dark."""
    dark, angle, labels = still_life(rng)
    sheet = Image.new("RGB", (SIZE * FINE, SIZE * FINE), "#f6f1e3")
    draw, ink = ImageDraw.Draw(sheet), "#17151a"
    gap = np.interp(dark, [0.1, 0.9], [11, 6.5])
    for turn, least in [(0, 0.17), (0.95, 0.45), (-0.75, 0.7)]:
        for label in np.unique(labels):
            where = (labels == label) & (dark + 0.05 * noise(rng, 40) > least)
            for line in trace(rng, angle + turn, gap, where, length=90):
                x, y = line[len(line) // 2].astype(int)
                weight = np.interp(dark[y, x], [0.2, 1], [1.9, 3.4])
                mark(draw, line + rng.normal(0, 0.25, 2), weight * rng.uniform(0.8, 1.2), ink)
    for label in range(1, labels.max() + 1):
        for line in contour(ndimage.gaussian_filter(2.0 * (labels == label) - 1, 1.2)):
            for start in range(0, len(line) - 3, 40):
                part = line[start : start + rng.integers(40, 56)]
                mark(draw, part + rng.normal(0, 0.5, 2), rng.uniform(2.2, 4.4), ink)
    soaked = sheet.filter(ImageFilter.GaussianBlur(0.7 * FINE))
    return soaked.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


# --- Watercolour -------------------------------------------------------------------------------


class Paper:
    """A sheet of rough paper; washes laid on it let its white shine through."""

    def __init__(self, rng: Rng) -> None:
        """Take a clean, slightly warm sheet."""
        self.rng = rng
        self.tooth = ndimage.gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), 1.1)
        self.tooth /= self.tooth.std()
        self.light = np.ones((SIZE, SIZE, 3)) * [0.99, 0.98, 0.95]
        self.bare = np.ones((SIZE, SIZE))  # 0 under masking fluid

    def wash(self, shape: Array, colours: Array, depth: Array | float, wet: Array | float) -> None:
        """Let a wash dry: shape is the distance from its edge in pixels (inside is positive).

        Where the paper is wet (0..1) the edge bleeds; where it is dry, pigment gathers in a rim.
        """
        rng = self.rng
        ragged = shape + 5 * noise(rng, 24) + 2.5 * noise(rng, 70) + 0.8 * self.tooth
        ragged = ragged + 40 * wet * (noise(rng, 14) + 0.6 * noise(rng, 40))
        inside = ndimage.distance_transform_edt(ragged > 0)
        cover = np.clip(0.5 + ragged / (1.5 + 70 * np.asarray(wet)), 0, 1)
        rim = (1 - np.clip(1.6 * np.asarray(wet), 0, 1)) * np.exp(-inside / 2.6)
        # Backruns: water creeping into a drying wash pushes pigment ahead of it into a dark line.
        run = noise(rng, 9) + 0.35 * noise(rng, 30)
        bloom = np.exp(-np.abs(run - 0.35) / 0.035) - 0.5 * np.exp(-np.clip(run - 0.35, 0, 9) / 0.2)
        pool = 0.8 + 0.3 * noise(rng, 6) + 0.25 * noise(rng, 18) + 0.3 * bloom * (run > 0.33)
        amount = (
            self.bare * cover * depth * np.clip(pool + 0.9 * rim + 0.13 * self.tooth, 0.05, None)
        )
        self.light *= np.clip(colours, 0.03, 1) ** amount[..., None]

    def finish(self) -> Image.Image:
        """Light the tooth of the paper a little and return the picture."""
        relief = 0.012 * (self.tooth - np.roll(self.tooth, 1, axis=(0, 1)))[..., None]
        return Image.fromarray((np.clip(self.light + relief, 0, 1) * 255).astype(np.uint8))


def blobs(rng: Rng, middles: Array, sizes: Array, tall: float = 1) -> Array:
    """Return the distance from the edge of many uneven round dabs (inside is positive)."""
    v, u = np.mgrid[:SIZE, :SIZE]
    shape = np.full((SIZE, SIZE), -50.0)
    for (x, y), size in zip(middles, sizes, strict=True):
        r, turn = np.hypot(u - x, (v - y) / tall), np.arctan2(v - y, u - x)
        lobes = 1 + 0.14 * np.cos(3 * turn + rng.uniform(0, 6)) + 0.1 * np.cos(5 * turn + x)
        shape = np.maximum(shape, size * lobes - r)
    return shape


def watercolour(rng: Rng) -> Image.Image:
    """Paint misty hills over a meadow of poppies, wash upon wash."""
    paper = Paper(rng)
    v = np.mgrid[:SIZE, :SIZE][0] / SIZE
    drift = spread(noise(rng, 4) + 0.5 * noise(rng, 9))
    sky = SIZE * (0.34 - v + 0.25 * noise(rng, 4) + 0.12 * noise(rng, 9))
    paper.wash(sky, ramp(drift, "azure azure turquoise"), 0.45, 0.6)
    paper.wash(sky - 60, ramp(drift, "cobalt azure pink"), 0.3, 0.9)
    for i, names in enumerate(["azure azure pink", "cobalt azure turquoise", "teal cobalt leaf"]):
        below = v - (0.34 + 0.075 * i - 0.09 * noise(rng, 4) - 0.03 * noise(rng, 11))
        depth = (0.45 + 0.13 * i) * np.exp(-np.clip(below, 0, 1) / 0.09)
        paper.wash(SIZE * below, ramp(drift, names), depth, np.clip(noise(rng, 5), 0.04, 0.4))

    heads = [(150, 545, 72), (318, 640, 60), (565, 520, 86), (668, 672, 62), (425, 482, 44)]
    heads += [(x, y, (y - 420) / 9) for x, y in rng.uniform([0, 460], [SIZE, 560], (12, 2))]
    flowers = np.array(heads)
    paper.bare = np.clip(0.5 - blobs(rng, flowers[:, :2], 0.93 * flowers[:, 2], 0.75) / 3, 0.08, 1)
    clumps = np.stack([rng.uniform(0, SIZE, 22), rng.normal(0.555, 0.012, 22) * SIZE], axis=1)
    trees = blobs(rng, clumps, rng.uniform(10, 34, 22))
    paper.wash(trees, ramp(drift, "pine leaf teal ochre"), 0.55, np.clip(9 * v - 4.9, 0.1, 0.5))
    meadow = SIZE * (np.minimum(v - 0.57, 0.95 - v) + 0.06 * noise(rng, 6))
    paper.wash(meadow, ramp(drift, "lime gold lime leaf"), 0.45, 0.3)
    paper.wash(meadow - 90 + 150 * noise(rng, 7), ramp(drift, "leaf teal leaf"), 0.4, 0.35)
    for names, depth in [("leaf lime teal", 0.5), ("pine leaf teal", 0.7)]:
        paper.wash(grasses(rng), ramp(spread(noise(rng, 8)), names), depth, 0)
    paper.bare[:] = 1

    # Every poppy is a few broad petals, each left to dry before the next one, around a dark heart.
    for turn in (-2.2, 0.3, 2.4, -0.9):
        turns = turn + rng.normal(0, 0.4, len(flowers))
        way = np.stack([np.cos(turns), 0.6 * np.sin(turns)], axis=1)
        petals = blobs(rng, flowers[:, :2] + 0.4 * flowers[:, 2:] * way, 0.62 * flowers[:, 2], 0.75)
        hue = spread(noise(rng, 8) + 0.6 * noise(rng, 16))
        shade = 0.42 + 0.35 * hue
        paper.wash(petals, ramp(hue, "pink orange vermilion vermilion magenta"), shade, 0.08)
    hearts = blobs(rng, flowers[:, :2] + [0, 4], 0.24 * flowers[:, 2] - 3)
    paper.wash(hearts, ramp(drift, "ink plum ink"), 1.1, 0.15)
    drops = np.stack([rng.uniform(0, SIZE, 60), rng.uniform(0.45, 1, 60) * SIZE], axis=1)
    splashes = blobs(rng, drops, rng.uniform(1, 4, 60)) + 1
    paper.wash(splashes, ramp(spread(noise(rng, 9)), "vermilion orange leaf azure"), 0.6, 0)
    return paper.finish()


def grasses(rng: Rng) -> Array:
    """Flick blades of grass upwards with a dry brush; return the distance from their edges."""
    blades = Image.new("L", (SIZE * FINE, SIZE * FINE))
    draw, t = ImageDraw.Draw(blades), np.linspace(0, 1, 24)
    for _ in range(60):
        x, tall, lean = rng.uniform(0, SIZE), rng.uniform(70, 230), rng.normal(0, 45)
        path = np.stack([x + lean * t**2, rng.uniform(0.86, 1.02) * SIZE - tall * t], axis=1)
        mark(draw, path, rng.uniform(3, 9), "white", tip=0.8)
    inside = np.asarray(blades.resize((SIZE, SIZE))) > 128
    distance = ndimage.distance_transform_edt
    return np.clip(distance(inside) - distance(~inside), -30, 9) + 1


# --- Woodcut -----------------------------------------------------------------------------------


def crest(base: float, tall: float, long: float, lean: float, shift: float) -> Array:
    """Return the line (points x, y) of a row of waves whose crests lean over to the left."""
    t = np.linspace(-1, SIZE / long + 2, 1400)
    high = (0.5 + 0.5 * np.cos(2 * np.pi * t)) ** 1.8
    swell = 0.75 + 0.25 * np.sin(1.7 * t + shift)
    return np.stack([long * (t + shift) - lean * high**2, base - tall * swell * high], axis=1)


STANDS, CUT = "white", "black"  # the two states of the black block: it prints, or it does not


def woodcut(rng: Rng) -> Image.Image:
    """Print a rising sun over mountains and a rough sea, from one black block and flat inks."""
    side = (SIZE * FINE, SIZE * FINE)
    inks, block = Image.new("RGB", side, PIGMENTS["cream"]), Image.new("L", side, CUT)
    carve_sky(rng, inks, block)
    carve_mountains(rng, inks, block)
    carve_sea(rng, inks, block)
    return pull(rng, inks, block)


def stand(block: Image.Image, where: Array) -> None:
    """Leave the block standing in a place."""
    block.paste(STANDS, mask=Image.fromarray(where).resize(block.size))


def below(line: Array) -> list[tuple[float, ...]]:
    """Return the polygon of all that lies below a line from left to right."""
    corners = [(2 * SIZE, 2 * SIZE), (-SIZE, 2 * SIZE)]
    return [tuple(p) for p in (np.concatenate([line, corners]) * FINE).tolist()]


def carve_sky(rng: Rng, inks: Image.Image, block: Image.Image) -> None:
    """Open a black sky with gouges that fly outwards from the sun, widest near it."""
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    flat, knife, sun = ImageDraw.Draw(inks), ImageDraw.Draw(block), np.array([0.36, 0.30])
    for reach, ink in [(0.34, "gold"), (0.135, "vermilion")]:
        flat.ellipse([*((sun - reach) * inks.size), *((sun + reach) * inks.size)], PIGMENTS[ink])
    r, ray = np.hypot(u - sun[0], v - sun[1]), np.arctan2(v - sun[1], u - sun[0])
    stand(block, r > 0.15)
    gap = np.interp(r, [0.15, 0.75], [5.5, 9])
    for line in trace(rng, ray + 0.12 * noise(rng, 5), gap, (r > 0.16) & (v < 0.62), length=110):
        x, y = line[len(line) // 2].astype(int)
        wide = np.interp(r[y, x], [0.15, 0.3, 0.55, 0.8], [14, 11, 7, 5])
        mark(knife, line, wide * rng.uniform(0.8, 1.2), CUT, tip=0.8)


def carve_mountains(rng: Rng, inks: Image.Image, block: Image.Image) -> None:
    """Stand two ranges against the sky: pale towards the sun, black gullies on the far side."""
    v, u = np.mgrid[:SIZE, :SIZE] / SIZE
    flat, knife, x = ImageDraw.Draw(inks), ImageDraw.Draw(block), np.arange(SIZE)
    for foot, ink, at, tall in [
        (0.60, "mist", [0.55, 0.80], [0.14, 0.30]),
        (0.63, "turquoise", [0.08, 0.34, 0.66], [0.20, 0.10, 0.12]),
    ]:
        slopes = np.array(tall)[:, None] - 0.75 * np.abs(x / SIZE - np.array(at)[:, None])
        top = SIZE * (foot - slopes.max(axis=0)) + 26 * noise(rng, 18)[0]
        line = np.stack([x, top], axis=1)
        flat.polygon(below(line), PIGMENTS[ink])
        knife.polygon(below(line), CUT)
        inside = (v * SIZE > top) & (v < 0.72)
        far = u + 0.04 * noise(rng, 9) > np.array(at)[slopes.argmax(axis=0)]
        stand(block, inside & far)
        fall = np.where(far, 0.95, np.pi - 0.95) + 0.5 * noise(rng, 8)
        for cut in trace(rng, fall, np.full_like(u, 7.5), inside, length=70):
            shaded = far[tuple(cut[len(cut) // 2, ::-1].astype(int))]
            wide = rng.uniform(0.6, 1.2) * (6 if shaded else 4)
            mark(knife, cut, wide, CUT if shaded else STANDS, tip=1)
        mark(knife, line, 9, STANDS, tip=0.05)


def carve_sea(rng: Rng, inks: Image.Image, block: Image.Image) -> None:
    """Roll rows of waves forward, with lines along their backs and spray before their crests."""
    flat, knife = ImageDraw.Draw(inks), ImageDraw.Draw(block)
    for row, ink in enumerate(["turquoise", "cobalt", "azure", "cobalt", "ultramarine"]):
        base, tall, long = 505 + 62 * row + 8 * row**2, 30 + 24 * row, 130 + 42 * row
        shift, depths = rng.uniform(0, 1), np.arange(0, 125, 10 + 1.6 * row)
        waves = [
            crest(base + d, tall * (1 - d / 260), long, 0.42 * long * (1 - d / 130), shift)
            for d in depths
        ]
        flat.polygon(below(waves[0]), PIGMENTS[ink])
        knife.polygon(below(waves[0]), CUT)
        mark(flat, waves[0] + [2, 6 + row], 18 + 3 * row, PIGMENTS["cream"], tip=0.05)
        for depth, wave in enumerate(waves[1:]):
            start = 0
            while start < len(wave) - 20:
                part = wave[start : start + rng.integers(40, 190)]
                mark(knife, part, rng.uniform(5, 9) + row - 0.4 * depth, STANDS, tip=0.7)
                start += len(part) + int(rng.integers(4, 16))
        mark(knife, waves[0], 7 + row, STANDS, tip=0.05)
        high = waves[0][:, 1]
        for tip in waves[0][1:-1][(high[1:-1] < high[:-2]) & (high[1:-1] <= high[2:])]:
            for far in rng.uniform(0, 1, 6 + 3 * row):
                drop = (
                    tip + far * np.array([-0.36 * long, 0.5 * tall]) + rng.normal(0, 4 + 2 * row, 2)
                )
                radius = (3.5 + 1.6 * row) * rng.uniform(0.6, 1.3) * (1.2 - 0.6 * far)
                box = [*((drop - radius) * FINE), *((drop + radius) * FINE)]
                flat.ellipse([box[0] - 6, box[1] - 6, box[2] + 6, box[3] + 6], PIGMENTS["cream"])
                knife.ellipse(box, CUT, outline=STANDS, width=5)


def pull(rng: Rng, inks: Image.Image, block: Image.Image) -> Image.Image:
    """Pull a print: flat inks, a little out of register, then the black block, all with grain."""
    v = np.mgrid[:SIZE, :SIZE][0]
    colour, black = (np.asarray(plate.resize((SIZE, SIZE))) / 255 for plate in (inks, block))
    colour = np.pad(colour, [(2, 0), (0, 2), (0, 0)], "edge")[:SIZE, 2:]
    pores = ndimage.gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), (0.7, 7))
    rings = np.sin((v + 26 * noise(rng, 4)) * 0.42 + 2 * noise(rng, 5))
    grain = pores / pores.std() + 0.35 * rings
    printed = mix(colour, ramp(np.zeros_like(v), "cream"), 0.10 + 0.09 * grain)
    printed = mix(printed, ramp(np.zeros_like(v), "ink"), black * (0.97 - 0.3 * (grain > 2.1)))
    image = Image.fromarray((printed * 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(0.5))
