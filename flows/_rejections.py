"""What a flow does when the data gate refuses its rows: tell, note, and end as Rejected."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar, cast

from schemas.config.run import RunConfig
from schemas.errors import DataRejected
from schemas.records.references import DatasetReference
from tasks.engine.run_bar import forget_progress
from tasks.registry.lineage import settings_sha256
from tasks.registry.rejections import Rejection, note_rejection
from tasks.report.announcements import announce_rejection, rejected_state

P = ParamSpec("P")
R = TypeVar("R")


def tells_rejections(run: Callable[P, R]) -> Callable[P, R]:
    """Make a flow's function end in the state Rejected when the data gate refuses its rows.

    Prefect turns the state into the flow's result: where the flow was called, the error is raised.

    Args:
        run: The function; it takes a `config`.

    Returns:
        The function for `@flow`, with the same signature.
    """

    @functools.wraps(run)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
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

    # Prefect would look the names of annotations up in this module.
    told.__signature__ = inspect.signature(run, eval_str=True)  # type: ignore[attr-defined]
    return told


@contextlib.contextmanager
def noted_rejections(config: RunConfig, dataset: DatasetReference) -> Iterator[None]:
    """Note the rows that the data gate refuses in the block, so that a retrain refuses them once.

    Args:
        config: The resolved configuration.
        dataset: The rows.

    Yields:
        Nothing.

    Raises:
        DataRejected: As the block raised it.
    """
    try:
        yield
    except DataRejected as error:
        rejection = Rejection(
            rows_sha256=dataset.sha256,
            settings_sha256=settings_sha256(config),
            n_rows=dataset.n_rows,
            reason=error.what,
            evidence=error.where,
        )
        note_rejection(config.registry.name, rejection)
        raise
