"""A run's identity has all that the code does, and nothing of how it is written down."""

import ast
import shutil
import sys
from itertools import chain
from pathlib import Path

import pytest

import nstyle
from nstyle.errors import NstyleError
from nstyle.losses import gram_matrix
from nstyle.runs import store
from nstyle.runs.code import ASIDE, code_of, code_version, written

PACKAGE = Path(nstyle.__file__).parent
SOURCES = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]

#: What rooms that count take from rooms that do not, none of it for the numbers of a run.
ASKED = {
    "__init__.py": {"report"},  # by name, when it is asked for
    "config": {"images/pairs", "scores", "trackers"},
    "runs": {"process", "runs/tracking", "scores", "trackers"},
}


def aside(names):
    """The rooms and modules among these that do not count."""
    return {whole for name in names for whole in (name, name.partition("/")[0])} & ASIDE


def named(source):
    return source.with_suffix("").as_posix()


COUNTED = sorted(source for source in SOURCES if not aside([named(source)]))


@pytest.fixture
def package(tmp_path):
    """A copy of the package's sources."""
    return shutil.copytree(PACKAGE, tmp_path / "nstyle", ignore=lambda *_: {"__pycache__"})


def version(package):
    return code_version.__wrapped__(package=package)


def is_text(statement):
    return isinstance(statement, ast.Expr) and isinstance(
        getattr(statement.value, "value", None), str
    )


def other(value):
    match value:
        case bool():
            return not value
        case int() | float() | complex():
            return 2 * value + 1
        case str():
            return value + "x"
        case bytes():
            return value + b"x"
        case _:
            return 0


def changed_constants(tree):
    """Yields once for each constant, which is another meanwhile."""
    texts = {id(node.value) for node in ast.walk(tree) if is_text(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in texts:
            before, node.value = node.value, other(node.value)
            yield ast.dump(node)
            node.value = before


def changed_defaults(tree):
    """Yields once for each default of an argument, which is another meanwhile."""
    for node in ast.walk(tree):
        for defaults in (getattr(node, "defaults", []), getattr(node, "kw_defaults", [])):
            for i, before in enumerate(defaults):
                if before is not None:
                    defaults[i] = ast.Name("another")
                    yield ast.dump(before)
                    defaults[i] = before


def changed_statements(tree):
    """Yields once for each statement, which is gone meanwhile."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            for i, before in enumerate(statements if isinstance(statements, list) else []):
                if not is_text(before):
                    statements[i] = ast.Expr(ast.Constant("gone"))
                    yield ast.dump(before)
                    statements[i] = before


def units(statements):
    """Yields parts of a module that are small enough to change again and again."""
    for statement in statements:
        if isinstance(statement, ast.ClassDef):
            yield from units(statement.body)
            statement.body = []
        yield ast.Module([statement])


@pytest.mark.parametrize("source", COUNTED, ids=str)
def test_every_statement_constant_and_default_counts(source, package):
    tree = ast.parse((package / source).read_bytes())
    count = 0
    for unit in units(tree.body):
        before = written(unit)
        changes = chain(changed_constants(unit), changed_defaults(unit), changed_statements(unit))
        for change in changes:
            assert written(unit) != before, change
            count += 1
        assert written(unit) == before
    assert count or source.name == "__init__.py"


@pytest.mark.parametrize("source", COUNTED, ids=str)
def test_changes_of_a_file_that_counts(source, package):
    known, file = version(package), package / source
    whole = file.read_text()
    for more in ("\n\n# A comment.\n", '\n"A text."\n'):
        file.write_text(whole + more)
        assert version(package) == known
    for more in ("\nADDED = 0\n", "\nADDED = 1\n", "\ndef added(x=1): return x\n"):
        file.write_text(whole + more)
        assert version(package) != known
    tree = ast.parse(whole)
    for changes in (changed_constants, changed_statements):
        for _ in changes(tree):
            file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
            assert version(package) != known
            break
    file.unlink()
    assert version(package) != known


def test_comments_layout_and_docstrings_do_not_count(package):
    known = version(package)
    for source in SOURCES:
        tree = ast.parse((package / source).read_bytes())
        for node in ast.walk(tree):
            if is_text(node):
                node.value.value = "Says something else."
        (package / source).write_text(f"# A comment.\n\n{ast.unparse(tree)}\n")
    assert version(package) == known


def test_what_cannot_decide_a_result_does_not_count(package):
    known = version(package)
    assert aside(map(named, SOURCES)) == ASIDE
    for source in SOURCES:
        if aside([named(source)]):
            (package / source).write_text("CHANGED = 1")
    for name in ASIDE:
        if (package / name).is_dir():
            (package / name / "part.py").write_text("CHANGED = 1")
    assert version(package) == known
    (package / "room").mkdir()
    assert version(package) == known
    (package / "room" / "new.py").write_text("NEW = 1")
    assert version(package) != known


def test_scores_have_an_identity_of_their_own(package):
    def scoring():
        return code_version.__wrapped__(frozenset({"scores"}), package)

    known = scoring()
    (package / "images" / "sizes.py").write_text("CHANGED = 1")
    assert scoring() == known
    (package / "scores" / "pixels.py").write_text("CHANGED = 1")
    assert scoring() != known


def test_rooms_that_count_need_no_others():
    found = {}
    for source in COUNTED:
        for node in ast.walk(ast.parse((PACKAGE / source).read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nstyle"):
                module = node.module.removeprefix("nstyle").removeprefix(".").replace(".", "/")
                names = [module, *(f"{module}/{alias.name}".lstrip("/") for alias in node.names)]
                found.setdefault(source.parts[0], set()).update(aside(names))
    assert {name: others for name, others in found.items() if others} == ASKED


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's class, in a module that needs others in its folder."""
    folder = tmp_path / "own"
    (folder / "parts").mkdir(parents=True)
    (folder / "own_loss.py").write_text(
        "from own_parts import scale\n"
        "class Loss:\n"
        "    def __call__(self, x):\n"
        "        import parts.deep\n"
        "        return scale(x)\n"
    )
    (folder / "own_parts.py").write_text("def scale(x):\n    return 2 * x\n")
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "deep.py").write_text("DEPTH = 1\n")
    (folder / "notes.py").write_text("NOTES = 1\n")
    monkeypatch.syspath_prepend(folder)
    import own_loss

    yield own_loss.Loss
    for name in ("own_loss", "own_parts"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("own_loss.py", "\n# A comment.\n", False),
        ("own_loss.py", "\nADDED = 1\n", True),
        ("own_parts.py", "\n'A text.'\n", False),
        ("own_parts.py", "\nADDED = 1\n", True),
        ("parts/deep.py", "\nADDED = 1\n", True),
        ("notes.py", "\nADDED = 1\n", False),
    ],
)
def test_the_code_of_a_users_class_counts(own, tmp_path, name, text, counts):
    def identity(*objects):
        return store.run_id({"style_weight": 1.0}, {}, objects)

    before = identity(own())
    assert before == identity(own) == identity(own(), own, gram_matrix) != identity()
    with (tmp_path / "own" / name).open("a") as file:
        file.write(text)
    assert (identity(own()) != before) == counts


def test_the_code_of_this_package_counts_once():
    assert code_of([gram_matrix, store.Trace, NstyleError("x")]) == []


def test_a_class_without_a_file_is_refused(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(NstyleError, match="Typed: its source is in no file"):
        code_of([type("Typed", (), {"__module__": "__main__"})])
