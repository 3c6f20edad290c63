"""A few commands end at the losses that they had; `regression.py` compares all, to the last bit.

The losses were written by `python tests/regression.py` on an AMD EPYC; other processors round
otherwise, which four steps do not make more than TOLERANCE of.
"""

import json
from pathlib import Path

import pytest
import regression

TOLERANCE = 1e-3
LOSSES = json.loads((Path(__file__).parent / "data" / "regression.json").read_text())


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_as_before(name):
    found = [loss for loss, _ in regression.ends(name)]
    assert found == pytest.approx(LOSSES[name], rel=TOLERANCE)
