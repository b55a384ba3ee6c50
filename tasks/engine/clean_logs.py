"""Log records without secrets, of every logger of the process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from schemas.redaction import cleanse, redact

TRIAL, CLEAN = "http://user@host", "http://host"
"""Message that shows whether a factory is clean, and how a clean one gives it."""
RecordFactory = Callable[..., logging.LogRecord]


def clean_factory(make_record: RecordFactory) -> RecordFactory:
    """Wrap a factory of log records, so that message and errors of each record have no secrets.

    A filter would have to be on every handler, and Prefect and MLflow replace theirs; a record is
    made once, before any handler.
    """

    def make_clean_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        _clean(record)
        return record

    return make_clean_record


def install_clean_logs() -> None:
    """Make every later log record of this process a clean one, of whatever factory."""
    factory = logging.getLogRecordFactory()
    trial = factory("", logging.DEBUG, "", 0, TRIAL, (), None)
    if trial.getMessage() != CLEAN:  # else it is there, perhaps within another factory
        logging.setLogRecordFactory(clean_factory(factory))


def _clean(record: logging.LogRecord) -> None:
    errors = [one for one in record.args or () if isinstance(one, BaseException)]
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        errors.append(record.exc_info[1])
    for error in errors:
        cleanse(error)
    with contextlib.suppress(Exception):  # the handler reports a message that has no such form
        message = record.getMessage()
        if (clean := redact(message)) != message:
            record.msg, record.args = clean, None
