"""The demonstration behind `make demo`: a photograph of a cup of coffee, painted like a mosaic.

    python experiments/demo/demo.py [FOLDER]

The photograph comes with scikit-image, the painting from `paint_styles.py`. Runs one `nstyle`
command, which it prints, and lays photograph, painting and result side by side.
"""

import subprocess
import sys
from pathlib import Path

import skimage.data

from nstyle import images

STYLE = Path(__file__).parent / "styles" / "mosaic.jpg"


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
    photograph, result, sheet = (
        folder / name for name in ("photograph.png", "stylised.png", "sheet.png")
    )
    images.save(photograph, skimage.data.coffee() / 255)

    settings = [f"content={photograph}", f"style={STYLE}", f"out={result}", "size=400"]
    print("nstyle", *settings, f"runs_dir={folder}/runs", flush=True)
    program = Path(sys.executable).with_name("nstyle")
    subprocess.run([program, *settings, f"runs_dir={folder}/runs"], check=True)

    cells = [[images.load(path) for path in (photograph, STYLE, result)]]
    images.save(sheet, images.contact_sheet(cells, ["content", "style", "result"], cell=400))
    print(f"picture:  {result.resolve()}\nsheet:    {sheet.resolve()}")


if __name__ == "__main__":
    main()
