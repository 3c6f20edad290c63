"""Pages of one file: a template of this package, filled with data and with what all pages share."""

import json
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def filled(template: Path, **parts: str) -> str:
    """Returns a page whose every `{{part}}` is replaced.

    Args:
      template: its file.
      **parts: HTML, or JSON from `as_json`; `look` and `tools`, the style sheet and the functions
        that pages share, are there already.
    """
    known = parts | {
        "look": (_FOLDER / "page_look.css").read_text(),
        "tools": (_FOLDER / "page_tools.js").read_text(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: known[match[1]], template.read_text())


def as_json(content: Any) -> str:
    """Returns JSON that may stand in a `script` element, whatever its texts hold."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
