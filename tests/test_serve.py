"""The page to try it: its refusals and its queue with made-up runs; whole runs in a browser."""

import asyncio
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import command
from PIL import Image

from nstyle import images
from nstyle.feedforward import models
from nstyle.feedforward.apply import painted_picture
from nstyle.feedforward.network import Architecture, initial_params, parameter_shapes
from nstyle.web import serve

pytest.importorskip("starlette", reason="starlette is not installed")
import uvicorn
from starlette.testclient import TestClient

from nstyle.web import site as serve_site
from nstyle.web.jobs import Jobs, Settings, Stage
from nstyle.web.site import Limits, site

LIMITS = Limits(max_size=48, max_steps=400, max_megabytes=1, waiting=2)
CHOSEN = {
    "recipe": "default", "style_weight": "2e4", "size": "32", "steps": "5", "init": "content",
    "style": "mosaic",
}  # fmt: skip


class Run:
    """A made-up process: it ends when the test says so, or by a signal unless it is stubborn."""

    def __init__(self, arguments, folder, stubborn=False):
        self.arguments, self.folder, self.stubborn = arguments, folder, stubborn
        self.returncode, self.signals = None, []

    async def wait(self):
        while self.returncode is None:
            await asyncio.sleep(0.002)
        return self.returncode

    def send_signal(self, number):
        self.signals.append(number)
        if not self.stubborn:
            self.returncode = 130

    def kill(self):
        self.signals.append(signal.SIGKILL)
        self.returncode = -signal.SIGKILL


@pytest.fixture
def started():
    return []


@pytest.fixture(scope="module")
def network():
    architecture = Architecture(width=4, blocks=1, styles=2)
    random = np.random.default_rng(7)
    params = {
        layer: {name: random.standard_normal(shape, np.float32) / 4 for name, shape in own.items()}
        for layer, own in parameter_shapes(architecture).items()
    }
    return models.Model(architecture, params, {"styles": [{"file": "a.jpg"}, {"file": "b.jpg"}]})


@pytest.fixture
def client(tmp_path, started, network):
    async def start(arguments, folder):
        started.append(Run(list(arguments), folder))
        return started[-1]

    application = site(tmp_path / "out", LIMITS, [("both", network)], ["localhost"], start)
    with TestClient(application, base_url="http://localhost") as client:
        yield client
    assert all(run.returncode is not None for run in started)


@pytest.fixture
def photograph(pictures):
    return (pictures / "content.png").read_bytes()


def submit(client, photograph, **changed):
    form = {name: value for name, value in (CHOSEN | changed).items() if value is not None}
    return client.post("/jobs", data=form, files={"photograph": ("../../p.png", photograph)})


def eventually(client, job, **expected):
    """What is told of a run, once that is so."""
    deadline = time.monotonic() + 10
    while True:
        told = client.get(f"/jobs/{job}").json()
        if expected.items() <= told.items():
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.01)


def test_one_run_at_a_time_first_come_first_served(client, photograph, started, tmp_path, pictures):
    ids = [submit(client, photograph, steps=str(steps)).json()["id"] for steps in (5, 6, 7)]
    eventually(client, ids[0], state="running")
    assert [client.get(f"/jobs/{id}").json()["before"] for id in ids] == [0, 1, 2]
    assert len(started) == 1
    started[0].returncode = 0
    eventually(client, ids[0], state="done")
    eventually(client, ids[1], state="running", before=0)
    eventually(client, ids[2], state="waiting", before=1)
    assert [run.folder.name for run in started] == ids[:2]
    assert started[1].arguments == [
        "content=content.png", "style=style.png", "out=result.png", "recipe=default",
        "style_weight=20000", "size=32", "steps=6", "init=content", "save_every=1", "scores=false",
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "out" / ids[1]).iterdir()} == {
        "content.png", "style.png"
    }  # fmt: skip
    sent = images.load(pictures / "content.png")
    np.testing.assert_array_equal(images.load(tmp_path / "out" / ids[1] / "content.png"), sent)


