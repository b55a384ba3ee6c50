"""How a flow keeps the work directory within its limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect.logging import get_run_logger

from schemas.config.run import RunConfig
from schemas.config.storage import StorageConfig
from tasks.engine.active_runs import active_run
from tasks.engine.stage import PLAN
from tasks.engine.wording import mebibytes
from tasks.storage.clean import clean

P = ParamSpec("P")
R = TypeVar("R")


def bounds_storage(run: Callable[P, R]) -> Callable[P, R]:
    """Let no other run remove what this flow uses, and remove at its end what is beyond the limits.

    Args:
        run: Function of the flow; has a parameter `config`.

    Returns:
        The function for `@flow`, with the same signature.
    """

    @functools.wraps(run)
    def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
        if PLAN.get():
            return run(*args, **kwargs)
        bound = inspect.signature(run).bind(*args, **kwargs)
        bound.apply_defaults()
        config: RunConfig = bound.arguments["config"]
        with active_run():  # until the end: what this run made or used is within every limit
            try:
                result = run(*args, **kwargs)
            except Exception:  # also of rejected data, but not where the process is to end
                apply_limits(config.storage)
                raise
            apply_limits(config.storage)
            return result

    # Otherwise Prefect would look up the names of annotations in this module.
    bounded.__signature__ = inspect.signature(run, eval_str=True)  # type: ignore[attr-defined]
    return bounded


def apply_limits(limits: StorageConfig) -> None:
    """Remove what is beyond the limits; a fault is a warning, since the run itself is done."""
    logger = get_run_logger()
    try:
        done = clean(limits)
    except Exception as error:
        logger.warning("old outputs were not removed: %s", error)
        return
    if done.removed:
        logger.info(
            "removed %d old or unfinished outputs and files, %s",
            len(done.removed),
            mebibytes(done.n_freed_bytes),
        )
