"""Check set rules: whether the dataset as a whole is fit to train on.

Each rule is one great-expectations expectation on one narrow column with only the rows that the
rule checks. The rules are defined in `schemas/rules/set_rules.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from schemas.errors import ConfigError, SftFlowError
from schemas.rule_ids import RuleExample, RuleResult, RuleSetting, SetRule, Severity, Verdict
from schemas.rules._expectations import COLUMN, expectation_kinds, open_validator
from schemas.rules.profile import DataProfile, drift
from schemas.rules.set_rules import (
    DEFAULT_LENGTH_QUANTILES,
    SET_RULES,
    Comparison,
    QuantileRanges,
    require_quantile_ranges,
)

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Column: TypeAlias = NDArray[numpy.generic]
    """Shape (rows,)."""

MEAN_TOLERANCE = 1e-5
"""Rounding error allowed in a mean over single-precision shares."""


@dataclass(frozen=True)
class SetContext:
    """What the set rules need besides the columns.

    Raises:
        ConfigError: A range of `length_quantiles` is not allowed.
    """

    length_quantiles: QuantileRanges = field(default_factory=lambda: dict(DEFAULT_LENGTH_QUANTILES))
    """Least and most characters of a row at each quantile; None for no bound."""
    profile: DataProfile | None = None
    """Of these rows; without it rule drift is skipped and shrunk_fraction counts is_usable."""

    def __post_init__(self) -> None:
        require_quantile_ranges(self.length_quantiles)


@dataclass(frozen=True)
class _Outcome:
    """Whether an expectation was met, and the value that was compared with the limit."""

    is_met: bool
    observed: float
    limit: float | None
    detail: str = ""


def require_docstrings() -> None:
    """Check that great-expectations can be imported: it reads its own docstrings.

    Raises:
        ConfigError: Python leaves docstrings out.
    """
    if sys.flags.optimize > 1:
        raise ConfigError(
            "Python leaves out docstrings, which great-expectations needs",
            where="PYTHONOPTIMIZE, or the option -OO of Python",
            expected="0 or 1",
            got=str(sys.flags.optimize),
            fix="unset PYTHONOPTIMIZE, or set it to 1",
        )


def preload() -> None:
    """Import what the set rules need, in a thread that runs while rows are read.

    Do not fork meanwhile: the child process would inherit import locks that are never released.
    """
    expectation_kinds()


def check_set(
    columns: Mapping[str, Column],
    settings: Mapping[SetRule, RuleSetting],
    examples: Mapping[SetRule, tuple[RuleExample, ...]],
    reference: DataProfile | None = None,
    context: SetContext | None = None,
) -> tuple[RuleResult, ...]:
    """Check the dataset against its rules.

    Args:
        columns: By the name in `SET_RULES`, shape (rows,), of bool, int32, uint32 or float32
            without nulls; with only the rows that the rule checks.
        settings: From `set_rule_settings`.
        examples: Up to five places per rule.
        reference: Profile of the champion's data; without it rules shrunk_fraction and drift
            are skipped.
        context: Ranges and the profile of these rows; None for the defaults.

    Returns:
        One result per rule, in the order of their definition; skipped where a rule is off or its
        column is missing or empty.

    Raises:
        SftFlowError: great-expectations returned no result for a rule.
    """
    import numpy

    context = context or SetContext()
    ranges = _bounded(context.length_quantiles)
    compared = _compare_profiles(columns, reference, context.profile) if reference else {}
    columns = {
        **columns,
        **{SET_RULES[rule].column: numpy.array([value]) for rule, (value, _) in compared.items()},
    }
    asked = {
        rule: columns[definition.column]
        for rule, definition in SET_RULES.items()
        if settings[rule].severity != Severity.OFF
        and len(columns.get(definition.column, ()))
        and (definition.comparison != Comparison.QUANTILES_WITHIN or ranges)
    }
    outcomes = _validate(asked, settings, ranges)
    results = []
    for rule in SET_RULES:
        if rule not in asked:
            results.append(_skipped(rule, settings[rule]))
        elif rule not in outcomes:
            raise SftFlowError(f"great-expectations returned no result for rule {rule}")
        else:
            found = _result(rule, settings[rule], asked[rule], outcomes[rule])
            detail = compared[rule][1] if rule in compared else found.detail
            update = {"examples": examples.get(rule, ()), "detail": detail}
            results.append(found.model_copy(update=update))
    return tuple(results)


def check_share(
    rule: SetRule,
    setting: RuleSetting,
    is_marked: numpy.ndarray,
    examples: tuple[RuleExample, ...],
) -> RuleResult:
    """Evaluate a MEAN_AT_MOST rule as `check_set` does, without importing great-expectations."""
    if setting.severity == Severity.OFF or not len(is_marked):
        return _skipped(rule, setting)
    observed = float(is_marked.mean())
    outcome = _Outcome(setting.limit is None or observed <= setting.limit, observed, setting.limit)
    return _result(rule, setting, is_marked, outcome).model_copy(update={"examples": examples})


def _compare_profiles(
    columns: Mapping[str, Column], reference: DataProfile, profile: DataProfile | None
) -> dict[SetRule, tuple[float, str]]:
    """Compute the values of the rules that compare with the champion's data, and describe them."""
    usable = columns.get(SET_RULES[SetRule.MIN_ROWS].column)
    n_rows = int(usable.sum()) if usable is not None else None
    if profile:
        n_rows = profile.n_rows
    found = {}
    if n_rows is not None and reference.n_rows:
        # A difference of counts divided once is exact where 1 - a / b is not.
        lost = max(0, reference.n_rows - n_rows) / reference.n_rows
        words = f"{n_rows:,} rows; the champion's set had {reference.n_rows:,}"
        found[SetRule.SHRUNK_FRACTION] = (lost, words)
    if profile:
        feature, index = drift(profile, reference)
        if feature:
            found[SetRule.DRIFT] = (index, f"{feature} differs most" if index else "")
    return found