def test_a_run_leaves_the_queue_or_is_interrupted(client, photograph, started, tmp_path):
    ids = [submit(client, photograph).json()["id"] for _ in range(3)]
    eventually(client, ids[0], state="running")
    assert client.post(f"/jobs/{ids[1]}/cancel").json()["state"] == "stopped"
    assert client.get(f"/jobs/{ids[2]}").json()["before"] == 1
    assert not (tmp_path / "out" / ids[1]).exists()
    assert client.post(f"/jobs/{ids[0]}/cancel").json()["state"] == "ending"
    eventually(client, ids[0], state="stopped")
    assert started[0].signals == [signal.SIGINT]
    assert (tmp_path / "out" / ids[0]).is_dir()
    eventually(client, ids[2], state="running")
    assert started[1].folder.name == ids[2]
    assert client.post(f"/jobs/{ids[1]}/cancel").json()["state"] == "stopped"


def test_a_run_that_does_not_end_is_killed(tmp_path):
    """By a visitor, and when the server ends."""

    async def stop(end):
        runs = []

        async def start(arguments, folder):
            runs.append(Run(arguments, folder, stubborn=True))
            return runs[-1]

        jobs = Jobs(tmp_path, 3, start, grace=0.01)
        settings = Settings("default", 1.0, 32, 5, "noise")
        made, waiting = (jobs.add(jobs.new_folder(), settings, [Stage(9, 6)]) for _ in range(2))
        while not runs:
            await asyncio.sleep(0)
        made.folder.mkdir()
        await end(jobs, made)
        assert runs[0].signals == [signal.SIGINT, signal.SIGKILL]
        assert made.state == "stopped"
        return waiting.state

    async def by_visitor(jobs, job):
        jobs.cancel(job)
        while job.state == "ending":
            await asyncio.sleep(0.005)
        await jobs.close()

    async def by_end(jobs, job):
        await jobs.close()

    assert asyncio.run(stop(by_end)) == "stopped"
    asyncio.run(stop(by_visitor))


def test_how_far_a_run_is(client, photograph, started):
    job = submit(client, photograph, steps="40").json()
    assert (job["steps"], job["step"], job["saved"], job["result"]) == (40, None, None, False)
    eventually(client, job["id"], state="running")
    folder = started[0].folder / "runs" / "content-style-0"
    images.save(folder / "step_000002.png", np.full((4, 4, 3), 0.5))
    rows = ["step,size,loss", "0,32,9.5", "1,32,8.5", "2,32,7.5"]
    (folder / "trace.csv").write_text("\r\n".join([*rows, "3,32,6."]))
    told = eventually(client, job["id"], step=2, loss=7.5, saved=2)
    assert told["seconds_left"] is None
    (folder / "trace.csv").write_text("\r\n".join([*rows, "3,32,6.5", ""]))
    told = eventually(client, job["id"], step=3, loss=6.5)
    (folder / "trace.csv").write_text("\r\n".join([*rows, "3,32,6.5", "4,32,nan", ""]))
    told = eventually(client, job["id"], step=4, loss=None)
    assert 0 < told["seconds_left"] < 400
    picture = client.get(f"/jobs/{job['id']}/steps/2")
    assert picture.headers["content-type"] == "image/png"
    assert client.get(f"/jobs/{job['id']}/steps/3").status_code == 404
    assert client.get(f"/jobs/{job['id']}/result.png").status_code == 404


@pytest.mark.parametrize(
    ("status", "log", "message"),
    [
        (2, "nstyle: note: x\nnstyle: memory: too little\nstep 1/5", "memory: too little"),
        (-9, "", "nstyle was killed; was there too little memory?"),
        (1, "Traceback", "nstyle ended with status 1; log.txt in the run's folder says more"),
    ],
)
def test_a_failed_run_says_why_in_one_line(client, photograph, started, status, log, message):
    job = submit(client, photograph).json()["id"]
    eventually(client, job, state="running")
    (started[0].folder / "log.txt").write_text(log)
    started[0].returncode = status
    assert eventually(client, job, state="failed")["message"] == message


