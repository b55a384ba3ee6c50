"""`SweepConfig`: which settings of the training a sweep varies, and within which bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.config._errors import all_keys, explain, nearest_key, section_keys
from schemas.config.run import RunConfig
from schemas.config.training import Method, TrainingConfig
from schemas.errors import ConfigError

SECTION = "training."
NOT_SEARCHED = frozenset(
    {
        "accelerate_config",
        "device",
        "distribution",
        "early_stopping",
        "eval_steps",
        "gradient_checkpointing",
        "guards",
        "logging_steps",
        "lr_scheduler_kwargs",
        "processes",
        "save_steps",
        "save_total_limit",
        "torch_compile",
    }
)
"""Settings and sections that say how a training runs or is watched, not what it learns."""
RANGE = re.compile(r"\s*([-+.\deE]+?)\s*\.\.\s*([-+.\deE]+?)\s*(:\s*log)?\s*")
FORMS = "low..high, low..high:log or a list such as [8, 16, 32]"

Scalar = bool | int | float | str | None


class Range(BaseModel):
    """Every value between two bounds, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float
    """Smallest value."""
    high: int | float
    """Largest value."""
    is_log: bool = False
    """Draw evenly over the logarithm, for values that matter by their order of magnitude."""

    @property
    def is_whole(self) -> bool:
        """Tell whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """Give the values that must be possible for every other to be."""
        return (self.low, self.high)


class OneOf(BaseModel):
    """One of some values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: tuple[Scalar, ...] = Field(min_length=2)
    """The values, each once."""

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """Give the values that must be possible for every other to be."""
        return self.choices


Dimension = Range | OneOf


class SweepConfig(BaseModel):
    """What a sweep tries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: dict[str, Dimension] = Field(min_length=1)
    """Key of the training section, without `training.`, to the values it is given."""
    trials: int = Field(default=20, ge=1)
    """Trainings in all, those of an earlier call of the same sweep included."""
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """No trial begins later than this after the first of a call; one that runs is finished."""
    startup_trials: int = Field(default=4, ge=1)
    """Trials that run to their end before one worse than their median may be stopped early."""


def searchable_keys() -> Iterator[str]:
    """List the settings that a sweep may vary.

    Yields:
        Keys of the training section, dotted for those of `lora`.
    """
    for key in all_keys(TrainingConfig):
        if key.split(".")[0] not in NOT_SEARCHED and not section_keys(_annotation(key)):
            yield key


def _annotation(key: str) -> Any:
    kind: Any = TrainingConfig
    for name in key.split("."):
        kind = kind.model_fields[name].annotation
    return kind


def _leaf_types(kind: Any) -> set[Any]:
    """Take unions and annotations apart."""
    parts = get_args(kind)
    if not parts:
        return {kind}
    return {leaf for part in parts for leaf in _leaf_types(part)}


def check_key(key: str, where: str) -> str:
    """Insist on a setting that shapes what is learned.

    Args:
        key: Dotted key, with or without the section's name.
        where: Where it was read.

    Returns:
        The key within the training section.

    Raises:
        ConfigError: There is no such setting, or it is none to search.
    """
    name = key.strip().removeprefix(SECTION)
    known = list(searchable_keys())
    if name in known:
        return name
    if name.split(".")[0] in NOT_SEARCHED:
        what, near = f"training.{name} does not shape what is learned", ""
    else:
        what = f"{key} in the search space is not a setting of the training section"
        near = nearest_key(SECTION + name).removeprefix(SECTION)
    raise ConfigError(
        what,
        where=where,
        expected=near if near in known else "a setting that shapes what is learned",
        got=key,
        fix=f"did you mean {near}?" if near in known else f"search one of {', '.join(known)}",
    )


def parse_dimension(key: str, value: Any, where: str) -> Dimension:
    """Read the bounds or the choices of one setting.

    Args:
        key: Key within the training section.
        value: A text such as `1e-5..1e-3:log`, or a list of plain values.
        where: Where it was read.

    Returns:
        The dimension; bounds of settings that are whole numbers are whole.

    Raises:
        ConfigError: The value is neither, or its bounds leave nothing to search.
    """
    if isinstance(value, list):
        is_plain = all(isinstance(item, Scalar) for item in value)
        if not is_plain or len({repr(item) for item in value}) != len(value) or len(value) < 2:
            raise _bad_space(key, where, "at least two different plain values", repr(value))
        return OneOf(choices=tuple(value))
    found = RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _bad_space(key, where, FORMS, repr(value))
    types = _leaf_types(_annotation(key)) & {int, float}
    if not types:
        raise _bad_space(key, where, "a list of values: this setting is no number", repr(value))
    number = float if float in types else int
    try:
        low, high = number(found[1]), number(found[2])
    except ValueError:
        kind = "numbers" if number is float else "whole numbers"
        raise _bad_space(key, where, f"bounds that are {kind}", value) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _bad_space(key, where, "a low bound below the high one", value)
    if found[3] and low <= 0:
        raise _bad_space(key, where, "a low bound above 0, since it is logarithmic", value)
    return Range(low=low, high=high, is_log=bool(found[3]))


def _bad_space(key: str, where: str, expected: str, got: str) -> ConfigError:
    return ConfigError(
        f"the values to search for training.{key} cannot be used",
        where=where,
        expected=expected,
        got=got,
        fix=f"write {key} as {FORMS}",
    )


def with_settings(config: RunConfig, settings: Mapping[str, Scalar]) -> RunConfig:
    """Put sampled values into a configuration.

    Args:
        config: What the user configured.
        settings: Key within the training section to value.

    Returns:
        The configuration as the user would have written it with these values.

    Raises:
        ValidationError: The values, or their combination, are not allowed.
    """
    values = config.model_dump(mode="json", exclude_unset=True)
    values["training"] = nest(settings, values.get("training", {}))
    return RunConfig.model_validate(values)


def nest(settings: Mapping[str, Scalar], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Turn dotted keys into sections.

    Args:
        settings: Dotted key to value.
        base: Sections to put them into; it is left as it is.

    Returns:
        Nested mappings.
    """
    nested = deepcopy(dict(base or {}))
    for key, value in settings.items():
        *above, name = key.split(".")
        section = nested
        for part in above:
            section = section.setdefault(part, {})
        section[name] = value
    return nested