def _bounded(ranges: QuantileRanges) -> QuantileRanges:
    return {
        quantile: ranges[quantile]
        for quantile in sorted(ranges)
        if any(bound is not None for bound in ranges[quantile])
    }


def build_expectation(rule: SetRule, limit: float | None, ranges: QuantileRanges) -> Any:
    """Build the expectation of one rule on a one-column frame; its `meta` has the id of the rule."""
    kinds = expectation_kinds()
    given: dict[str, Any] = {"column": COLUMN, "meta": {"id": str(rule)}}
    match SET_RULES[rule].comparison:
        case Comparison.SUM_AT_LEAST:
            return kinds.sum(min_value=limit, **given)
        case Comparison.MEAN_AT_MOST:
            return kinds.mean(max_value=limit, **given)
        case Comparison.MEAN_AT_LEAST:
            return kinds.mean(min_value=(limit or 0.0) - MEAN_TOLERANCE, **given)
        case Comparison.VALUE_AT_MOST:
            return kinds.maximum(max_value=limit, **given)
        case Comparison.QUANTILES_WITHIN:
            # The library lets a quantile exceed its range by a ten-thousandth.
            bounds = [list(pair) for pair in ranges.values()]
            allowed = {"quantiles": list(ranges), "value_ranges": bounds}
            return kinds.quantiles(quantile_ranges=allowed, **given)


def _validate(
    asked: Mapping[SetRule, Column], settings: Mapping[SetRule, RuleSetting], ranges: QuantileRanges
) -> dict[SetRule, _Outcome]:
    """Validate each column; a rule without a value is left out."""
    if not asked:
        return {}
    validate = open_validator()
    outcomes = {}
    for rule, values in asked.items():
        is_count = SET_RULES[rule].comparison == Comparison.MEAN_AT_MOST
        # The mean of single-precision marks is rounded: 5 of 100 would exceed 0.05.
        column = values != 0 if is_count and values.dtype.kind == "f" else values
        limit = settings[rule].limit
        found = validate(column, build_expectation(rule, limit, ranges))
        observed = found.result.get("observed_value")
        # great-expectations may return bool and float of numpy, which JSON cannot store.
        is_met = bool(found.success)
        if isinstance(observed, Mapping):
            outcomes[rule] = _worst_quantile(is_met, observed["values"], ranges)
        elif observed is not None and math.isfinite(observed):
            outcomes[rule] = _Outcome(is_met, float(observed), limit)
    return outcomes


def _worst_quantile(is_met: bool, values: list[Any], ranges: QuantileRanges) -> _Outcome:
    """Pick the quantile that is furthest outside its range, or else nearest to its edge."""
    candidates = []
    for (quantile, (least, most)), value in zip(ranges.items(), values, strict=True):
        ends: Sequence[tuple[int | None, Any, Any]] = ((least, least, value), (most, value, most))
        for bound, part, whole in ends:
            if bound is not None:
                ratio = part / whole if whole else math.inf if part else 0.0
                candidates.append((ratio, quantile, float(value), bound))
    _, quantile, observed, bound = max(candidates)
    least, most = ranges[quantile]
    allowed = [f"at least {least:,}"] if least is not None else []
    allowed += [f"at most {most:,}"] if most is not None else []
    detail = f"quantile {quantile:g} is {observed:,.0f} characters; {' and '.join(allowed)} allowed"
    return _Outcome(is_met, observed, bound, detail)


def _result(rule: SetRule, setting: RuleSetting, column: Column, outcome: _Outcome) -> RuleResult:
    """Build the result; only rules that count rows have a number of rows."""
    import numpy

    definition = SET_RULES[rule]
    is_count = definition.comparison == Comparison.MEAN_AT_MOST
    n_rows = int(numpy.count_nonzero(column)) if is_count else 0
    severity = setting.severity or definition.severity
    verdict = Verdict.FAILED if severity == Severity.BLOCK else Verdict.WARNED
    return RuleResult(
        id=rule,
        severity=severity,
        verdict=Verdict.PASSED if outcome.is_met else verdict,
        n_rows=n_rows,
        fraction=n_rows / len(column),
        limit=outcome.limit,
        observed=outcome.observed,
        fix=definition.fix if n_rows or not outcome.is_met else "",
        detail=outcome.detail,
    )


def _skipped(rule: SetRule, setting: RuleSetting) -> RuleResult:
    return RuleResult(
        id=rule,
        severity=setting.severity or SET_RULES[rule].severity,
        verdict=Verdict.SKIPPED,
        n_rows=0,
        fraction=0.0,
        limit=setting.limit,
    )
