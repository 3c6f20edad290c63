"""Shapes in signatures are checked while the tests run; small pictures and the real weights."""

import os
import tempfile

# Mean activations and compiled programs are kept for this run of the tests alone, by all its
# processes: xdist's workers have the environment of the process that starts them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    cache = tempfile.TemporaryDirectory(prefix="nstyle-tests-")
    os.environ["NSTYLE_CACHE"] = cache.name
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{cache.name}/compiled"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

from jaxtyping import install_import_hook

hook = install_import_hook(
    [
        "nstyle.arrays",
        "nstyle.losses",
        "nstyle.networks",
        *(f"nstyle.objective.{module}" for module in ("terms", "problems", "stages")),
    ],
    "beartype.beartype",
)
hook.__enter__()

import shutil  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hydra.core.plugins import Plugins  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nstyle.solvers  # noqa: F401  jaxopt warns that it is no longer maintained

    Plugins.instance()  # later a warning of Ray's import would be an error, and leave it out

from nstyle import cli, images  # noqa: E402
from nstyle.networks import weights  # noqa: E402

os.environ.pop("NSTYLE_OFFLINE", None)

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """A file's compiled programs are not kept in memory: other files hardly use them."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def vgg16():
    return weights.load()


@pytest.fixture(scope="session")
def torch_reference():
    return np.load(Path(__file__).parent / "data" / "torch_reference.npz")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Two small real pictures on disk: the folder, with content.png (48 x 36) and style.png."""
    import skimage.data

    folder = tmp_path_factory.mktemp("pictures")
    source = Path(skimage.data.__file__).parent
    images.save(folder / "content.png", images.load(source / "chelsea.png", "48x36"))
    images.save(folder / "style.png", images.load(source / "coffee.png", "40x40"))
    return folder


@pytest.fixture
def random():
    return np.random.default_rng(7)


@pytest.fixture
def nstyle_here(pictures, tmp_path, monkeypatch, capsys):
    """Runs the command in this process, in an empty folder: (status, out, err)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nstyle", *arguments])
        try:
            cli.main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def given(pictures):
    return [f"content={pictures / 'content.png'}", f"style={pictures / 'style.png'}"]


@pytest.fixture
def launched(monkeypatch):
    """The runs that a sweep would start; none is started."""
    jobs = []
    launcher = Plugins.instance().class_name_to_class[
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    ]
    monkeypatch.setattr(launcher, "launch", lambda _, batch, **__: jobs.extend(batch) or [])
    return jobs


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium, chromium-browser or google-chrome on PATH")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser):
    """Opens pages, from disk or a server, each for a visitor of its own.

    Afterwards nothing was said on the console but what was expected, and nothing asked for from
    elsewhere; of a page on disk nothing but itself.
    """
    said, fetched, pages = [], [], []

    def show(where, expected=(), **options):
        still = {"viewport": {"width": 1300, "height": 900}, "reduced_motion": "reduce"}
        page = browser.new_page(**(still | options))
        pages.append(page)
        address = where.as_uri() if isinstance(where, Path) else where

        def heard(text):
            if not any(words in text for words in expected):
                said.append(text)

        page.on("console", lambda message: heard(message.text))
        page.on("pageerror", lambda error: heard(str(error)))
        page.on("request", lambda request: fetched.append((address, request.url)))
        page.goto(address)
        return page

    yield show
    for page in pages:
        page.close()
    assert said == []
    asked = [(page, url) for page, url in fetched if not url.startswith(("data:", "blob:"))]
    assert all(url.startswith(page.partition("#")[0]) for page, url in asked)
    assert len([page for page, _ in asked if page.startswith("file:")]) in (0, len(pages))


def command(*arguments, folder, module="nstyle.cli"):
    """Starts the command in a process of its own, with Ctrl-C as a terminal has it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"from {module} import main; main()"
    )
    program = [sys.executable, "-c", code, *arguments]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        program,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def press_ctrl_c(patched):
    """Has the first run that writes its second step down be interrupted."""
    from nstyle.runs import recording

    add = recording.Recorder.add
    pressed = []

    def interrupted(record, step):
        add(record, step)
        if step.step == 2 and not pressed:
            pressed.append(step)
            signal.raise_signal(signal.SIGINT)

    patched.setattr(recording.Recorder, "add", interrupted)


def replaced(settings, *others):
    """Returns settings, `others` in the place of those of their names."""
    return [*{setting.partition("=")[0]: setting for setting in (*settings, *others)}.values()]


def values_in(events):
    """Returns what an event file of TensorBoard has, (step, value), in order."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    content, values = events.read_bytes(), []
    while content:  # a record: its length, a checksum, the event, a checksum
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        values += [(event.step, value) for value in event.summary.value]
        content = content[16 + length :]
    return values
