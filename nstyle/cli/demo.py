"""The command `nstyle demo`: a photograph of a cup of coffee, painted like a mosaic.

The photograph comes with scikit-image, the painting with nstyle. Runs one `nstyle` command, which
it prints, and lays photograph, painting and result side by side.
"""

import subprocess
import sys
from pathlib import Path

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.files import user_path
from nstyle.images.pairs import standard
from nstyle.process.command import LineParser, run_command


def main() -> None:
    """Runs `nstyle demo` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle demo", _main)


def _main(arguments: list[str]) -> None:
    parser = LineParser("nstyle demo", description="Makes a first picture of what comes with it.")
    parser.add_argument("folder", nargs="?", default="demo-output", type=Path, help="where it goes")
    parser.add_argument("settings", nargs="*", help="others than the demonstration's, as size=256")
    options = parser.parse_intermixed_args(arguments)
    folder = user_path("folder", options.folder)
    names = ("photograph.png", "stylised.png", "sheet.png")
    photograph, result, sheet = (folder / name for name in names)
    coffee = (pair for pair in standard() if Path(pair.content).stem == "coffee")
    pair = next(pair for pair in coffee if Path(pair.style).stem == "mosaic")
    images.save(photograph, images.load(pair.content))

    given = [f"content={photograph}", f"style={pair.style}", f"out={result}"]
    settings = [*given, f"runs_dir={folder / 'runs'}", *(options.settings or ["size=400"])]
    print("nstyle", *settings, flush=True)
    ended = subprocess.run([sys.executable, "-m", "nstyle", *settings], check=False).returncode
    if ended == 130:
        raise KeyboardInterrupt("interrupted; the same command goes on")
    if ended:
        raise NstyleError("the run above failed")

    cells = [[images.load(path) for path in (photograph, pair.style, result)]]
    images.save(sheet, images.contact_sheet(cells, ["content", "style", "result"], cell=400))
    print(f"picture:  {result.resolve()}\nsheet:    {sheet.resolve()}")
