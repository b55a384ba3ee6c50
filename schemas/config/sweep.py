"""`SweepConfig`: which settings of the training a sweep varies, and over which values."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, ValidationError

from schemas.base import Record
from schemas.config._errors import all_keys, explain, nearest_key, section_keys, shown
from schemas.config.file import Settings, read_settings
from schemas.config.plain_yaml import YamlError, parse_yaml
from schemas.config.run import RunConfig
from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError

SECTION = "training."
NOT_SEARCHED = re.compile(
    r"(accelerate_config|device|distribution|early_stopping|eval_steps|gradient_checkpointing|guards"
    r"|logging_steps|lr_scheduler_kwargs|processes|save_steps|save_total_limit|torch_compile)(\..*)?"
)
"""Settings and sections for how a training runs or is watched, not for what it learns."""
RANGE = re.compile(r"\s*([-+.\deE]+?)\s*\.\.\s*([-+.\deE]+?)\s*(:\s*log)?\s*")
FORMS = "low..high, low..high:log or a list such as [8, 16, 32]"
EXAMPLE = "--search learning_rate=1e-5..1e-3:log"

Scalar = bool | int | float | str | None


class Range(Record):
    """Every value between two bounds, both included; whole numbers if both are `int`."""

    low: int | float
    high: int | float
    is_log: bool = False
    """Draw evenly over the logarithm, for values that matter by their order of magnitude."""


class OneOf(Record):
    """One of several different values."""

    choices: tuple[Scalar, ...] = Field(min_length=2)


Dimension = Range | OneOf


class SweepConfig(Record):
    """What a sweep tries."""

    search: dict[str, Dimension] = Field(min_length=1)
    """Key of the training section, without `training.`, to the values to try."""
    trials: int = Field(default=20, ge=1)
    """Trainings in total, including those of an earlier call of the same sweep."""
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """No trial starts later than this after the first of a call; a running one is finished."""
    startup_trials: int = Field(default=4, ge=1)
    """Trials that run to their end before one worse than their median may be pruned."""


def load_sweep(
    path: Path | None, searches: Sequence[str], limits: Mapping[str, Any]
) -> tuple[SweepConfig, dict[str, str]]:
    """Read what a sweep varies, and where each key of its search space was read.

    `searches` such as `lora.r=[8, 16]` and `limits`, unless None, override the file's. A ConfigError
    when the file cannot be read, or a key or a value cannot be searched.
    """
    read = read_settings(path, "sweep", "--sweep") if path else Settings()
    written = read.values.pop("search", None) or {}
    found: dict[str, tuple[Any, str]] = {}
    for key, value in _flatten(written):
        place = read.places.get(f"search.{key}", str(path))
        found[check_key(key, place)] = (value, place)
    for text in searches:
        key, value = _split(text)
        found[check_key(key, f"--search {text}")] = (value, f"--search {text}")
    if not found and isinstance(written, dict):
        raise ConfigError(
            "nothing is named to search",
            where=str(path or "the command line"),
            expected="at least one setting of the training section",
            got="none",
            fix=f"add e.g. {EXAMPLE}",
        )
    space = {key: parse_dimension(key, value, place) for key, (value, place) in found.items()}
    given = {name: value for name, value in limits.items() if value is not None}
    values = {**read.values, **given, "search": space if isinstance(written, dict) else written}
    try:
        sweep = SweepConfig.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(
            f"{name} of the sweep has a value that is not allowed",
            where="the command line" if name in given else read.places.get(name, str(path)),
            expected=str(fault["msg"]).removeprefix("Input should be "),
            got=shown(fault["input"]),
            fix=f"known keys: {', '.join(SweepConfig.model_fields)}; {EXAMPLE}",
        ) from None
    return sweep, {key: place for key, (_, place) in found.items()}


def _flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Read `lora: {r: ...}` as `lora.r: ...`."""
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _split(search: str) -> tuple[str, Any]:
    key, equals, value = search.partition("=")
    with contextlib.suppress(YamlError):
        if equals:
            return key, parse_yaml(value)
    raise ConfigError(
        "a search is not of the form key=values, or its values cannot be read",
        where=f"--search {search}",
        expected=f"a key and {FORMS}",
        got=search,
        fix=f"write it as one argument, e.g. {EXAMPLE}",
    )


def searchable_keys() -> dict[str, Any]:
    """Map the settings that a sweep may vary, dotted for those of `lora`, to their types."""
    found = {}
    for key in all_keys(TrainingConfig):
        if not NOT_SEARCHED.fullmatch(key):
            kind: Any = TrainingConfig
            for name in key.split("."):
                kind = kind.model_fields[name].annotation
            found[key] = kind
    return {key: kind for key, kind in found.items() if not section_keys(kind)}


