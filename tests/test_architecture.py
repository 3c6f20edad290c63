"""Dependencies point one way, and each outside library has its one room."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nstyle"

#: From the ground up: a module imports only from those above its own line.
LAYERS = [
    {"huge_pages", "interrupts"},
    {"errors"},
    {"layers", "files", "pages", "machine", "records", "code"},
    {"losses", "stored"},
    {"style_losses", "content_losses"},
    {"networks", "weights", "images", "colour", "resolution"},
    {"sources"},
    {"objective", "scores", "guidance", "feedforward", "dead_leaves"},
    {"balance"},
    {"solver", "tiles", "feedforward_tiles", "training"},
    {"batch", "models", "data", "pairs"},
    {"transfer", "rescaling"},
    {"config", "runs", "progress", "statistics"},
    {"job", "tensorboard"},
    {"session", "report"},
    {"sweep", "train", "apply", "serve_jobs"},
    {"serve_site"},
    {"serve"},
    {"cli"},
]

ROOMS = {
    "hydra": {"config", "cli", "sweep"},
    "PIL": {"images"},
    "jaxopt": {"solver"},
    "optax": {"solver", "training"},
    "grain": {"data"},
    "rich": {"progress", "weights"},
    "h5py": {"weights"},
    "safetensors": {"weights", "models"},
    "pooch": {"weights", "files"},
    "skimage": {"rescaling", "scores", "colour", "data", "pairs"},
    "filelock": {"runs"},
    "tensorboardX": {"tensorboard"},
    "pandas": {"statistics", "report"},
    "starlette": {"serve_site"},
    "uvicorn": {"serve_site"},
}


def imports(module):
    """Yields the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "nstyle":
                yield from (f"nstyle.{alias.name}" for alias in node.names)


MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_every_module_has_its_layer():
    assert sorted(name for layer in LAYERS for name in layer) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    depth = next(i for i, layer in enumerate(LAYERS) if module in layer)
    below = {name for layer in LAYERS[:depth] for name in layer}
    own = {name.split(".")[1] for name in imports(module) if name.startswith("nstyle.")}
    assert own - {"__version__"} <= below


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_rooms(module):
    roots = {name.split(".")[0] for name in imports(module)}
    assert all(module in rooms for library, rooms in ROOMS.items() if library in roots)
