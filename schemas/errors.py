"""One tree of errors, each saying what happened, where, what was expected and how to mend it."""

from __future__ import annotations

from typing import Any, ClassVar


class SftFlowError(Exception):
    """Root of every error the product raises on purpose.

    `exit_code` is what the command line returns (0 done, 1 a gate said no, 2 usage,
    configuration or unreadable input, 3 the run failed); `is_retryable` tells the task
    runner whether trying again can help.
    """

    exit_code: ClassVar[int] = 3
    is_retryable: ClassVar[bool] = False

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", got: str = "", fix: str = ""
    ) -> None:
        """Keep the parts apart, so that a page or a log can lay them out.

        Args:
            what: One sentence that names the problem.
            where: File and line, configuration key or address.
            expected: What would have been right.
            got: What was found instead.
            fix: The next thing to do.
        """
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with every part, since tasks may run in other processes."""
        parts = {"where": self.where, "expected": self.expected, "got": self.got, "fix": self.fix}
        return (_rebuild, (type(self), self.what, parts))

    def __str__(self) -> str:
        """Lay the parts out, one a line, in the order a reader needs them."""
        lines = [f"{type(self).__name__}: {self.what}"]
        if self.where:
            lines.append(f"  Where: {self.where}")
        if self.expected or self.got:
            lines.append(f"  Expected: {self.expected or '-'}   Got: {self.got or '-'}")
        if self.fix:
            lines.append(f"  Fix: {self.fix}")
        return "\n".join(lines)


def _rebuild(kind: type[SftFlowError], what: str, parts: dict[str, str]) -> SftFlowError:
    return kind(what, **parts)


class ConfigError(SftFlowError, ValueError):
    """The configuration cannot be read or breaks a constraint."""

    exit_code = 2


class DataSourceError(SftFlowError, ValueError):
    """The named data is missing, empty or unreadable."""

    exit_code = 2


class ModelSourceError(SftFlowError, ValueError):
    """The named model is unknown, incomplete or unsafe to load."""

    exit_code = 2


class TemplateError(SftFlowError, ValueError):
    """A chat template breaks the contract between training and inference."""

    exit_code = 2


class WorkDirectoryError(SftFlowError, OSError):
    """The work directory cannot be written or has no space left."""

    exit_code = 2


class DataRejected(SftFlowError, ValueError):  # noqa: N818 - a verdict, named as users see it
    """The data gate said no."""

    exit_code = 1


class ServiceUnreachable(SftFlowError, ConnectionError):  # noqa: N818
    """A hub, registry or server did not answer; trying again may help."""

    is_retryable = True


class TrainingError(SftFlowError, RuntimeError):
    """The training process failed or trained nothing."""


class TrainingInterrupted(SftFlowError, RuntimeError):  # noqa: N818
    """Training was stopped by a signal after saving a checkpoint."""


class TrainingKilled(TrainingError):  # noqa: N818
    """The training process was killed; trying again goes on from the last checkpoint."""

    is_retryable = True


class LossNotFinite(TrainingError):  # noqa: N818 - the names below say what was seen
    """The loss became NaN or infinite."""


class GradientNotFinite(TrainingError):  # noqa: N818
    """The gradient became NaN or infinite."""


class LossIsZero(TrainingError):  # noqa: N818
    """The loss is exactly 0: nothing is being learned from."""


class NoLabels(TrainingError):  # noqa: N818
    """A batch has no token to train on."""


class NothingTrainable(TrainingError):  # noqa: N818
    """No parameter of the model is trained."""


class GradientIsZero(TrainingError):  # noqa: N818
    """The first step's gradient is exactly 0."""


class NothingLearned(TrainingError):  # noqa: N818
    """The loss did not fall from the beginning to the end."""


class LossSpike(TrainingError):  # noqa: N818
    """The loss stayed far above what it had been."""


class WeightsNotFinite(TrainingError):  # noqa: N818
    """A weight became NaN or infinite; it was not saved."""


class TrainingContractBroken(TrainingError, ValueError):  # noqa: N818
    """The tokenised rows do not train what the model will be asked."""


class MemoryExhausted(TrainingError, MemoryError):  # noqa: N818
    """The training does not fit into memory."""


class CheckpointBroken(TrainingError):  # noqa: N818
    """A checkpoint cannot be read or does not belong to this training."""


class MetricError(SftFlowError, ValueError):
    """A metric of the user's cannot be imported, raised, or gave something other than a number."""

    exit_code = 2


class RegistryError(SftFlowError, ValueError):
    """The registry has no such name, version or alias, or the version must not be promoted."""

    exit_code = 2


class PromotionRefused(SftFlowError):  # noqa: N818 - a verdict, named as users see it
    """The gates refused the version, or never saw it, and nobody insisted."""

    exit_code = 1


class ReloadMismatch(SftFlowError):  # noqa: N818 - says what happened
    """What the registry gives back is not the model that was judged."""


class ReloadInterrupted(SftFlowError):  # noqa: N818 - says what happened
    """The reload check ended without a result, which says nothing of the model."""

    is_retryable = True


class ChampionChanged(SftFlowError):  # noqa: N818 - says what happened
    """Another promotion came first: the decision was made against a former champion."""


class AliasesUnsettled(SftFlowError):  # noqa: N818 - says what happened
    """A promotion failed half-way, and its aliases could not be put back yet."""

    is_retryable = True


class RegistryBusy(SftFlowError):  # noqa: N818 - says what happened
    """Another process is moving the aliases of this name and does not finish."""

    is_retryable = True


def is_retryable(error: BaseException) -> bool:
    """Tell whether trying the same thing again can help.

    Args:
        error: What a stage raised.

    Returns:
        True for I/O, connection and time-out faults; False for bad data, configuration and
        every other fault, which would only repeat itself.
    """
    if isinstance(error, SftFlowError):
        return error.is_retryable
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError)):
        return False
    return isinstance(error, (OSError, TimeoutError, EOFError))
