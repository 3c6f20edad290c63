"""The page of `nstyle-serve` as a Starlette application: previews in this process, runs in others.

Whoever has an id sees that run, and nobody can list them. Of what a visitor sends, numbers within
ranges, known names and pixels alone go any further: no text of a visitor's reaches a command or the
name of a file.
"""

import asyncio
import functools
import logging
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from nstyle import images
from nstyle.config import LARGEST_WEIGHT, compose, config_dir
from nstyle.errors import NstyleError, check_choice
from nstyle.feedforward.apply import mixture_of, painted_picture
from nstyle.feedforward.models import Model
from nstyle.feedforward.network import check_side
from nstyle.files import Json
from nstyle.images.pairs import paintings
from nstyle.images.sources import SUFFIXES
from nstyle.networks import weights
from nstyle.report.pages import as_json, filled
from nstyle.runs.planning import plan
from nstyle.web.jobs import Job, Jobs, QueueFullError, Settings, Stage, Start, start_nstyle

T = TypeVar("T")
N = TypeVar("N", int, float)

#: Seconds in which the head of a request has to come.
_HEAD_SECONDS = 20.0

#: Uploads that are read or worked on at the same time, and the seconds that one may take.
_UPLOADS, _UPLOAD_SECONDS = 8, 120

#: Of these, those from one address: a visitor with slow ones does not keep all others out.
_UPLOADS_EACH = 4

#: Connections at the same time; more are answered 503.
_CONNECTIONS = 200

#: Recipes of photograph and painting that a visitor may choose, where their weights are at hand.
RECIPES = ("default", "alexnet", "gatys2016", "gatys-code", "johnson-neural-style", "momo")

#: Where a visitor may let a run begin.
INITS = ("content", "noise")

#: Least long side of a run's result.
_LEAST_SIZE = 32

#: Long side of the small pictures of paintings, and the quality of a preview.
_THUMBNAIL, _PREVIEW_QUALITY = 192, 92

_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none';"
    " style-src 'unsafe-inline'; script-src 'unsafe-inline'; form-action 'none';"
    " frame-ancestors 'none'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Limits(NamedTuple):
    """What a visitor may ask for; see `serve.HELP`."""

    max_size: int
    max_steps: int
    max_megabytes: int
    waiting: int


def site(
    out: Path,
    limits: Limits,
    models: Sequence[tuple[str, Model]],
    hosts: Sequence[str],
    start: Start = start_nstyle,
) -> Starlette:
    """Returns the application.

    Args:
      out: the folder for runs.
      limits: what visitors may ask for.
      models: networks for the preview, with their names.
      hosts: by which names the server may be addressed; `*` for any.
      start: starts `nstyle` in a folder.
    """
    rooms = _Site(out, limits, models, start)
    return Starlette(
        routes=[
            Route("/", rooms.page),
            Route("/preview", rooms.preview, methods=["POST"]),
            Route("/jobs", rooms.submit, methods=["POST"]),
            Route("/jobs/{id}", rooms.look),
            Route("/jobs/{id}/cancel", rooms.cancel, methods=["POST"]),
            Route("/jobs/{id}/steps/{step:int}", rooms.step),
            Route("/jobs/{id}/{name}", rooms.picture),
        ],
        middleware=[
            # A page elsewhere whose name turns into this machine's address is refused by its name.
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(_OwnPagesOnly),
        ],
        exception_handlers=dict.fromkeys(
            (HTTPException, NstyleError, ClientDisconnect), rooms.refuse
        ),
        lifespan=rooms.lifespan,
        max_body_size=limits.max_megabytes * 10**6,
    )


def serve(application: Starlette, listening: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM, then ends the runs and returns."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # visitors' mistakes
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http=_Connection,
            loop="asyncio",  # uvloop forks in a way that JAX's threads do not survive
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
    )
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn's, when all is closed
        return


class _Connection(H11Protocol):
    """A connection that is closed where the head of a request takes longer than `_HEAD_SECONDS`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.loop.call_later(_HEAD_SECONDS, self._look, self.cycle)

    def _look(self, before: object) -> None:
        """Closes a connection that has waited for a head since the request `before`."""
        if self.conn.their_state is h11.IDLE and self.cycle is before:
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(_HEAD_SECONDS, self._look, self.cycle)


class _OwnPagesOnly:
    """Refuses what the page of another origin sends in a visitor's name."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._application
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and origin.partition("://")[2] != headers.get("host"):
                application = JSONResponse({"error": "a page of another site may not do this"}, 403)
        await application(scope, receive, send)


