from __future__ import annotations

import pytest

from tests.support.parts import LM_EVAL, Part, is_forbidden, summary

CHROME = Part("Chrome", "apt-get install chrome", is_there=False)
EXTRA = Part("extra", "optional: pip install extra", is_there=False)


def test_missing_part_skips_and_a_present_one_does_not() -> None:
    Part("Chrome", "", is_there=True).require()
    with pytest.raises(pytest.skip.Exception, match=r"needs Chrome \(apt-get install chrome\)"):
        CHROME.require()


@pytest.mark.parametrize(
    ("reason", "is_wrong"),
    [
        (CHROME.reason, True),
        (f"Skipped: {CHROME.reason}", True),
        (EXTRA.reason, False),
        (LM_EVAL.reason, False),
        ("root may read every file", False),
    ],
)
def test_ci_skips_only_for_optional_parts(reason: str, is_wrong: bool) -> None:
    assert is_forbidden(reason) is is_wrong


def test_summary_is_one_line_on_what_to_get() -> None:
    reasons = [f"Skipped: {CHROME.reason}", EXTRA.reason, f"Skipped: {CHROME.reason}"]
    assert summary([*reasons, "Skipped: root may read"]) == (
        "skipped: 2 need Chrome (apt-get install chrome); 1 need extra (pip install extra); "
        "1 root may read"
    )
    assert summary([]) == ""