def picture_bytes(width, height, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, form)
    return buffer.getvalue()


def bomb(side):
    """A PNG of a few bytes that claims many pixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "defualt"}, "did you mean 'default'"),
        ({"recipe": "default hydra.run.dir=/tmp"}, "recipe: unknown value"),
        ({"recipe": "texture"}, "recipe: unknown value 'texture'"),
        ({"recipe": None}, "recipe: unknown value ''"),
        ({"style_weight": "nan"}, "style_weight: 'nan' is no number from 0.0 to"),
        ({"style_weight": "-1"}, "style_weight: '-1' is no number"),
        ({"style_weight": "1e13"}, "style_weight: '1e13' is no number"),
        ({"style_weight": "1,2"}, "style_weight: '1,2' is no number"),
        ({"size": "31"}, "size: '31' is no number from 32 to 48"),
        ({"size": "49"}, "size: '49' is no number"),
        ({"size": "32.5"}, "size: '32.5' is no number"),
        ({"size": "9" * 900}, "size: '99999999999999999999' is no number"),
        ({"steps": "0"}, "steps: '0' is no number from 1 to 400"),
        ({"steps": "5 tolerance=1"}, "steps: '5 tolerance=1' is no number"),
        ({"init": "style"}, "init: unknown value 'style'"),
        ({"init": "/etc/passwd"}, "init: unknown value '/etc/passwd'"),
        ({"style": "../mosaic"}, "did you mean 'mosaic'"),
        ({"style": None}, "style: unknown value ''"),
    ],
)
def test_what_is_not_allowed_goes_nowhere(client, photograph, started, tmp_path, changed, message):
    answer = submit(client, photograph, **changed)
    told = answer.json()["error"]
    assert (answer.status_code, told.count("\n")) == (422, 0)
    assert message in told
    assert not started
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the photograph is empty"),
        (
            b"hello",
            "not a picture that can be read (allowed: PNG, JPEG, WEBP, TIFF, GIF, BMP, AVIF",
        ),
        (picture_bytes(8, 8, "EPS"), "not a picture that can be read"),
        (picture_bytes(64, 64, "TIFF")[:5000], "the photograph"),
        (bomb(7_800), "the photograph has 7800 x 7800 pixels, more than 60,000,000"),
        (bomb(30_000), "the photograph is too large"),
        (picture_bytes(400, 1), "content: 32 x 1 pixels are too few"),
    ],
    ids=["empty", "text", "another format", "truncated", "bomb", "larger bomb", "narrow"],
)
def test_what_is_no_picture_is_refused(client, started, tmp_path, content, message):
    answer = submit(client, content)
    told = answer.json()["error"]
    assert (answer.status_code, told.count("\n")) == (422, 0)
    assert message in told
    assert str(tmp_path) not in told
    assert not started
    assert not list((tmp_path / "out").glob("*"))
    form = {"model": "0", "mixture": "1,0"}
    answer = client.post("/preview", data=form, files={"photograph": content})
    assert answer.status_code == 422


def test_without_a_photograph(client):
    assert client.post("/jobs", data=CHOSEN).json() == {"error": "photograph: no picture given"}
    assert client.post("/jobs").status_code == 422
    without_boundary = {"Content-Type": "multipart/form-data"}
    assert client.post("/jobs", content=b"x", headers=without_boundary).status_code == 400
    many = [("photograph", b"x")] * 3
    assert client.post("/jobs", files=many).status_code == 400


def test_a_full_queue_refuses(client, photograph):
    ids = [submit(client, photograph).json()["id"] for _ in range(3)]
    answer = submit(client, photograph)
    assert answer.status_code == 503
    assert answer.json() == {"error": "queue: it is full (2 runs may wait); try again later"}
    client.post(f"/jobs/{ids[1]}/cancel")
    assert submit(client, photograph).status_code == 201


def post_in_parts(client, parts, **headers):
    """Posts a form whose body comes in parts: status, answer, and how many parts were taken."""
    taken, answered = [], []

    async def receive():
        taken.append(await anext(parts))
        return {"type": "http.request", "body": taken[-1], "more_body": True}

    async def send(message):
        answered.append(message)

    known = {"host": "localhost", "content-type": "multipart/form-data; boundary=x"} | headers
    raw = [(key.encode(), value.encode()) for key, value in known.items()]
    scope = {
        "type": "http", "method": "POST", "path": "/jobs", "headers": raw, "query_string": b"",
        "http_version": "1.1", "root_path": "", "scheme": "http",
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))
    return answered[0]["status"], json.loads(answered[1]["body"])["error"], len(taken)


def test_slow_uploads_of_one_address_leave_room_for_others(client):
    """Slow ones hold all places of their address; another's form is still read."""

    async def posted(address, parts):
        answered = []

        async def receive():
            return {"type": "http.request", "body": await anext(parts), "more_body": True}

        async def send(message):
            answered.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        scope = {
            "type": "http", "method": "POST", "path": "/jobs", "headers": headers,
            "query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http",
            "client": (address, 1),
        }  # fmt: skip
        await client.app(scope, receive, send)
        return answered[0]["status"]

    async def slow():
        yield PART
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    async def broken():
        while True:
            yield b"no form"

    async def visit():
        held = [asyncio.create_task(posted("10.0.0.1", slow())) for _ in range(8)]
        await asyncio.sleep(0.1)
        turned_away = [task.result() for task in held if task.done()]
        other = await posted("10.0.0.2", broken())
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        return turned_away, other

    turned_away, other = asyncio.run(visit())
    assert turned_away == [503] * (8 - serve_site._UPLOADS_EACH)
    assert other == 400


