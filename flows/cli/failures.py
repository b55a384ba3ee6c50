"""What a run says of a failure on the terminal: one clear message, and no tracebacks before it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import SftFlowError

LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.engine")
FINISHED_BADLY = re.compile(r"Finished in state Failed\(.*?encountered an exception:? (\w+)")
REFUSED = "Finished in state Rejected("
"""The data gate said no: `flows/_rejections.py`."""
RETRY_MESSAGE = "Task run failed with %s: %r - Retry"
"""Beginning of Prefect 3.8's notice; its arguments: kind, error, retry, retries, when."""


class ShortFailures(logging.Filter):
    """Leaves failures to the command's last message.

    Prefect 3.8 logs an error as a task's failure, as a flow's failure, and in the final state of
    either, so the message that says how to mend it would stand under pages of repetition.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop what repeats an error of ours; take the traceback from everything else.

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
            return finished[1] not in _names_of_ours()
        return not isinstance(error, SftFlowError)


def _names_of_ours() -> set[str]:
    """Name the whole tree of errors; a state holds its error only as text."""
    waiting, names = [SftFlowError], set()
    while waiting:
        kind = waiting.pop()
        names.add(kind.__name__)
        waiting.extend(kind.__subclasses__())
    return names


@contextmanager
def short_failures(*, is_wanted: bool = True) -> Iterator[None]:
    """Keep repetitions and tracebacks of failures from the terminal while the block runs.

    Args:
        is_wanted: False changes nothing, for --debug.

    Yields:
        Nothing.
    """
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
