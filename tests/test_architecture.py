"""Dependencies point one way, and each outside library has its one room."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nstyle"

#: From the ground up: a room imports only from those above its own line.
LAYERS = [
    {"arrays", "errors"},
    {"files", "process", "records"},
    {"images", "losses"},
    {"networks"},
    {"scores", "solvers", "trackers"},
    {"objective"},
    {"config"},
    {"runs"},
    {"feedforward", "report"},
    {"web"},
    {"cli"},
    {"__main__"},
]

#: What may be used without files, settings or a terminal.
PURE = {"arrays", "errors", "records", "losses", "solvers", "objective"}

ROOMS = {
    "hydra": {"config", "cli", "runs"},
    "PIL": {"images"},
    "jaxopt": {"solvers"},
    "optax": {"solvers", "feedforward"},
    "grain": {"feedforward"},
    "rich": {"process", "networks"},
    "h5py": {"networks"},
    "safetensors": {"networks", "feedforward"},
    "pooch": {"networks", "files"},
    "skimage": {"networks", "scores", "images", "feedforward"},
    "filelock": {"runs", "trackers"},
    "tensorboardX": {"trackers"},
    "wandb": {"trackers"},
    "trackio": {"trackers"},
    "mlflow": {"trackers"},
    "pandas": {"report"},
    "starlette": {"web"},
    "uvicorn": {"web"},
}


def files(module):
    """Returns the file of a module, or those of a folder of modules."""
    folder = PACKAGE / module
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def nodes(module):
    """Yields the syntax of a module's files."""
    for file in files(module):
        yield from ast.walk(ast.parse(file.read_text()))


def imports(module):
    """Yields the modules that a module imports, also inside functions."""
    for node in nodes(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "nstyle":
                yield from (f"nstyle.{alias.name}" for alias in node.names)


FOLDERS = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
MODULES = sorted(
    [*FOLDERS, *(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")]
)


def test_every_module_has_its_layer():
    assert sorted(name for layer in LAYERS for name in layer) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    depth = next(i for i, layer in enumerate(LAYERS) if module in layer)
    below = {name for layer in LAYERS[:depth] for name in layer}
    own = {name.split(".")[1] for name in imports(module) if name.startswith("nstyle.")}
    assert own - {"__version__", module} <= below


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_rooms(module):
    roots = {name.split(".")[0] for name in imports(module)}
    assert all(module in rooms for library, rooms in ROOMS.items() if library in roots)


@pytest.mark.parametrize("room", sorted(PURE))
def test_pure_rooms_know_nothing_of_files_settings_or_processes(room):
    own = {name.split(".")[1] for name in imports(room) if name.startswith("nstyle.")}
    assert not own & {"files", "process", "config", "runs", "report", "web", "cli"}


def test_no_modules_import_each_other_in_a_circle():
    paths = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }
    needs = {}
    for name, path in paths.items():
        found = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        needs[name] = found & paths.keys()
    tuple(graphlib.TopologicalSorter(needs).static_order())  # raises `CycleError`
