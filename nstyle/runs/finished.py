"""Runs that are there already: what may be taken from their folders, and their scores."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from nstyle import images
from nstyle.config import files, identifying, scores
from nstyle.files import Json
from nstyle.runs import store, stored
from nstyle.runs.code import code_of, code_version
from nstyle.runs.planning import Plan
from nstyle.runs.recording import Prepared, asked_files, tell
from nstyle.scores import described, score

#: Modules and packages that scores depend on, beside those that decide results.
_SCORING = frozenset({"scores"})


def folder_of(config: DictConfig, planned: Plan) -> Path:
    """Returns the folder of a run, named by the hash of all that decides its result."""
    identity = store.run_id(identifying(config), planned.digests, planned.records)
    named = [
        [Path(file).stem for file in files(config, key) if file] for key in ("content", "style")
    ]
    stems = ["_".join(own) for own in named if own]
    return store.run_folder(Path(config.runs_dir).expanduser(), stems, identity)


def done(config: DictConfig, folder: Path) -> bool:
    """Says whether all that the settings ask for is in a run's folder and may be reused."""
    with suppress(stored.DamagedError):
        result = _reusable(config, folder)
        return result is not None and _scored(config, folder, result)
    return False


def reusable_result(run: Prepared) -> Json | None:
    """Returns the result of a run that need not be made, else None; notes what is damaged."""
    try:
        return _reusable(run.config, run.folder)
    except stored.DamagedError as error:
        tell([f"{error}; the run is made again"])
        return None


def _reusable(config: DictConfig, folder: Path) -> Json | None:
    """Returns the result of a run that need not be made, its files checked; else None.

    Raises:
      DamagedError: it was made, and a file is not as it was written.
    """
    result = store.result(folder) if config.reuse else None
    if result is None:
        return None
    if result["run"] != store.identity(folder):
        raise stored.DamagedError(f"{folder / 'result.json'} is of another run")
    wanted = set(asked_files(config, result["steps"]))
    known = result["files"]
    stored.check(folder, {name: known[name] for name in known if name in wanted})
    return result if wanted <= known.keys() else None


def result_of(run: Prepared) -> np.ndarray:
    """Returns the result of a finished run, as deep as its settings ask for it."""
    if run.config.bits == 16:
        return images.load_deep(run.folder / store.DEEP)
    return images.load(run.folder / "result.png")


def has_scores(run: Prepared, result: Mapping[str, Any]) -> bool:
    """Says whether a run has all scores that it is to have; notes what is damaged."""
    try:
        return _scored(run.config, run.folder, result)
    except stored.DamagedError as error:
        tell([f"{error}; the picture is scored again"])
        return False


def _scored(config: DictConfig, folder: Path, result: Mapping[str, Any]) -> bool:
    if not config.scores:
        return True
    found = store.scores(folder, result)
    if found is None or found["code"] != _scoring_code(config):
        return False
    return scores(config).keys() <= found["scores"].keys()


def _scoring_code(config: DictConfig) -> list[str]:
    """Returns hashes of what the scores of a run depend on, a user's own among them."""
    return [code_version(_SCORING), *code_of(scores(config).values())]


def write_scores(run: Prepared, result: Mapping[str, Any]) -> dict[str, float | None]:
    """Writes how a result scores, and returns it."""
    found = scores_of(run.config, run.planned, images.load(run.folder / "result.png"))
    others = {"content": run.planned.content, "style": run.planned.styles}
    missing = [
        name
        for name, measure in scores(run.config).items()
        if found[name] is None and others[measure.against]
    ]
    if missing:
        tell([f"no {', '.join(missing)}: a picture is too small for it, or too large"])
    written = {
        "scores": found,
        "measures": described(scores(run.config)),
        "picture": result["files"]["result.png"],
        "code": _scoring_code(run.config),
    }
    stored.write_json(run.folder / "scores.json", "scores", written)
    return found


def scores_of(config: DictConfig, planned: Plan, image: np.ndarray) -> dict[str, float | None]:
    """Returns how a picture scores; to several style pictures, the mean of each score by shares.

    Args:
      config: settings of the run.
      planned: its plan.
      image: float32 (height, width, 3) in [0, 1].
    """
    content = None if planned.content is None else planned.content.array
    styles: list[np.ndarray | None] = [picture.array for picture in planned.styles]
    found = [score(image, content, style, scores(config)) for style in styles or [None]]
    shares = planned.style_shares or (1.0,)
    return {key: _mean([own[key] for own in found], shares) for key in found[0]}


def _mean(values: Sequence[float | None], shares: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(share * value for share, value in zip(shares, known, strict=True))