class _Site:
    """What the routes do."""

    def __init__(
        self, out: Path, limits: Limits, models: Sequence[tuple[str, Model]], start: Start
    ) -> None:
        self._limits, self._models = limits, models
        self._jobs = Jobs(out, limits.waiting, start)
        self._styles = paintings()
        self._recipes = _recipes()
        self._desk = ThreadPoolExecutor(1)  # pictures and previews, one at a time
        self._uploads: Counter[str] = Counter()  # by address
        self._page = filled(
            Path(__file__).with_name("serve_page.html"), data=as_json(self._offer())
        )

    def _offer(self) -> Json:
        """Returns what the page lets its visitors choose from."""
        return {
            "limits": self._limits._asdict() | {"least_size": _LEAST_SIZE},
            "suffixes": SUFFIXES,
            "recipes": self._recipes,
            "styles": [
                {"name": name, "uri": images.data_uri(images.load(path), _THUMBNAIL)}
                for name, path in self._styles.items()
            ],
            "models": [
                {"name": name, "styles": _style_names(model)} for name, model in self._models
            ],
        }

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Ends what runs when the server ends."""
        yield
        await self._jobs.close()
        self._desk.shutdown(wait=False, cancel_futures=True)

    async def page(self, _: Request) -> Response:
        """The page."""
        return HTMLResponse(self._page, headers=_HEADERS | {"Content-Security-Policy": _POLICY})

    async def preview(self, request: Request) -> Response:
        """A photograph painted by a network."""
        async with self._form(request) as form:
            index = _number(form, "model", 0, len(self._models) - 1)
            model = self._models[index][1]
            shares = _shares(form, model)
            photograph = _sent(form, "photograph")
            picture = await self._at_desk(self._painted, model, photograph, shares)
        return JSONResponse({"picture": picture})

    def _painted(self, model: Model, photograph: BinaryIO, shares: list[float]) -> str:
        longest = self._limits.max_size
        picture = images.received(photograph, "the photograph", longest)
        check_side("the photograph", picture.shape)
        painted = painted_picture(model, picture, mixture_of(model, shares))
        return images.data_uri(painted, longest, _PREVIEW_QUALITY)

    async def submit(self, request: Request) -> Response:
        """A run: checked as a whole, then put into the queue."""
        self._jobs.check_room()
        async with self._form(request) as form:
            settings = self._settings(form)
            pictures = _sent(form, "photograph"), self._style(form)
            folder = self._jobs.new_folder()
            try:
                stages = await self._at_desk(self._prepared, folder, pictures, settings)
                job = self._jobs.add(folder, settings, stages)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return JSONResponse(self._jobs.view(job), 201)

    def _settings(self, form: FormData) -> Settings:
        size, steps = self._limits.max_size, self._limits.max_steps
        return Settings(
            check_choice("recipe", _text(form, "recipe"), self._recipes),
            _number(form, "style_weight", 0.0, LARGEST_WEIGHT),
            _number(form, "size", _LEAST_SIZE, size),
            _number(form, "steps", 1, steps),
            check_choice("init", _text(form, "init"), INITS),
        )

    def _style(self, form: FormData) -> BinaryIO | Path:
        if isinstance(form.get("style"), UploadFile):
            return _sent(form, "style")
        return self._styles[check_choice("style", _text(form, "style"), self._styles)]

    def _prepared(
        self, folder: Path, pictures: tuple[BinaryIO, BinaryIO | Path], settings: Settings
    ) -> list[Stage]:
        """Writes the pictures of a run, checks all of it, and returns its sizes."""
        files = {name: folder / f"{name}.png" for name in ("content", "style")}
        names = ("the photograph", "the painting")
        for file, name, picture in zip(files.values(), names, pictures, strict=True):
            images.save(file, self._received(picture, name))
        planned = plan(compose(**files, **settings._asdict()))
        return [Stage(size.shape[0] * size.shape[1], size.steps + 1) for size in planned.sizes]

    def _received(self, picture: BinaryIO | Path, name: str) -> Any:
        if isinstance(picture, Path):
            with picture.open("rb") as file:
                return images.received(file, name, self._limits.max_size)
        return images.received(picture, name, self._limits.max_size)

    async def look(self, request: Request) -> Response:
        """How far a run is."""
        return JSONResponse(self._jobs.view(self._job(request)))

    async def cancel(self, request: Request) -> Response:
        """Ends a run."""
        job = self._job(request)
        self._jobs.cancel(job)
        return JSONResponse(self._jobs.view(job))

    async def step(self, request: Request) -> Response:
        """A picture on the way."""
        file = self._job(request).picture(request.path_params["step"])
        return _picture(file, "private, max-age=3600, immutable")

    async def picture(self, request: Request) -> Response:
        """What was sent, or the result."""
        name = request.path_params["name"]
        if name not in ("content.png", "style.png", "result.png"):
            raise HTTPException(404, "there is no such picture")
        return _picture(self._job(request).folder / name, "no-cache")

    def _job(self, request: Request) -> Job:
        job = self._jobs.find(request.path_params["id"])
        if job is None:
            raise HTTPException(404, "this run is not known here (is the server a new one?)")
        return job

    @asynccontextmanager
    async def _form(self, request: Request) -> AsyncIterator[FormData]:
        """What was sent, for as long as it is worked on."""
        address = request.client.host if request.client else ""
        if self._uploads.total() >= _UPLOADS or self._uploads[address] >= _UPLOADS_EACH:
            now = self._uploads.total()
            raise HTTPException(503, f"busy: {now} uploads are worked on; try again")
        self._uploads[address] += 1
        try:
            async with asyncio.timeout(_UPLOAD_SECONDS):
                form = await request.form(max_files=2, max_fields=8, max_part_size=1024)
            try:
                yield form
            finally:
                await form.close()
        except TimeoutError as error:
            raise HTTPException(408, "upload: it took too long") from error
        finally:
            self._uploads -= Counter([address])

    async def _at_desk(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._desk, work, *arguments)

    async def refuse(self, _: Request, error: Exception) -> Response:
        """What was wrong, in a line."""
        if isinstance(error, HTTPException):
            too_large = f"upload: more than {self._limits.max_megabytes} MB"
            line = too_large if error.status_code == 413 else error.detail
            return JSONResponse({"error": line}, error.status_code)
        return JSONResponse(
            {"error": str(error)}, 503 if isinstance(error, QueueFullError) else 422
        )


def _picture(file: Path | None, cache: str) -> Response:
    if file is None or not file.is_file():
        raise HTTPException(404, "this picture is not there")
    return FileResponse(file, headers=_HEADERS | {"Cache-Control": cache})


def _text(form: FormData, key: str) -> str:
    value = form.get(key)
    return value if isinstance(value, str) else ""


def _number(form: FormData, key: str, low: N, high: N) -> N:
    """Returns a number of the type of its limits."""
    text = _text(form, key)
    try:
        value = type(low)(text)
        if low <= value <= high:
            return value
    except ValueError:
        pass
    raise NstyleError(f"{key}: {text[:20]!r} is no number from {low} to {high}")


def _shares(form: FormData, model: Model) -> list[float]:
    """Returns the share of every style; `mixture_of` checks that there are as many as it needs."""
    try:
        return [float(share) for share in _text(form, "mixture").split(",")]
    except ValueError as error:
        raise NstyleError(
            f"mixture: not {model.architecture.styles} numbers with commas between"
        ) from error


def _sent(form: FormData, key: str) -> BinaryIO:
    upload = form.get(key)
    if not isinstance(upload, UploadFile):
        raise NstyleError(f"{key}: no picture given")
    return upload.file


def _style_names(model: Model) -> list[str]:
    """Returns the styles of a network by the names of their pictures, numbered where unknown."""
    known = [Path(style["file"]).stem for style in model.card.get("styles", ())]
    styles = model.architecture.styles
    return known if len(known) == styles else [f"style {i}" for i in range(1, styles + 1)]


@functools.cache
def _recipes() -> dict[str, Json]:
    """Returns what the recipes whose weights are at hand begin with."""
    composed = {name: compose(recipe=name) for name in RECIPES}
    return {
        name: {key: config[key] for key in ("style_weight", "steps", "init")}
        | {"about": _about(name)}
        for name, config in composed.items()
        if _at_hand(config)
    }


def _at_hand(config: Mapping[str, Any]) -> bool:
    source = weights.SOURCES[config["weights"], config["network"]]
    return source.url is None or weights.cached(source).is_file()


def _about(recipe: str) -> str:
    """Returns the comment at the head of a recipe's file."""
    lines = (config_dir() / "recipe" / f"{recipe}.yaml").read_text().splitlines()[1:]
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.removeprefix("# ") for line in lines[:end])
