"""Pictures and losses of many commands, to compare the code before and after a change.

    python tests/regression.py before.json        # with the code as it was
    python tests/regression.py after.json --against before.json

Each command runs in this process, by its command line alone, on two small pictures. Written are the
SHA-256 of each picture's pixels and the lowest losses; the same machine gives the same ones by the
same number of cores, as with `taskset -c 1`. What differs is printed, and the exit code is 1.
`--only tiles,momo` runs some of them.
"""

import argparse
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import skimage.data
from PIL import Image

GIVEN = ["content=content.png", "style=style.png"]
SMALL = ["size=32", "style_size=32", "steps=4", "pyramid.levels=1", "scores=false"]
LAYERS = ["content_layers=[conv2_2]", "style_layers=[conv1_1,conv2_1]", "recipe=plain"]
HERE = ["network=vgg16", "weights=lpips"]
MASKS = ["content_mask=content_mask.png", "style_mask=style_mask.png"]


def of(*settings: str) -> list[str]:
    """Returns the arguments of a small run of a few layers, by other settings too."""
    return [*GIVEN, *SMALL, *LAYERS, *settings]


def of_recipe(name: str, *settings: str) -> list[str]:
    """Returns the arguments of a small run of a recipe, all its layers, by the weights at hand."""
    return [f"recipe={name}", *GIVEN, *SMALL, *HERE, *settings]


#: What a run is called, and its arguments.
RUNS: Mapping[str, Sequence[str]] = {
    "default": [
        *GIVEN,
        "size=48",
        "steps=3",
        "pyramid.least=32",
        "pyramid.steps=3",
        "scores=false",
    ],
    **{
        name: of_recipe(name)
        for name in ("gatys-code", "gatys2016", "johnson-neural-style", "keras", "momo")
    },
    "gatys2015": of_recipe("gatys2015", "rescale=false"),
    "texture": of_recipe("texture", "content=null"),
    "content-reconstruction": of_recipe("content-reconstruction", "style=null"),
    "random-weights": ["recipe=random-weights", *GIVEN, *SMALL],
    "alexnet": ["recipe=alexnet", *GIVEN, *SMALL, "size=64", "style_size=64"],
    **{
        f"style_loss={name}": of(f"style_loss={name}")
        for name in (
            *("covariance", "cross_layer_gram", "histogram", "mean_std", "mmd", "nnst", "remd"),
            *("sliced_wasserstein", "wasserstein"),
        )
    },
    **{
        f"content_loss={name}": of(f"content_loss={name}")
        for name in ("contextual", "cosine", "rescaled", "self_similarity")
    },
    **{
        setting: of(setting)
        for setting in (
            *("pooling=max", "pooling=l2", "smoothing=swag", "padding=reflect", "balance=false"),
            *("solver=adam", "solver=sgd", "init=noise", "init=mixture", "init=style"),
            *("colour=cholesky", "colour=luminance", "precision=bfloat16"),
        )
    },
    "rotation": of("style_rotation=20", "style_size=48"),
    "blend": of("style=[style.png,content.png]", "style_blend=[2,1]"),
    "masks": of(*MASKS, "mask_softness=1"),
    "content_weight_map": of("content_weight_map=map.png"),
    "tiles": of("size=48", "tile=16"),
    "pyramid": of("size=48", "pyramid.levels=3", "pyramid.factor=1.5", "pyramid.least=16"),
    "noise of detail": of("size=48", "pyramid.levels=2", "pyramid.least=16", "pyramid.noise=0.1"),
    "sweep": ["-m", *of("pooling=avg,max", "seed=0,1", "init=noise")],
    "batch": ["-m", *of("seed=0,1,2", "init=noise", "batch=2")],
}
#: A training of a few steps, and what its network makes of a photograph.
TRAINING = ["style=style.png", "size=16", "batch_size=2", "steps=4", "width=2", "blocks=1"]
#: Long enough that it is interrupted on its way.
RESUMED = of("size=64", "steps=300", "tolerance=0", "checkpoint_every=0.001")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("written", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", help="names, with commas between them")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else [*RUNS, "resumed", "training"]
    found = {}
    for name in names:
        began = time.monotonic()
        found[name] = ends(name)
        print(f"{name:<24} {time.monotonic() - began:5.1f} s  {found[name]}", flush=True)
    options.written.write_text(json.dumps(found, indent=1) + "\n")
    if options.against:
        before = json.loads(options.against.read_text())
        other = [name for name in names if found[name] != before.get(name)]
        for name in other:
            print(f"{name}: {before.get(name)} before, {found[name]} now")
        print(f"{len(names) - len(other)} of {len(names)} are the same")
        sys.exit(bool(other))


def ends(name: str) -> list[Any]:
    """Returns how the runs of a name end: the hash of each picture, and its loss, by loss."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            _write_pictures()
            if name == "training":
                return _training()
            if name == "resumed":
                _interrupt(RESUMED)
                command("nstyle.cli", RESUMED)
            else:
                command("nstyle.cli", RUNS[name])
            results = Path("runs").glob("*/result.json")
            losses = {path: json.loads(path.read_text())["best"]["loss"] for path in results}
            return sorted(
                [[loss, _hash(path.with_name("result.png"))] for path, loss in losses.items()]
            )
        finally:
            os.chdir(before)


def settled(arguments: Sequence[str]) -> list[str]:
    """Returns arguments, the last of each setting in the place of those before."""
    return [*{word.partition("=")[0]: word for word in arguments}.values()]


def command(module: str, arguments: Sequence[str]) -> None:
    """Runs a command in this process; what it says is kept for when it fails."""
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["nstyle", *settled(arguments)]),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        try:
            import_module(module).main()
        except SystemExit as error:
            if error.code:
                raise RuntimeError(said.getvalue()) from error


def _interrupt(arguments: Sequence[str]) -> None:
    """Starts a command in a process of its own, and interrupts it after a few steps."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "from nstyle.cli import main; main()"
    program = [sys.executable, "-c", code, *settled(arguments)]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(path.read_text().count("\n") > 5 for path in Path("runs").glob("*/trace.csv")):
        time.sleep(0.005)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130, "it ended before it was interrupted"


def _training() -> list[Any]:
    from safetensors.numpy import load_file

    command("nstyle.feedforward.train", [*TRAINING, *LAYERS, "out=net"])
    arrays = load_file("net/model.safetensors")
    params = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays)))
    command("nstyle.feedforward.apply", ["net", "content.png", "out=painted"])
    (painted,) = Path("painted").glob("*")
    return [params.hexdigest()[:16], _hash(painted)]


def _hash(path: Path) -> str:
    return hashlib.sha256(np.asarray(Image.open(path)).tobytes()).hexdigest()[:16]


def _write_pictures() -> None:
    for name, source, size in (("content", "chelsea", (48, 36)), ("style", "coffee", (40, 40))):
        picture = Image.fromarray(getattr(skimage.data, source)())
        picture.resize(size, Image.Resampling.LANCZOS).save(f"{name}.png")
        halves = Image.new("RGB", size, "red")
        halves.paste("blue", (0, 0, size[0] // 2, size[1]))
        halves.save(f"{name}_mask.png")
    Image.linear_gradient("L").resize((48, 36)).save("map.png")


if __name__ == "__main__":
    main()
