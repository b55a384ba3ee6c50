from __future__ import annotations

import pytest

from tasks.engine.wording import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "about 5 s"), (300, "about 5 min"), (9000, "about 2.5 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
