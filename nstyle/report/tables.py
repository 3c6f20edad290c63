"""The table of a sweep: a row for each finished run."""

import pandas as pd

from nstyle.files import shown
from nstyle.report.sweeps import Sweep

#: What else a run ends with: column of the table, column of the trace, label.
LOSSES = {
    "loss": ("loss", "loss"),
    "loss_content": ("content", "content loss"),
    "loss_style": ("style", "style loss"),
    "loss_tv": ("tv", "total variation"),
    "content_left": ("content_left", "share of the photograph unexplained"),
    "style_left": ("style_left", "share of the style distance left"),
}


#: Those that papers' recipes and old runs do not have.
_OPTIONAL = ("content_left", "style_left")


def table(sweep: Sweep) -> pd.DataFrame:
    """Returns a row for each finished run.

    The columns are the parameters, as categories in their order; the scores; `loss` and its
    weighted parts at the best step, with `content_left` and `style_left` where there are such;
    `best_step`; the terms before their weights, such as
    `style/conv1_1`; and how the run went: stop, steps_done, seconds, compiles, folder, command.
    """
    rows = []
    for member in sweep.done:
        result = member.result or {}
        best = result["best"]
        raw = {name: value for name, value in best.items() if "/" in name}
        rows.append(
            member.settings
            | dict.fromkeys(sweep.measures)
            | member.scores
            | {name: best.get(term) for name, (term, _) in LOSSES.items()}
            | {"best_step": best["step"]}
            | raw
            | {
                "stop": result["stop"],
                "steps_done": result["steps"],
                "seconds": result.get("seconds"),
                "compiles": result.get("compiles"),
                "folder": shown(str(member.folder)),
                "command": shown(result.get("command", "")),
            }
        )
    frame = pd.DataFrame(rows)
    frame = frame.drop(columns=[name for name in _OPTIONAL if frame[name].isna().all()])
    last = ["stop", "steps_done", "seconds", "compiles", "folder", "command"]
    frame = frame[[name for name in frame if name not in last] + last]
    numbers = [name for name in frame if name not in (*sweep.parameters, "stop", *last[4:])]
    frame[numbers] = frame[numbers].apply(pd.to_numeric)
    for name, levels in sweep.parameters.items():
        frame[name] = pd.Categorical(frame[name], levels, ordered=False)
    return frame
