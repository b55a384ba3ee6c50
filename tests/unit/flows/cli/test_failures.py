from __future__ import annotations

import logging

import pytest

from flows.cli.failures import ShortFailures
from schemas.errors import DataRejected


def shown(message: str, *arguments: object, error: Exception | None = None) -> str | None:
    """Pass a record through the filter and format what is left of it."""
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("prefect", logging.ERROR, "x.py", 1, message, arguments, info)
    return logging.Formatter().format(record) if ShortFailures().filter(record) else None


OURS = DataRejected("3 rows broke a rule", fix="correct them")


@pytest.mark.parametrize(
    "text",
    [
        f"Task run encountered an exception DataRejected: {OURS}",
        f"Flow run encountered an exception: DataRejected: {OURS}",
    ],
)
def test_run_log_drops_the_final_state_that_repeats_an_error_of_ours(text: str) -> None:
    assert shown(f"Finished in state Failed({text!r})") is None


def test_run_log_drops_the_final_state_of_refused_rows() -> None:
    assert shown("Finished in state Rejected('3 rows broke a rule')") is None


def test_run_log_drops_errors_of_ours_and_keeps_others_without_traceback() -> None:
    message = "Encountered exception during execution: %r"
    assert shown(message, OURS, error=OURS) is None
    odd = RuntimeError("odd")
    assert shown(message, odd, error=odd) == f"{message[:-2]}RuntimeError('odd')"


@pytest.mark.parametrize(
    "text",
    [
        "Finished in state Completed()",
        "Finished in state Failed('Task run encountered an exception KeyError: 1')",
    ],
)
def test_run_log_keeps_other_final_states(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OURS, "3 rows broke a rule"), (OSError("a\nb"), "OSError('a\\nb')")],
)
def test_run_log_says_a_retry_in_one_line(error: Exception, reason: str) -> None:
    message = "Task run failed with %s: %r - Retry %s/%s will start %s"
    when = "1.8234 second(s) from now"
    assert shown(message, "exception", error, 1, 3, when) == (
        f"Retry 1/3 will start 1.8 second(s) from now: {reason}"
    )
