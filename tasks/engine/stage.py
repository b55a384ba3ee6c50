"""`stage_task`: one decorator that gives a stage its cache, retries, time limit and JSON result."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints

from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from prefect.logging.loggers import task_run_logger
from prefect.tasks import exponential_backoff

from schemas.errors import DataRejected, SftFlowError, is_retryable, restored_interruption
from schemas.records.references import StageReference
from schemas.redaction import clean_errors
from tasks.engine.cache import Lookup, OutputFolder, generation, look_up, stage_lock
from tasks.engine.full_disk import name_full_disk
from tasks.engine.journal import StageEntry, append_duration, append_entry
from tasks.engine.keys import StageDefinition, stage_key
from tasks.engine.run_bar import show_stage

P = ParamSpec("P")
R = TypeVar("R", bound=StageReference)
T = TypeVar("T")

RETRIES = 3
BACKOFF_SECONDS = 2.0
"""First retry after about this long, then twice, then four times as long."""
REFRESH_PARAMETER = "refresh"
"""Flow parameter with the names of stages whose output does not count this time."""


class PlanReached(Exception):  # noqa: N818 - a stop sign, not a fault
    """Raised while planning at the first stage that would run."""


@dataclass
class Plan:
    """Look-ups made while a flow is planned without running it."""

    refresh: frozenset[str]
    lookups: list[Lookup] = field(default_factory=list)

    def visit(self, definition: StageDefinition, arguments: Mapping[str, Any]) -> StageReference:
        """Return the verified record of a call; raises PlanReached where the stage would run."""
        found = look_up(definition, stage_key(definition, arguments))
        if definition.name in self.refresh:
            found = Lookup(found.key, None, "refresh was asked for")
        self.lookups.append(found)
        if found.reference is None:
            raise PlanReached(definition.name)
        return found.reference


PLAN: ContextVar[Plan | None] = ContextVar("PLAN", default=None)
"""Set while planning: stages then answer from the cache instead of running."""


def look_ahead(run: Callable[[], object], refresh: Iterable[str] = ()) -> list[Lookup]:
    """Look up the stages of a flow without running one, up to the first that would run.

    Args:
        run: Calls the stages.
        refresh: Stages whose output does not count.

    Returns:
        What the cache contains for each; only the last may have no record.
    """
    plan = Plan(refresh=frozenset(refresh))
    token = PLAN.set(plan)
    try:
        run()
    except PlanReached:
        pass
    finally:
        PLAN.reset(token)
    return plan.lookups


@dataclass
class ContentKey(CachePolicy):
    """Prefect cache policy: the stage's content key, and only if its output is still complete."""

    definition: StageDefinition | None = None

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **_: Any,
    ) -> str | None:
        """Look the output up, log HIT or MISS and why, and return Prefect's key.

        It is a key with a stored result when the output is complete; otherwise one not used before.
        """
        if self.definition is None:
            return None
        try:
            key = stage_key(self.definition, inputs)
        except SftFlowError:
            return None  # the attempt meets the same error, where it is raised and retried or not
        found = look_up(self.definition, key)
        if found.reference and is_refreshed(key.stage):
            found = Lookup(key, None, "refresh was asked for")
        number = generation(key, is_renewed=found.reference is None)
        _announce(found, task_ctx.task_run)
        return f"{key.stage}-{key.digest}-{number}"


def _announce(found: Lookup, task_run: TaskRun) -> None:
    """Log HIT or MISS and keep it for `sft-flow status`."""
    outcome = "HIT" if found.reference else "MISS"
    detail = f"verified {found.n_files} files" if found.reference else found.reason
    task_run_logger(task_run).info("%-4s %s: %s", outcome, found.key.stage, detail)
    if task_run.flow_run_id:
        append_entry(
            str(task_run.flow_run_id),
            StageEntry(stage=found.key.stage, event=outcome, detail=detail),
        )


