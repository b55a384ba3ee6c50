"""One tree of errors; each reports what happened, where, what was expected and how to fix it."""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from schemas.redaction import redact

FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
FULL_TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|database or disk is full"
    r"|inline_container.*unexpected pos|PytorchStreamWriter failed writing"
)
"""Messages of libraries without an error number: safetensors, polars, SQLite; torch names no cause."""


class SftFlowError(Exception):
    """Root of every error that the product raises on purpose.

    `exit_code` is returned by the command line (0 done, 1 refused by a gate, 2 usage,
    configuration or unreadable input, 3 the run failed); `is_retryable` means that trying again
    can help.
    """

    exit_code: ClassVar[int] = 3
    is_retryable: ClassVar[bool] = False

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", got: str = "", fix: str = ""
    ) -> None:
        """Keep the parts separate, so that a page or a log can format them, and without secrets.

        Args:
            what: One sentence that names the problem.
            where: File and line, configuration key or address.
            expected: What is correct.
            got: What was found instead.
            fix: The next thing to do.
        """
        super().__init__(redact(what))
        self.what = redact(what)
        self.where = redact(where)
        self.expected = redact(expected)
        self.got = redact(got)
        self.fix = redact(fix)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle every part, since tasks may run in other processes."""
        parts = {"where": self.where, "expected": self.expected, "got": self.got, "fix": self.fix}
        return (functools.partial(type(self), **parts), (self.what,))

    def __str__(self) -> str:
        """Write one part per line, in the order a reader needs them."""
        lines = [f"{type(self).__name__}: {self.what}"]
        if self.where:
            lines.append(f"  Where: {self.where}")
        if self.expected or self.got:
            lines.append(f"  Expected: {self.expected or '-'}   Got: {self.got or '-'}")
        if self.fix:
            lines.append(f"  Fix: {self.fix}")
        return "\n".join(lines)


class ConfigError(SftFlowError, ValueError):
    """The configuration cannot be read or breaks a constraint."""

    exit_code = 2


class MissingExtra(SftFlowError, ImportError):  # noqa: N818 - as pip names it
    """A package of an extra of sft-flow is not installed."""

    exit_code = 2

    def __str__(self) -> str:
        """Write one line: what needs it, and the command that installs it."""
        return f"Error: {self.what}: {self.fix}"


class DataSourceError(SftFlowError, ValueError):
    """The data are missing, empty or unreadable."""

    exit_code = 2


class ModelSourceError(SftFlowError, ValueError):
    """The model is unknown, incomplete or unsafe to load."""

    exit_code = 2


class TemplateError(SftFlowError, ValueError):
    """A chat template breaks the contract between training and inference."""

    exit_code = 2


class WorkDirectoryError(SftFlowError, OSError):
    """The work directory is not writable or the disk is full."""

    exit_code = 2


class DataRejected(SftFlowError, ValueError):  # noqa: N818 - named as users see it
    """The data gate rejected the data."""

    exit_code = 1
    stage_key = ""
    """Of the stage that rejected it: everything that led to this. Set where the stage fails."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the key of the stage too."""
        return (*super().__reduce__(), {"stage_key": self.stage_key} if self.stage_key else None)


class ServiceUnreachable(SftFlowError, ConnectionError):  # noqa: N818
    """A hub, registry or server did not answer; trying again may help."""

    is_retryable = True


class TrainingError(SftFlowError, RuntimeError):
    """The training process failed or trained nothing."""


class TrainingInterrupted(SftFlowError, RuntimeError):  # noqa: N818
    """Training was stopped by a signal after saving a checkpoint."""


class TrainingKilled(TrainingError):  # noqa: N818
    """The training process was killed; a retry resumes from the last checkpoint."""

    is_retryable = True


class LossNotFinite(TrainingError):  # noqa: N818 - named by what happened, as those below
    """The loss became NaN or infinite."""


class GradientNotFinite(TrainingError):  # noqa: N818
    """The gradient became NaN or infinite."""


class LossIsZero(TrainingError):  # noqa: N818
    """The loss is exactly 0, so nothing is learned."""


class NoLabels(TrainingError):  # noqa: N818
    """A batch has no token to train on."""


class NothingTrainable(TrainingError):  # noqa: N818
    """The model has no trainable parameter."""


class GradientIsZero(TrainingError):  # noqa: N818
    """The gradient of the first step is exactly 0."""


class NothingLearned(TrainingError):  # noqa: N818
    """The loss did not decrease over the training."""


class LossSpike(TrainingError):  # noqa: N818
    """The loss stayed far above its recent median."""


class WeightsNotFinite(TrainingError):  # noqa: N818
    """A weight became NaN or infinite; it was not saved."""


class TrainingContractBroken(TrainingError, ValueError):  # noqa: N818
    """The tokenised rows do not train what the model is asked later."""


class MemoryExhausted(TrainingError, MemoryError):  # noqa: N818
    """The training does not fit into memory."""


class CheckpointBroken(TrainingError):  # noqa: N818
    """A checkpoint cannot be read or does not belong to this training."""


class MetricError(SftFlowError, ValueError):
    """A custom metric cannot be imported, raised an error, or did not return a number."""

    exit_code = 2


class RegistryError(SftFlowError, ValueError):
    """The registry has no such name, version or alias, or the version cannot be promoted."""

    exit_code = 2


class RegistryForbidden(SftFlowError, PermissionError):  # noqa: N818
    """The MLflow server or its artifact store does not let this user write or read."""

    exit_code = 2


class PromotionRefused(SftFlowError):  # noqa: N818 - named as users see it
    """The gates refused the version or never evaluated it, and the promotion was not forced."""

    exit_code = 1


class ReloadMismatch(SftFlowError):  # noqa: N818
    """The model that the registry returns is not the model that was evaluated."""


class ReloadInterrupted(SftFlowError):  # noqa: N818
    """The reload check ended without a result."""

    is_retryable = True


class ChampionChanged(SftFlowError):  # noqa: N818
    """Another promotion came first, so the decision compared with a previous champion."""


class AliasesUnsettled(SftFlowError):  # noqa: N818
    """A promotion failed half-way and its aliases are not restored yet."""

    is_retryable = True


class RegistryBusy(SftFlowError):  # noqa: N818
    """Another process is moving the aliases of this name and does not finish."""

    is_retryable = True


def is_retryable(error: BaseException) -> bool:
    """Return True for I/O, connection and time-out errors, which a retry may not meet again."""
    if interruption_of(error):
        return False
    if isinstance(error, SftFlowError):
        return error.is_retryable
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError)):
        return False
    if is_disk_full(error):
        return False
    return isinstance(error, (OSError, TimeoutError, EOFError))


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, says that a disk or quota is full."""
    return any(
        getattr(link, "errno", None) in FULL_NUMBERS or FULL_TEXT.search(str(link))
        for link in _chain(error)
    )


def interruption_of(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the Ctrl-C or SIGTERM that led to an error.

    Libraries raise an error of their own where one meets them, for instance in a database call.
    """
    return next((link for link in _chain(error) if isinstance(link, KeyboardInterrupt)), None)


@contextmanager
def restored_interruption() -> Iterator[None]:
    """Raise the Ctrl-C or SIGTERM where it ended the block, or the decorated function, as an error.

    A TrainingInterrupted stays as it is: it says where the training goes on.
    """
    try:
        yield
    except Exception as error:
        interruption = interruption_of(error)
        if interruption is None or isinstance(error, TrainingInterrupted):
            raise
        raise type(interruption)(*interruption.args) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it, as a traceback prints them."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