PART = b'--x\r\nContent-Disposition: form-data; name="photograph"; filename="p"\r\n\r\n'


@pytest.mark.parametrize("headers", [{}, {"content-length": "10"}])
def test_an_upload_is_limited_as_it_comes(client, headers):
    async def endless():
        yield PART
        while True:
            yield bytes(100_000)

    assert post_in_parts(client, endless(), **headers) == (413, "upload: more than 1 MB", 11)


def test_an_upload_is_limited_by_what_it_claims_in_time_and_in_number(
    client, photograph, monkeypatch
):
    answer = submit(client, bytes(1_100_000))
    assert (answer.status_code, len(answer.text.splitlines())) == (413, 1)

    async def slow():
        yield PART
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    monkeypatch.setattr(serve_site, "_UPLOAD_SECONDS", 0.1)
    assert post_in_parts(client, slow())[:2] == (408, "upload: it took too long")
    for limit in ("_UPLOADS", "_UPLOADS_EACH"):
        with monkeypatch.context() as patched:
            patched.setattr(serve_site, limit, 0)
            assert submit(client, photograph).status_code == 503


def test_only_this_page_may_send_and_only_by_this_name(client, photograph):
    job = submit(client, photograph).json()["id"]
    for host in ("evil.example", "localhost.evil.example", "www.localhost"):
        assert client.get("/", headers={"Host": host}).status_code == 400
    for origin, status in (
        ("http://evil.example", 403), ("null", 403), ("http://localhost:81", 403),
        ("http://localhost", 200),
    ):  # fmt: skip
        answer = client.post(f"/jobs/{job}/cancel", headers={"Origin": origin})
        assert answer.status_code == status


