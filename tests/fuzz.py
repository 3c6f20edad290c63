"""Mutated inputs of every kind that a stranger or a bad disk can bring, for as long as one likes.

    python tests/fuzz.py [--minutes 60] [--seed 0] [--kinds picture,card] [--keep FOLDER]

Each input must be read, or refused by a `NstyleError` of one line, within `LIMIT` seconds. Anything
else is kept in the folder beside its traceback, and the exit code is 1. Prints what was counted.
"""

import argparse
import faulthandler
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from report_store import make_sweep
from safetensors.numpy import save_file

from nstyle import images, report
from nstyle.config import check_overrides, compose, compose_training, read
from nstyle.errors import NstyleError
from nstyle.feedforward import models
from nstyle.feedforward.network import Architecture, parameter_shapes
from nstyle.networks import kernel_shape, layer_names, weights
from nstyle.runs import store

#: Seconds that an input may take.
LIMIT = 60

#: Words that mean something to one of the parsers.
WORDS = (
    *(
        "-1",
        "0",
        "1e999",
        "NaN",
        "null",
        "true",
        "[]",
        "{}",
        "{a: 1}",
        "''",
        "${seed}",
        "\\",
        "=",
        ",",
    ),
    *(
        "glob(*)",
        "range(3,1)",
        "choice(",
        "interval(0,1)",
        "[[",
        "]]",
        "\0",
        "\udc80",
        "é",
        "\U0001f600",
    ),
)