class StageTask(Task[P, R], Generic[P, R]):
    """A Prefect task with the definition of its stage, which a plan can look up."""

    definition: StageDefinition

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stage, or look it up while planning."""
        plan = PLAN.get()
        if plan is None:
            with show_stage(self.definition.name):
                return super().__call__(*args, **kwargs)
        bound = inspect.signature(self.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        return plan.visit(self.definition, bound.arguments)


def retried_task(function: Callable[P, T]) -> Callable[P, T]:
    """Make a task of what a run does each time: with the retries of a stage, and without a cache.

    Args:
        function: What to do. While a flow is planned, it is called as it is.

    Returns:
        The function with the same signature.
    """
    made: Task[P, T] = Task(
        restored_interruption()(function),
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(BACKOFF_SECONDS),
        retry_condition_fn=should_retry,
    )

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        run = function if PLAN.get() is not None else made
        return run(*args, **kwargs)

    return call


def stage_task(
    *,
    timeout_seconds: float,
    libraries: tuple[str, ...] = (),
    assets: tuple[Path, ...] = (),
    fingerprint: Callable[[Mapping[str, Any]], str] | None = None,
    verify: Callable[[Any], str] | None = None,
) -> Callable[[Callable[Concatenate[OutputFolder, P], R]], StageTask[P, R]]:
    """Make a stage of a function that fills an output folder and returns its record.

    The function's first parameter is the `OutputFolder`; callers pass the others, which together
    are everything the stage reads, so they are its cache key.

    Args:
        timeout_seconds: Longest time one attempt may take.
        libraries: Packages that shape the output and that no module of this product imports.
        assets: Files other than Python code that shape it.
        fingerprint: Returns the content outside the work directory that shapes it.
        verify: Checks on a hit what is outside the work directory.

    Returns:
        A decorator that makes the Prefect task.
    """

    def decorate(function: Callable[Concatenate[OutputFolder, P], R]) -> StageTask[P, R]:
        definition = StageDefinition(
            name=function.__name__,
            module=function.__module__,
            result_type=get_type_hints(function)["return"],
            libraries=libraries,
            assets=assets,
            fingerprint=fingerprint,
            verify=verify,
        )
        return _make_task(definition, function, timeout_seconds)

    return decorate


def _make_task(
    definition: StageDefinition,
    function: Callable[Concatenate[OutputFolder, P], R],
    timeout_seconds: float,
) -> StageTask[P, R]:
    """Make a task of the function, with the policy that every stage shares."""
    stage: StageTask[P, R] = StageTask(
        _attempt(definition, function),
        name=definition.name,
        description=inspect.getdoc(function),
        cache_policy=ContentKey(definition=definition),
        persist_result=True,
        result_serializer="json",
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(BACKOFF_SECONDS),
        retry_jitter_factor=0.2,
        retry_condition_fn=should_retry,
        timeout_seconds=timeout_seconds,
    )
    stage.definition = definition
    return stage


def _attempt(
    definition: StageDefinition, function: Callable[Concatenate[OutputFolder, P], R]
) -> Callable[P, R]:
    """Wrap the function with its output folder, and hide that folder from the signature."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]

    @functools.wraps(function)
    @restored_interruption()
    @clean_errors()
    def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = attempt.__signature__.bind(*args, **kwargs)  # type: ignore[attr-defined]
        bound.apply_defaults()
        key = stage_key(definition, bound.arguments)
        with stage_lock(key, _logger().info):
            present = look_up(definition, key).reference
            if isinstance(present, definition.result_type) and not is_refreshed(key.stage):
                _logger().info("HIT  %s: output is complete, its record was restored", key.stage)
                return present  # type: ignore[return-value]
            started = time.monotonic()
            output = OutputFolder(key)
            try:
                result = function(output, *args, **kwargs)
            except BaseException as error:
                named = name_full_disk(error)  # before space is freed
                output.abandon()
                if isinstance(error, DataRejected):
                    error.stage_key = key.folder
                if named and not isinstance(error, SftFlowError):
                    raise named from error
                raise
            _note_duration(key.stage, time.monotonic() - started)
            return result

    attempt.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return attempt


def _note_duration(stage: str, seconds: float) -> None:
    """Log how long a stage took, and keep it in the run's journal."""
    _logger().info("DONE %s in %.1f s", stage, seconds)
    context = TaskRunContext.get()
    if context and context.task_run.flow_run_id:
        append_duration(str(context.task_run.flow_run_id), stage, seconds)


def is_refreshed(stage: str) -> bool:
    """Return whether the flow's parameter `refresh` contains the stage."""
    context = FlowRunContext.get()
    return context is not None and stage in (context.parameters or {}).get(REFRESH_PARAMETER, ())


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    return get_run_logger()


def should_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether trying again can help: I/O and connections, never data or configuration."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_retryable(error)
