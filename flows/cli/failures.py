"""Failures of a run on the terminal: one clear message, and no tracebacks before it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import SftFlowError

LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.engine")
FINISHED_BADLY = re.compile(r"Finished in state Failed\(.*?encountered an exception:? (\w+)")
REFUSED = "Finished in state Rejected("
"""The data gate rejected the rows: `flows/_rejections.py`."""
RETRY_MESSAGE = "Task run failed with %s: %r - Retry"
"""Beginning of Prefect's notice; its arguments: kind, error, retry, retries, when."""


class ShortFailures(logging.Filter):
    """Leaves failures to the command's last message.

    Prefect logs an error as a task's failure, as a flow's failure, and in the final state of
    either, so the message that shows how to fix it would come after pages of repetition.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop what repeats an `SftFlowError`; remove the traceback from everything else.

        Args:
            record: Changed in place: Prefect's handler for its server comes first, and
                therefore keeps the traceback for the server's pages.

        Returns:
            False to drop the record.
        """
        arguments = record.args if isinstance(record.args, tuple) else ()
        if str(record.msg).startswith(RETRY_MESSAGE):
            _, error, number, most, when = arguments
            reason = error.what if isinstance(error, SftFlowError) else repr(error)
            record.msg = "Retry %s/%s will start %s: %s"
            record.args = (number, most, re.sub(r"(\.\d)\d+", r"\1", str(when)), reason)
            return True
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if str(record.msg).startswith(REFUSED):
            return False
        finished = FINISHED_BADLY.search(str(record.msg))
        record.exc_info = record.exc_text = None
        if finished:
            return finished[1] not in _error_names()
        return not isinstance(error, SftFlowError)


def _error_names() -> set[str]:
    """Return every subclass of `SftFlowError`; a state contains its error only as text."""
    waiting, names = [SftFlowError], set()
    while waiting:
        kind = waiting.pop()
        names.add(kind.__name__)
        waiting.extend(kind.__subclasses__())
    return names


@contextmanager
def short_failures(*, is_wanted: bool = True) -> Iterator[None]:
    """Keep repetitions and tracebacks of failures from the terminal; all are shown for --debug."""
    from prefect.logging.handlers import APILogHandler

    found = {handler for name in LOGGERS for handler in logging.getLogger(name or None).handlers}
    handlers = [item for item in found if is_wanted and not isinstance(item, APILogHandler)]
    short = ShortFailures()
    for handler in handlers:
        handler.addFilter(short)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(short)