def test_runs_are_found_by_their_ids_alone(client, photograph, started):
    job = submit(client, photograph).json()["id"]
    assert re.fullmatch("[0-9a-f]{32}", job)
    assert client.get("/jobs").status_code == 405
    (started[0].folder / "log.txt").write_text("private")
    for path in (
        "jobs/" + "0" * 32, f"jobs/{job}/log.txt", f"jobs/{job}/..%2f{job}%2fcontent.png",
        "jobs/..%2f..%2fetc/content.png", f"jobs/{job}/steps/-1", f"jobs/%2e%2e/{job}",
    ):  # fmt: skip
        assert client.get(path).status_code == 404
    assert client.get(f"jobs/{job}/content.png").headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_nobody_else(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page.text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.text, re.DOTALL)[1])
    assert list(data["recipes"]) == ["default", "alexnet"]  # weights at hand
    paintings = "blossom hatching impasto mosaic points swirls watercolour woodcut"
    assert [style["name"] for style in data["styles"]] == paintings.split()
    assert data["models"] == [{"name": "both", "styles": ["a", "b"]}]


def test_a_preview_is_what_nstyle_apply_paints(client, photograph, network, pictures):
    form = {"model": "0", "mixture": "0.25,0.75"}
    answer = client.post("/preview", data=form, files={"photograph": photograph})
    picture = images.load(pictures / "content.png")
    painted = painted_picture(network, picture, np.array([0.25, 0.75], np.float32))
    assert answer.json()["picture"] == images.data_uri(painted, 48, 92)
    for changed, message in (
        ({"model": "1"}, "model: '1' is no number from 0 to 0"),
        ({"mixture": "1"}, "mixture: [1.0] is not a number from 0 on for each of 2 styles"),
        ({"mixture": "a,b"}, "mixture: not 2 numbers with commas between"),
        ({"mixture": "nan,1"}, "mixture: [nan, 1.0] is not"),
    ):
        answer = client.post("/preview", data=form | changed, files={"photograph": photograph})
        assert answer.status_code == 422
        assert message in answer.json()["error"]


def refused(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["nstyle-serve", *arguments])
    with pytest.raises(SystemExit) as exit_:
        serve.main()
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_serve_refuses_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    enlarging = Architecture(width=2, blocks=0, upscale=4)
    params = initial_params(enlarging, jax.random.key(0))
    models.write(tmp_path / "large", models.Model(enlarging, params, {}))
    for argument, message in (
        ("prot=1", "did you mean 'port'"),
        ("port=65536", "port: 65536 is out of range"),
        ("port=many", "port: Value 'many'"),
        ("max_size=8", "max_size: 8 is out of range (allowed: a number from 32 to 4096)"),
        ("waiting=-1", "waiting: -1 is out of range"),
        ("model", "model: there is no 'model'"),
        ("large", "model: large makes pictures larger"),
        ("out=file/below", "out: cannot write file/below"),
        ("host=203.0.113.9", "host: cannot listen on 203.0.113.9:8000"),
        ("host=a..b", "host: cannot listen on a..b:8000"),
    ):
        assert message in refused(monkeypatch, capsys, argument)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port: {port} is in use" in refused(monkeypatch, capsys, f"port={port}")
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert "pip install 'nstyle[serve]'" in refused(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("host", "allowed", "noted"),
    [
        ("localhost", ["127.0.0.1", "[::1]", "localhost"], False),
        ("0.0.0.0", ["*"], True),
    ],
)
def test_who_is_let_in_follows_from_the_host(monkeypatch, capsys, tmp_path, host, allowed, noted):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve_site, "site", lambda out, limits, named, hosts: hosts)
    served = []

    def stop_at_once(application, listening):
        served.append(application)
        listening.close()

    monkeypatch.setattr(serve_site, "serve", stop_at_once)
    monkeypatch.setattr(sys, "argv", ["nstyle-serve", f"host={host}", "port=0"])
    with pytest.raises(SystemExit) as exit_:
        serve.main()
    assert exit_.value.code == 130
    out, err = capsys.readouterr()
    assert re.fullmatch(r"http://[\w.:\[\]]+:\d+/\n", out)
    assert ("anybody who reaches" in err) == noted
    assert served == [allowed]