COMMANDS = (
    "content=photo.jpg style=[a.jpg,b.jpg] style_blend=[0.5,0.5] size=512 init=noise noise.std=0.1",
    "style_layers=[conv1_1,conv4_2] style_layer_weights=[1,0.5] style_weight=1e3 pyramid.levels=3",
    "solver=adam solver.learning_rate=0.02 style_loss=wasserstein pooling=choice(avg,max)",
    "recipe=gatys2015 seed=range(0,3) content_mask=mask.png style_mask=[m.png,'#ff0000']",
)
TRAINING = (
    "style=a.jpg images=photos steps=100 batch_size=4 width=32 learning_rate=1e-3 style_weight=1"
)


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Flips, cuts, repeats and overwrites pieces, more often near the beginning."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        size = len(changed)
        if not size:
            break
        at = int(random.integers(min(size, 512) if random.random() < 0.6 else size))
        until = min(size, at + int(random.choice([1, 2, 4, 16, max(1, size // 4)])))
        match random.integers(7):
            case 0:
                changed[at] ^= 1 << int(random.integers(8))
            case 1:
                changed[at:until] = random.bytes(until - at)
            case 2:
                del changed[at:until]
            case 3:
                changed[at:at] = changed[at:until]
            case 4:
                changed[at:until] = bytes([random.choice([0, 127, 255])]) * (until - at)
            case 5:
                del changed[int(random.integers(size)) :]
            case 6:
                word = WORDS[random.integers(len(WORDS))].encode(errors="surrogateescape")
                changed[at : at + len(word)] = word
    return bytes(changed)


def pictures(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields a picture in each format and in a few modes: the suffix and the bytes."""
    random = np.random.default_rng(0)
    modes = {
        mode: Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).convert(mode)
        for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK")
    }
    modes["I;16"] = Image.fromarray(random.integers(0, 2**16, (20, 24)).astype(np.uint16))
    for suffix in (".png", ".jpg", ".tif", ".webp", ".gif", ".bmp", ".avif", ".ppm"):
        for mode, picture in modes.items():
            path = place / f"picture-{mode.replace(';', '')}{suffix}"
            try:
                picture.save(path)
            except (OSError, KeyError, ValueError):
                continue  # the format has no such mode
            yield suffix, path.read_bytes()


def read_picture(path: Path) -> None:
    header, array = images.header(path), images.load(path)
    assert array.shape == header.shape, (array.shape, header.shape)
    assert array.dtype == np.float32
    assert array.min() >= 0 and array.max() <= 1


def networks(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields weights in each format."""
    own = weights.drawn("alexnet", "torchvision", 0).params
    flat = {f"{layer}.{kind}": array for layer in own for kind, array in own[layer].items()}
    save_file(flat, place / "own.safetensors", {"network": "alexnet", "pixels": "torchvision"})
    yield ".safetensors", (place / "own.safetensors").read_bytes()
    with h5py.File(place / "keras.h5", "w") as file:  # of the right shape up to its second layer
        for layer in layer_names("vgg16")[:2]:
            block, number = layer.removeprefix("conv").split("_")
            shape = kernel_shape(layer, "vgg16")
            group = file.create_group(f"block{block}_conv{number}")
            group.create_dataset("kernel:0", data=np.zeros(shape, np.float32))
            group.create_dataset("bias:0", data=np.zeros(shape[3], np.float32))
    yield ".h5", (place / "keras.h5").read_bytes()


def read_network(path: Path) -> None:
    found = weights.load(str(path), "vgg16" if path.suffix == ".h5" else "alexnet")
    assert all(np.isfinite(array).all() for own in found.params.values() for array in own.values())


def cards(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields a model as it is written, and one whose card has no hash that guards it."""
    tiny = Architecture(width=2, blocks=1)
    params = {
        layer: {name: np.zeros(shape, np.float32) for name, shape in own.items()}
        for layer, own in parameter_shapes(tiny).items()
    }
    card = {"nstyle": "0.1.0", "styles": [{"file": "art.jpg", "sha256": "0"}], "seconds": 1.5}
    models.write(place / "model", models.Model(tiny, params, card))
    yield ".safetensors", (place / "model").read_bytes()
    flat = {f"{layer}.{name}": array for layer in params for name, array in params[layer].items()}
    told = json.dumps({**card, "architecture": {"width": 2, "blocks": 1}})
    save_file(flat, place / "unguarded", {"nstyle": told})
    yield ".safetensors", (place / "unguarded").read_bytes()


def read_card(path: Path) -> None:
    found = models.read(path)
    assert found.params.keys() == parameter_shapes(found.architecture).keys()


def commands(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields command lines, a word a line."""
    for line in COMMANDS:
        yield ".txt", line.replace(" ", "\n").encode()


def _words(path: Path) -> list[str]:
    return path.read_text(errors="surrogateescape").replace("\0", "").split("\n")


def read_command(path: Path) -> None:
    words = _words(path)
    check_overrides(read(words))
    compose(**dict(word.split("=", 1) for word in words))


def trainings(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the command line of a training, a word a line."""
    yield ".txt", TRAINING.replace(" ", "\n").encode()


def read_training(path: Path) -> None:
    compose_training(_words(path))


def stores(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a run store; the suffix is where each goes in a copy of it."""
    sweep = make_sweep(place, {"seed": ["0", "1"]})
    runs_dir = place / "runs"
    for path in (sweep / "sweep.json", *sorted(next(runs_dir.glob("photo*")).iterdir())):
        yield f"damaged/{path.relative_to(runs_dir)}", path.read_bytes()


def read_store(path: Path) -> None:
    """Reports on a store with the mutated file in its place, by sweep and by folder."""
    runs_dir = next(parent for parent in path.parents if parent.name == "damaged")
    refused = None
    for place in (next(runs_dir.glob("sweeps/*")), runs_dir):
        try:
            found = report.read(place)
        except NstyleError as error:
            refused = error
        else:
            assert len(report.table(found)) <= 2
            assert all(member.result for member in found.done)
    for folder in runs_dir.glob("photo*"):
        store.finished(folder)
    if refused:
        raise refused


KINDS: dict[str, tuple[Callable[[Path], Iterator[tuple[str, bytes]]], Callable[[Path], None]]] = {
    "picture": (pictures, read_picture),
    "network": (networks, read_network),
    "card": (cards, read_card),
    "command": (commands, read_command),
    "training": (trainings, read_training),
    "store": (stores, read_store),
}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def attempt(read: Callable[[Path], None], path: Path) -> str:
    """Returns how reading a file ends: `read`, `refused`, or a traceback."""
    try:
        with at_most(LIMIT):
            read(path)
    except NstyleError as error:
        if len(str(error).splitlines()) == 1:
            return "refused"
        return f"not one line: {error}"
    except Exception:
        return traceback.format_exc()
    return "read"


def fuzz(minutes: float, seed: int, names: list[str], keep: Path) -> Counter[tuple[str, str]]:
    """Reads mutated inputs of each kind in turn, and returns how often each ended how."""
    random = np.random.default_rng(seed)
    counts: Counter[tuple[str, str]] = Counter()
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        samples = {}
        for name in names:
            (place / name).mkdir()
            samples[name] = list(KINDS[name][0](place / name))
        told = time.monotonic()
        while time.monotonic() < until:
            for name in names:
                suffix, content = samples[name][random.integers(len(samples[name]))]
                if "/" in suffix:
                    shutil.rmtree(place / "damaged", ignore_errors=True)
                    shutil.copytree(place / name / "runs", place / "damaged")
                    path = place / suffix
                else:
                    path = place / f"input{suffix}"
                path.write_bytes(mutated(content, random))
                outcome = attempt(KINDS[name][1], path)
                if outcome not in ("read", "refused"):
                    number = counts[name, "failed"]
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, keep / f"{name}-{number}{path.suffix}")
                    log = f"{suffix}\n{outcome}".encode(errors="backslashreplace")
                    (keep / f"{name}-{number}.log").write_bytes(log)
                    outcome = "failed"
                counts[name, outcome] += 1
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print({" ".join(key): count for key, count in counts.items()}, flush=True)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    counts = fuzz(options.minutes, options.seed, options.kinds.split(","), options.keep)
    for (name, outcome), count in sorted(counts.items()):
        print(f"{name:<10} {outcome:<8} {count:>9,}")
    sys.exit(any(outcome == "failed" for _, outcome in counts))


if __name__ == "__main__":
    main()
