"""The benchmark of promotions fails where a wrong model is promoted."""

from __future__ import annotations

import pytest

from benchmarks.measure_promotion import find_fault


@pytest.mark.parametrize(
    ("better", "worse", "fault"),
    [
        (True, False, ""),
        (False, False, "the better model was not promoted: why"),
        (True, True, "the worse model was promoted: how"),
        (
            False,
            True,
            "the better model was not promoted: why; the worse model was promoted: how",
        ),
    ],
)
def test_wrong_decisions_are_faults(better: bool, worse: bool, fault: str) -> None:
    found = {
        "better": {"is_champion": better, "reason": "why"},
        "worse": {"is_champion": worse, "reason": "how"},
    }
    assert find_fault(found) == fault