@pytest.fixture(scope="module")
def served(tmp_path_factory, network):
    """The address of a real server, and its folder; Ctrl-C ends it."""
    folder = tmp_path_factory.mktemp("served")
    models.write(folder / "both" / models.FILE, network)
    limits = ["max_size=48", "max_steps=400", "max_megabytes=1"]
    process = command(
        "both", "port=0", "out=out", *limits, folder=folder, module="nstyle.web.serve"
    )
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), process.communicate()
        yield address, folder / "out"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (130, "", "nstyle-serve: ended\n")


@pytest.fixture
def visitor(served, open_page, pictures):
    """Opens the page and chooses a photograph."""

    def come(**options):
        page = open_page(served[0], **options)
        page.set_default_timeout(60_000)
        page.set_input_files("#photograph", pictures / "content.png")
        return page

    return come


def begin(page, steps, recipe="alexnet", init="content"):
    page.get_by_label("Step by step").check(force=True)
    page.get_by_label("Recipe").select_option(recipe)
    page.get_by_label("Begin with").select_option(init)
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_role("button", name="Paint", exact=True).click()


@pytest.mark.slow
def test_two_visitors_have_their_runs_one_after_the_other(served, visitor, pictures):
    first, second = visitor(), visitor(color_scheme="dark", viewport={"width": 400, "height": 800})
    second.get_by_label("Step by step").check(force=True)
    second.get_by_role("radio", name="swirls").check(force=True)
    second.get_by_label("A painting of your own").set_input_files(pictures / "style.png")
    begin(first, 30)
    first.locator("#line", has_text="Preparing").wait_for()
    begin(second, 3)
    second.locator("#line", has_text="Waiting: one run before yours").wait_for()
    for page, steps in ((first, 30), (second, 3)):
        page.get_by_role("link", name="Download").wait_for()
        (job,) = page.url.partition("#")[2].split(",")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        made = served[1] / job
        assert Path(download.value.path()).read_bytes() == (made / "result.png").read_bytes()
        told = page.locator(".command code").inner_text()
        (result,) = made.glob("runs/*/result.json")
        assert json.loads(result.read_text())["steps"] == steps
        assert f" steps={steps} " in told
        said = page.locator("#below").inner_text()
        assert "This command makes the same picture again." in said
        assert "of the way to the painting" in said and "loss" not in said
        other = "Dark" if page == first else "Light"
        assert page.locator("#theme").inner_text() == other
        width = page.locator("#picture img:not(.over)").bounding_box()["width"]
        assert width <= 320  # of 48 pixels, not over the whole window
        shown = page.locator("#picture img:not(.over)[src$='result.png']")
        shown.wait_for()
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 48
        assert page.locator("#picture input[type=range]").count() == 1
    sent, kept = (images.load(file) for file in (pictures / "style.png", made / "style.png"))
    np.testing.assert_array_equal(kept, sent)
    assert second.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.slow
def test_a_run_is_watched_found_again_and_stopped(served, visitor):
    page = visitor()
    begin(page, 400, recipe="default", init="noise")  # it would converge after step 100
    page.locator(
        "#line", has_text=re.compile(r"Step \d+ of 400 · \d+ % of the photograph")
    ).wait_for()
    assert page.locator("progress").get_attribute("max") == "400"
    page.locator("#picture img:not(.over)[src*='/steps/']").wait_for()
    page.reload()
    page.locator("#line", has_text="Step").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator("#line", has_text="Stopped at step").wait_for()
    page.locator("#picture img:not(.over)[src$='result.png']").wait_for()
    job = page.url.partition("#")[2]
    (result,) = (served[1] / job).glob("runs/*/result.json")
    assert json.loads(result.read_text())["stop"] == "interrupted"
    assert (result.parent / "checkpoint").is_file()