def check_space(config: RunConfig, sweep: SweepConfig, places: Mapping[str, str]) -> None:
    """Try the outermost values of every setting, so that no trial ends with a bad configuration.

    Args:
        config: What the user configured.
        sweep: What is varied.
        places: Where each key was read.

    Raises:
        ConfigError: A value is not allowed, has no effect, or nothing measures the result.
    """
    if not config.split.validation_fraction:
        raise ConfigError(
            "a sweep compares validation losses, and no rows are kept for validation",
            where="split.validation_fraction",
            expected="a share of the rows; held-out evaluation rows judge only the final model",
            got="0",
            fix="set split.validation_fraction=0.1",
        )
    first = {key: dimension.corners[0] for key, dimension in sweep.search.items()}
    for key, dimension in sweep.search.items():
        _refuse_without_effect(key, config.training, sweep, places)
        for corner in dimension.corners:
            try:
                with_settings(config, first | {key: corner})
            except ValidationError as error:
                named = {SECTION + name: place for name, place in places.items()}
                refusal = explain(error, named, places.get(key, ""))
                refusal.fix = f"search other values of {key}, or change what they clash with"
                raise refusal from None


def _refuse_without_effect(
    key: str, training: TrainingConfig, sweep: SweepConfig, places: Mapping[str, str]
) -> None:
    """Refuse to vary what another setting makes irrelevant: every trial would be the same."""
    reason = ""
    if key == "num_train_epochs" and training.max_steps and "max_steps" not in sweep.search:
        reason = "max_steps"
    if key.startswith("lora.") and not training.has_adapter and "method" not in sweep.search:
        reason = "method"
    if not reason:
        return
    value = training.max_steps if reason == "max_steps" else Method(training.method).value
    raise ConfigError(
        f"training.{key} has no effect, because training.{reason} is {value}",
        where=places.get(key, ""),
        expected="settings that change the training",
        got=key,
        fix=f"leave {key} out, or change training.{reason}",
    )
