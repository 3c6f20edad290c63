"""The one exception that users meet, and what goes with it."""

import difflib
from collections.abc import Iterable


class NstyleError(Exception):
    """A mistake in the input, told in one line: the value, what is allowed, the nearest match.

    The command line prints the message and exits with status 2.
    """

    def __str__(self) -> str:
        return super().__str__().replace("\n", "\\n")  # names of files may have some


def nearest(value: str, allowed: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the allowed word nearest to `value`, or `""`."""
    matches = difflib.get_close_matches(value, list(allowed), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def check_choice(kind: str, value: str, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of `allowed`.

    Raises:
      NstyleError: it is not; the line lists all that is allowed.
    """
    allowed = list(allowed)
    if value not in allowed:
        raise NstyleError(
            f"{kind}: unknown value {value!r}{nearest(str(value), allowed)}"
            f" (allowed: {', '.join(allowed)})"
        )
    return value