@pytest.mark.slow
def test_a_preview_and_what_cannot_be_painted(served, visitor, tmp_path, pictures):
    page = visitor(expected=["status of 422"])
    assert ".jpg,.jpeg" in page.locator("#photograph").get_attribute("accept")
    page.get_by_label("b", exact=True).fill("0.5")
    page.get_by_role("button", name="Paint", exact=True).click()
    page.get_by_text(re.compile("Painted by both, 48 . 36 px.")).wait_for()
    assert page.locator("#picture img").count() == 2
    compared = page.locator("#picture img.over").get_attribute("src")
    page.set_input_files("#photograph", pictures / "style.png")
    page.get_by_role("button", name="Paint", exact=True).click()
    other = "compared => document.querySelector('#picture img.over').src !== compared"
    page.wait_for_function(other, arg=compared)
    page.set_input_files("#photograph", pictures / "content.png")
    before = sorted(served[1].rglob("*"))
    problem = page.get_by_role("alert")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "huge.png").write_bytes(bytes(1_100_000))
    for name, message in (
        ("text.png", "the photograph is not a picture that can be read"),
        ("huge.png", "The pictures have more than 1 MB."),
    ):
        page.set_input_files("#photograph", tmp_path / name)
        begin(page, 3)
        problem.get_by_text(message).wait_for()
    page.set_input_files("#photograph", pictures / "content.png")
    begin(page, 401)
    problem.get_by_text("steps: '401' is no number from 1 to 400").wait_for()
    assert sorted(served[1].rglob("*")) == before
    page.reload()
    page.get_by_role("button", name="Paint", exact=True).click()
    page.get_by_text("Choose a photograph first.").wait_for()


@pytest.mark.slow
def test_the_real_server_answers_an_upload_that_is_too_large(served):
    """By chunks, without a word of how many there will be."""
    host, port = served[0][7:-1].split(":")
    head = f"POST /jobs HTTP/1.1\r\nHost: {host}:{port}\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        for chunk in (PART, *[bytes(0x10000)] * 16):  # the last one is one too many
            connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        answer = b""
        while not answer.endswith(b"}") and (more := connection.recv(10_000)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'{"error":"upload: more than 1 MB"}')


def test_a_head_that_never_ends_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(serve_site, "_HEAD_SECONDS", 1.0)
    server = []

    def run(own, **how):
        server.append(own)
        asyncio.run(own.serve(**how))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    listening = socket.create_server(("127.0.0.1", 0))
    application = site(tmp_path / "out", LIMITS, [], ["127.0.0.1"])
    serving = threading.Thread(target=serve_site.serve, args=(application, listening))
    serving.start()
    try:
        with socket.create_connection(listening.getsockname(), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost:")
            assert connection.recv(1) == b""
    finally:
        server[0].should_exit = True
        serving.join()


def test_the_commands_of_one_family_are_also_words_of_nstyle(nstyle_here):
    for name in ("train", "apply", "serve"):
        status, out, _ = nstyle_here(name, "--help")
        assert (status, out.startswith(f"nstyle-{name}: ")) == (0, True)
    assert nstyle_here("report", "nowhere")[2].startswith(
        "nstyle-report: sweep: there is no folder"
    )
    status, _, err = nstyle_here("srve")
    assert (status, err) == (
        2, "nstyle: unknown command 'srve'; did you mean 'serve'? (all: nstyle --help)\n"
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.slow
def test_a_killed_server_leaves_no_run(tmp_path, pictures):
    """The run ends as if it had been asked to, and its work is kept."""
    program = f"""
import asyncio, os, pathlib, signal
from nstyle.web.jobs import start_nstyle
async def main():
    given = ["content={pictures}/content.png", "style={pictures}/style.png", "steps=100000"]
    small = ["size=32", "pyramid.levels=1", "tolerance=0", "scores=false", "out=a.png"]
    process = await start_nstyle([*given, *small], pathlib.Path("."))
    print(process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    server = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    with server:
        run = Path(f"/proc/{server.stdout.readline().strip()}")
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size > 2000 for path in tmp_path.glob("runs/*/trace.csv")):
            assert time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
            time.sleep(0.1)
        server.kill()
    while run.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (tmp_path / "a.png").is_file()
