"""The code's part of a run's identity: a hash of what modules do, not of how they are written down.

It is of their syntax trees: docstrings, comments and layout do not count, every statement, constant
and default does.
"""

import ast
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from nstyle.errors import NstyleError

_PACKAGE = Path(__file__).parents[1]

#: Rooms and modules of this package that cannot decide how a run comes out. What is not named here
#: counts.
ASIDE = frozenset(
    {
        "__main__",  # what a user sees and types
        "cli",
        "plugins",
        "process",  # how the system is used
        "report",
        "web",
        "scores",  # have an identity of their own, see `session`
        "feedforward",  # networks that paint in one pass
        "images/pairs",  # which runs there are
        "runs/sweep",
        "runs/sweepers",
        "runs/tracking",
        "trackers",
    }
)


@functools.cache
def code_version(rooms: frozenset[str] | None = None, package: Path = _PACKAGE) -> str:
    """Returns a hash of modules of this package, by default of all but `ASIDE`.

    Args:
      rooms: names of modules and packages to hash in their place.
      package: its folder.
    """

    def counts(name: Path) -> bool:
        path = name.with_suffix("").as_posix()
        inside = {path, path.partition("/")[0]}
        return not inside & ASIDE if rooms is None else bool(inside & rooms)

    names = sorted(path.relative_to(package) for path in package.rglob("*.py"))
    return _hash(f"{name.as_posix()} {_digest(package / name)}" for name in names if counts(name))


def code_of(objects: Iterable[object]) -> list[str]:
    """Returns hashes of the code of objects from outside this package, none of those in it.

    Each is of the file that the object's class is defined in, and of the files beside it that this
    one imports, directly or by others beside it.

    Args:
      objects: instances, classes or functions.

    Raises:
      NstyleError: the source of one is in no file.
    """
    files = {_source_of(found) for found in objects}
    outside = {file for file in files if not file.is_relative_to(_PACKAGE)}
    return sorted(_hash(map(_digest, sorted(_with_imports(file)))) for file in outside)


def _source_of(found: object) -> Path:
    defined = found if hasattr(found, "__qualname__") else type(found)
    file = getattr(sys.modules.get(defined.__module__), "__file__", None)
    if file is None:
        raise NstyleError(
            f"{getattr(defined, '__qualname__', defined)}: its source is in no file, and decides"
            " results; write it into a module"
        )
    return Path(file).resolve()


def _with_imports(file: Path) -> set[Path]:
    """Returns a file, and those in its folder that it imports, wherever in it, and so on."""
    found, ahead = set[Path](), [file]
    while ahead:
        path = ahead.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            names = set(_imported(ast.parse(path.read_bytes())))
            ahead += (beside for name in names for beside in _modules(file.parent, name))
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yields each part of the names that a module imports; one of them is that of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield from alias.name.split(".")
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from node.module.split(".")


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Yields the files of a module or package in a folder, if there is one of that name."""
    module = folder / f"{name}.py"
    if module.is_file():
        yield module
    if (folder / name / "__init__.py").is_file():
        yield from (folder / name).rglob("*.py")


def _digest(path: Path) -> str:
    """Returns a hash of a file: of its syntax tree where it is Python's, else of its bytes."""
    return _digest_of(path.read_bytes(), path.suffix == ".py")


@functools.cache
def _digest_of(source: bytes, is_python: bool) -> str:
    if not is_python:
        return hashlib.sha256(source).hexdigest()
    return _hash(written(ast.parse(source)))


def _hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def written(tree: ast.AST) -> list[str]:
    """Returns the parts of a syntax tree that say what it does.

    Texts that are statements, as docstrings are, are left out. So is what is empty or follows from
    the rest: versions of Python differ in that.
    """
    parts: list[str] = []

    def write(node: object) -> None:
        if isinstance(node, ast.AST):
            if isinstance(node, ast.Expr) and _is_text(node.value):
                return
            parts.append(type(node).__name__)
            for name in node._fields:
                value = getattr(node, name, None)
                if value is not None and value != [] and name != "ctx":
                    parts.append(name)
                    write(value)
            parts.append(")")
        elif isinstance(node, list):
            for item in node:
                write(item)
            parts.append("]")
        else:
            parts.append(ascii(node))

    write(tree)
    return parts


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