def _leaf_types(kind: Any) -> set[Any]:
    """Split unions and annotated types into plain types."""
    return set().union(*map(_leaf_types, get_args(kind))) or {kind}


def check_key(key: str, where: str) -> str:
    """Return a searchable key without `training.`; a ConfigError suggests the nearest one."""
    name = key.strip().removeprefix(SECTION)
    known = searchable_keys()
    if name in known:
        return name
    near = nearest_key(SECTION + name).removeprefix(SECTION)
    what = f"{key} in the search space is not a setting of the training section"
    if NOT_SEARCHED.fullmatch(name):
        near, what = "", f"training.{name} does not shape what is learned"
    is_near = near in known
    raise ConfigError(
        what,
        where=where,
        expected=near if is_near else "a setting that shapes what is learned",
        got=key,
        fix=f"did you mean {near}?" if is_near else f"search one of {', '.join(known)}",
    )


def parse_dimension(key: str, value: Any, where: str) -> Dimension:
    """Parse `1e-5..1e-3:log` or a list of plain values; a ConfigError if there is none to search."""
    try:
        if isinstance(value, list):
            return _parse_choices(value)
        return _parse_range(_leaf_types(searchable_keys()[key]) & {int, float}, str(value))
    except ValueError as error:
        raise ConfigError(
            f"the values to search for training.{key} cannot be used",
            where=where,
            expected=str(error),
            got=str(value),
            fix=f"write {key} as {FORMS}",
        ) from None


def _parse_choices(values: list[Any]) -> OneOf:
    is_plain = all(isinstance(value, Scalar) for value in values)
    if not is_plain or len(values) < 2 or len({repr(value) for value in values}) < len(values):
        raise ValueError("at least two different plain values")
    return OneOf(choices=tuple(values))


def _parse_range(types: set[type], text: str) -> Range:
    found = RANGE.fullmatch(text)
    if found is None:
        raise ValueError(FORMS)
    if not types:
        raise ValueError("a list of values: this setting is not a number")
    number = float if float in types else int
    try:
        low, high = number(found[1]), number(found[2])
    except ValueError:
        raise ValueError(f"bounds that are {'' if number is float else 'whole '}numbers") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("a low bound below the high one")
    if found[3] and low <= 0:
        raise ValueError("a low bound above 0, since it is logarithmic")
    return Range(low=low, high=high, is_log=bool(found[3]))


def with_settings(config: RunConfig, settings: Mapping[str, Scalar]) -> RunConfig:
    """Replace settings of the training, by key; pydantic's ValidationError if they clash."""
    values = config.model_dump(mode="json", exclude_unset=True)
    values["training"] = nest(settings, values.get("training", {}))
    return RunConfig.model_validate(values)


def nest(settings: Mapping[str, Scalar], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Turn dotted keys into sections, added to a copy of `base`."""
    nested = deepcopy(dict(base or {}))
    for key, value in settings.items():
        *above, name = key.split(".")
        section = nested
        for part in above:
            section = section.setdefault(part, {})
        section[name] = value
    return nested


def check_space(config: RunConfig, sweep: SweepConfig, places: Mapping[str, str]) -> None:
    """Try the outermost values of every setting; a ConfigError names the place of a bad one."""
    if not config.split.validation_fraction:
        raise ConfigError(
            "a sweep compares validation losses, and no rows are kept for validation",
            where="split.validation_fraction",
            expected="a share of the rows; held-out evaluation rows only evaluate the final model",
            got="0",
            fix="set split.validation_fraction=0.1",
        )
    corners = {
        key: values.choices if isinstance(values, OneOf) else (values.low, values.high)
        for key, values in sweep.search.items()
    }
    first = {key: values[0] for key, values in corners.items()}
    named = {SECTION + key: place for key, place in places.items()}
    for key, values in corners.items():
        _refuse_without_effect(key, config.training, sweep, places)
        for value in values:
            try:
                with_settings(config, first | {key: value})
            except ValidationError as error:
                refusal = explain(error, named, places.get(key, ""))
                refusal.fix = f"search other values of {key}, or change what they clash with"
                raise refusal from None


def _refuse_without_effect(
    key: str, training: TrainingConfig, sweep: SweepConfig, places: Mapping[str, str]
) -> None:
    """Refuse to vary what another setting makes irrelevant: every trial would be the same."""
    if key.startswith("lora."):
        reason, value, is_moot = "method", training.method.value, not training.has_adapter
    else:
        reason, value = "max_steps", str(training.max_steps)
        is_moot = key == "num_train_epochs" and training.max_steps is not None
    if is_moot and reason not in sweep.search:
        raise ConfigError(
            f"training.{key} has no effect, because training.{reason} is {value}",
            where=places.get(key, ""),
            expected="settings that change the training",
            got=key,
            fix=f"leave {key} out, or change training.{reason}",
        )
