"""The rows of a trace: what a step says in numbers."""

from collections.abc import Mapping

import jax

from nstyle.files import Json
from nstyle.runs.job import Job
from nstyle.solvers import Step

#: Share of content in a loss below which the photograph hardly counts.
LEAST_CONTENT = 0.01


def row(step: Step, job: Job) -> dict[str, float | int]:
    """Returns a step as a row of a table.

    `loss`, `content`, `style` and `tv` are weighted, the last three sum to the first;
    `content/LAYER`, `style/LAYER` and `tv/raw` are the terms before their weights. `content_left`
    and `style_left` are the means of those over the layers, by their weights, where they have no
    unit (see `balance`). `size` is the picture's long side: losses of different sizes are of
    different problems, and `best_loss` is of this size.
    """
    content, style, tv = jax.tree.map(float, tuple(step.aux))
    stage = job.stages[step.stage]
    weights = jax.tree.map(float, stage.problem.weights)
    row: dict[str, float | int] = {
        "step": step.step,
        "size": max(stage.shape),
        "loss": step.value,
        "content": _dot(weights.content, content),
        "style": _dot(weights.style, style),
        "tv": weights.tv * tv,
        "best_loss": step.best_value,
        "gradient_norm": step.gradient_norm,
        "restarts": step.restarts,
    }
    if stage.problem.references:
        row |= _left("content", weights.content, content) | _left("style", weights.style, style)
    return row | {
        **{f"content/{layer}": term for layer, term in content.items()},
        **{f"style/{layer}": term for layer, term in style.items()},
        "tv/raw": tv,
    }


def weights_and_references(job: Job) -> Json:
    """Returns, for the record, what terms of the result's size are multiplied and divided by.

    Empty references stand for terms in the units of their losses.
    """
    problem = job.stages[-1].problem
    references = problem.references._asdict() if problem.references else {}
    found = {"weights": problem.weights._asdict(), "references": references}
    return jax.tree.map(float, found)


def content_share(row: Mapping[str, float | int]) -> float | None:
    """Returns the share of the content term in the loss of a row; None where it has none."""
    of_content = any(name.startswith("content/") for name in row)
    return row["content"] / row["loss"] if of_content and row["loss"] else None


def _left(name: str, weights: Mapping[str, float], terms: Mapping[str, float]) -> dict[str, float]:
    """Returns the mean of terms by their weights, or where all are zero by none; none of none."""
    if not terms:
        return {}
    counted = weights if any(weights.values()) else dict.fromkeys(terms, 1.0)
    return {f"{name}_left": _dot(counted, terms) / sum(counted.values())}


def _dot(weights: Mapping[str, float], terms: Mapping[str, float]) -> float:
    return sum(weights[layer] * term for layer, term in terms.items())
