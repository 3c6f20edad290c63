"""The world outside: memory, devices, and output that nobody reads."""

import io
import os
import resource
import subprocess
import sys
import warnings

import jax
import pytest
import threadpoolctl
from conftest import command

from nstyle import stylize
from nstyle.errors import NstyleError
from nstyle.process import command as process_command
from nstyle.process import machine
from nstyle.process.command import lasting_output, short_warnings
from nstyle.runs import fitting, recording, resources, stylized


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "3000", "memory.max": "4000"}, 3000),
        ("0::/a/b", {"a/b/memory.max": "max"}, None),
        ("4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "5000"}, 5000),
        ("4:memory:/gone", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("", {}, None),
    ],
)
def test_memory_is_the_least_of_machine_and_control_groups(group, files, limit, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory_limit(tmp_path) == (limit or whole)


def test_memory_is_no_more_than_the_shell_lets_be_mapped(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**31, 2**31))
    assert machine.memory_limit() < 2**31  # even below 0, where tests have mapped more


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")])
def test_an_allocation_that_fails_is_of_one_run(nstyle_here, given, tmp_path, monkeypatch, error):
    build = recording.build
    failing = [True]

    def short(planned):
        if failing.pop() if failing else False:
            raise error
        return build(planned)

    monkeypatch.setattr(recording, "build", short)
    small = ("size=32", "steps=1", "pyramid.levels=1", "scores=false")
    status, _, err = nstyle_here("-m", *given, *small, "seed=0,1")
    assert status == 2
    assert err.splitlines()[-1].startswith("nstyle: 1 of 2 runs failed, first: there is not enough")
    assert "memory=4GiB" in err
    assert len(list(tmp_path.glob("runs/*/result.png"))) == 1


def test_too_little_memory_is_told_with_what_the_rest_takes(nstyle_here, given):
    status, _, err = nstyle_here(*given, "size=32", "memory=1MiB")
    assert status == 2
    assert err.startswith("nstyle: memory: 1MiB is too little: pictures and solver alone take 0.")


class Broken(io.StringIO):
    """A stream on a device that fails, as a file of the system's would."""

    def __init__(self, error, file):
        super().__init__()
        self.error, self.file = error, file

    def fileno(self):
        return self.file.fileno()

    def write(self, _):
        raise self.error


@pytest.mark.parametrize(
    ("error", "message"),
    [(BrokenPipeError(32, "Broken pipe"), None), (OSError(28, "No space left"), "No space left")],
)
def test_work_goes_on_when_output_fails(error, message, tmp_path, monkeypatch):
    done = []
    with (tmp_path / "out").open("wb") as file:
        monkeypatch.setattr(sys, "stdout", Broken(error, file))

        def work():
            with lasting_output():
                for i in range(3):
                    print(i)
                    done.append(i)

        if message is None:
            work()
        else:
            with pytest.raises(NstyleError, match=f"cannot write to standard output: {message}"):
                work()
    assert done == [0, 1, 2]


@pytest.mark.slow
def test_devices_that_are_not_here_are_one_line(given, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    process = command(*given, "size=32", folder=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count("\n") == 1 and "JAX_PLATFORMS: there are no devices of 'cuda' here" in err


def test_what_a_compilation_leaves_is_given_back(monkeypatch):
    given_back = []
    monkeypatch.setattr(resources.huge_pages, "give_back", lambda: given_back.append(1))
    number = jax.numpy.float32(3.0)
    doubled = jax.jit(lambda x: 2.0 * x)
    monkeypatch.setattr(resources, "_LONG_COMPILATION", 0.0)
    doubled(number)
    assert given_back
    given_back.clear()
    doubled(number)
    assert not given_back


def test_linear_algebra_has_one_thread():
    """Several wait for each other beside another busy process."""
    resources.limit_threads(None)
    assert {library["num_threads"] for library in threadpoolctl.threadpool_info()} == {1}


@pytest.mark.slow
def test_a_call_from_python_has_linear_algebra_of_one_thread_while_it_lasts(pictures, monkeypatch):
    seen = []

    def step(*_):
        seen.extend(library["num_threads"] for library in threadpoolctl.threadpool_info())
        return {"loss": 1.0}

    monkeypatch.setattr(stylized, "row", step)
    files = pictures / "content.png", pictures / "style.png"
    with threadpoolctl.threadpool_limits(2):
        before = threadpoolctl.threadpool_info()
        quick = {"size": 32, "steps": 1, "pyramid.levels": 1, "progress": False}
        stylize(*files, style_loss="wasserstein", **quick)
        assert threadpoolctl.threadpool_info() == before
    assert set(seen) == {1}


def test_a_picture_that_memory_does_not_hold_is_refused_with_what_helps(
    nstyle_here, given, monkeypatch
):
    monkeypatch.setattr(fitting, "memory_limit", lambda: 2**30)
    status, _, err = nstyle_here(*given, "size=3000")
    assert (status, err.count("\n")) == (2, 1)
    assert "GiB of memory, 1.0 GiB are here (the largest long side that fits is" in err
    assert "memory=8GiB" in err


@pytest.mark.filterwarnings("default")
def test_warnings_of_a_full_compile_cache_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr(process_command, "_TOLD", set())
    for _ in range(2):  # the command's own, and a launcher's worker's
        with short_warnings("nstyle"):
            for name in ("a", "b"):
                line = f"Error writing persistent compilation cache entry for '{name}'"
                warnings.warn(line, stacklevel=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nstyle: note: Error writing persistent compilation cache entry")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "status", "message"),
    [
        ("| head -c 1", 0, ""),
        ("> /dev/full", 2, "nstyle: cannot write to standard output: No space"),
    ],
)
def test_a_reader_that_left_and_a_full_disk(redirected, status, message, tmp_path):
    code = "from nstyle.cli import main; main()"
    shell = f"set -o pipefail; {sys.executable} -c '{code}' --help {redirected}"
    process = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == status
    assert process.stderr.startswith(message) and process.stderr.count("\n") == bool(message)
