"""The command `nstyle-serve`: a page to try style transfer in a browser."""

import errno
import ipaddress
import os
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nstyle.config import parse_settings
from nstyle.errors import NstyleError
from nstyle.feedforward import models
from nstyle.files import user_path
from nstyle.process.command import run_command
from nstyle.runs.resources import keep_compiled

HELP = """\
nstyle-serve: a page to try style transfer in a browser

    nstyle-serve [MODEL...]

  MODEL      networks of nstyle-train, for a preview in seconds: folders, or their model.safetensors
  host=127.0.0.1 port=8000   where it listens; port=0 takes a free one
  out=outputs/serve          the runs, each in a folder of its own; they stay
  max_size=512               largest long side of a result, in pixels
  max_steps=500              most steps of a run
  max_megabytes=20           of photograph and painting together, as they are sent
  waiting=8                  runs that may wait while one is made
"""

#: Packages that this command needs beside those of nstyle.
_PACKAGES = ("starlette", "uvicorn", "python_multipart")


@dataclass
class ServeConfig:
    """The settings of `nstyle-serve`; see `HELP`."""

    host: str = "127.0.0.1"
    port: int = 8000
    out: str = "outputs/serve"
    max_size: int = 512
    max_steps: int = 500
    max_megabytes: int = 20
    waiting: int = 8


def main() -> None:
    """Runs `nstyle-serve` and exits: 2 wrong input, 130 ended by Ctrl-C."""
    run_command("nstyle-serve", _main)


def _main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    ranges = {
        "port": (0, 65535),
        "max_size": (32, 4096),
        "max_steps": (1, 100_000),
        "max_megabytes": (1, 1000),
        "waiting": (0, 1000),
    }
    paths, config = parse_settings(arguments, ServeConfig, ("out", "host"), ranges)
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise NstyleError(f"the package {missing[0]} is missing; pip install 'nstyle[serve]'")
    from nstyle.web.site import Limits, serve, site

    named = [(Path(path).resolve().name, models.read(path)) for path in paths]
    if larger := [name for name, model in named if model.architecture.upscale]:
        raise NstyleError(f"model: {larger[0]} makes pictures larger; this page is for painting")
    out = user_path("out", config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NstyleError(f"out: cannot write {out}: {error.strerror}") from error
    # Else this process would take most of a GPU's memory from the runs beside it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    keep_compiled()
    listening = _listening(config.host, config.port)
    address, port = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    reached = ipaddress.ip_address(address)
    if reached.is_loopback:
        hosts = ["127.0.0.1", "[::1]", "localhost"]
    else:
        hosts = ["*"] if reached.is_unspecified else [config.host, shown]
        note = f"nstyle-serve: note: anybody who reaches {shown}:{port} can use this page"
        print(note, file=sys.stderr)
    limits = Limits(config.max_size, config.max_steps, config.max_megabytes, config.waiting)
    application = site(out, limits, named, hosts)
    print(f"http://{shown}:{port}/", flush=True)
    serve(application, listening)
    raise KeyboardInterrupt("ended")


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
      NstyleError: the host is unknown or not of this machine, or the port is in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        in_use = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = getattr(error, "strerror", None) or str(error)
        raise NstyleError(
            f"port: {port} is in use; port=0 takes a free one"
            if in_use
            else f"host: cannot listen on {host}:{port}: {reason}"
        ) from error
