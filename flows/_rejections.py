"""How a flow handles rejected data: notify, record, and end in state Rejected."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar, cast

from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from schemas.records.references import DatasetReference
from schemas.redaction import clean_errors
from tasks.engine.run_bar import forget_progress
from tasks.registry.rejections import Rejection, note_rejection
from tasks.report.announcements import announce_rejection, rejected_state

P = ParamSpec("P")
R = TypeVar("R")


def handles_rejection(run: Callable[P, R]) -> Callable[P, R]:
    """Make a flow end in state Rejected when the data gate rejects its data.

    The caller of the flow still gets the error, which Prefect raises from the state.

    Args:
        run: Function of the flow; has a parameter `config`.

    Returns:
        The function for `@flow`, with the same signature.
    """

    @functools.wraps(run)
    @clean_errors()
    def handled(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return run(*args, **kwargs)
        except DataRejected as error:
            bound = inspect.signature(run).bind(*args, **kwargs)
            bound.apply_defaults()
            config: RunConfig = bound.arguments["config"]
            announce_rejection(config, error)
            return cast(R, rejected_state(error))
        finally:
            forget_progress()

    # Otherwise Prefect would look up the names of annotations in this module.
    handled.__signature__ = inspect.signature(run, eval_str=True)  # type: ignore[attr-defined]
    return handled


@contextlib.contextmanager
def recorded_rejections(config: RunConfig, dataset: DatasetReference) -> Iterator[None]:
    """Record the data that is rejected inside the block, so that retrains reject it only once."""
    try:
        yield
    except DataRejected as error:
        rejection = Rejection(
            rows_sha256=dataset.sha256,
            stage_key=error.stage_key,
            n_rows=dataset.n_rows,
            reason=error.what,
            evidence=error.where,
        )
        note_rejection(config.registry.name, rejection)
        raise
