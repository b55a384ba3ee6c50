"""Log records of every logger are clean before a handler sees them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.errors import ServiceUnreachable
from tasks.engine.clean_logs import install_clean_logs

CANARY = "canary-hunter2"
ADDRESS = f"http://ada:{CANARY}@mlflow:5000"


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    install_clean_logs()
    yield
    logging.setLogRecordFactory(before)


def test_message_and_its_parts_are_clean(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a-library")  # a name that no configuration of another test disabled
    logger.warning(f"Retrying {ADDRESS}")
    logger.warning("Retrying %s: %r", ADDRESS, OSError(f"no answer of {ADDRESS}"))
    logger.warning('%s "%s %s HTTP/1.1"', "http://host:80", "GET", f"/rows?sig={CANARY}")
    logger.warning("nothing to hide: %d of %s", 3, "100 %")
    assert CANARY not in caplog.text
    assert caplog.messages == [
        "Retrying http://mlflow:5000",
        "Retrying http://mlflow:5000: OSError('no answer of http://mlflow:5000')",
        'http://host:80 "GET /rows HTTP/1.1"',
        "nothing to hide: 3 of 100 %",
    ]


def test_traceback_is_clean(caplog: pytest.LogCaptureFixture) -> None:
    try:
        try:
            raise OSError(f"no answer of {ADDRESS}")
        except OSError as error:
            raise ServiceUnreachable("not reached", got=str(error)) from error
    except ServiceUnreachable:
        logging.getLogger("a-library").exception("Task run failed")
    assert CANARY not in caplog.text
    assert "no answer of http://mlflow:5000" in caplog.text


def test_message_has_no_escape_code(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("a-library").warning(
        "reads %s: %r", "\x1b[2Ja.jsonl", OSError("\x1b]0;x\x07")
    )
    assert "\x1b" not in caplog.text
    assert "\\u001b[2Ja.jsonl" in caplog.text


class Other(logging.LogRecord):
    """A record of another program."""


def test_record_factory_of_another_program_is_wrapped_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.setLogRecordFactory(Other)
    install_clean_logs()
    installed = logging.getLogRecordFactory()
    install_clean_logs()
    assert logging.getLogRecordFactory() is installed
    logging.getLogger("other").warning("Retrying %s", ADDRESS)
    assert isinstance(caplog.records[0], Other)
    assert caplog.messages == ["Retrying http://mlflow:5000"]


def test_factory_that_wraps_ours_stays() -> None:
    ours = logging.getLogRecordFactory()

    def outer(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return ours(*args, **kwargs)

    logging.setLogRecordFactory(outer)
    install_clean_logs()
    assert logging.getLogRecordFactory() is outer
