"""Import great-expectations in about half its time, and validate one column."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.collector import paused_collector

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

DEFERRED_MODULES = ("altair", "boto3", "scipy.stats")
"""Imported by great-expectations 1.24 for plots, stores and distribution tests that no rule uses; they
take 0.9 s of its 2.6 s, and boto3, where it is installed, 0.4 s more."""
HIDDEN_MODULE = "rfc3987_syntax"
"""Where it is installed, as next to Jupyter, jsonschema imports it for formats that no rule uses and
that great-expectations does not check; its grammar takes 1.5 s."""
COLUMN = "value"

_importing = threading.Lock()


def import_great_expectations() -> Any:
    """Import the library without what the rules do not use; safe to call from any thread."""
    with _importing:
        if "great_expectations" in sys.modules:
            return sys.modules["great_expectations"]
        _import_quietly("sre_constants", "sre_parse")
        with _deferred(DEFERRED_MODULES), _hidden(HIDDEN_MODULE), paused_collector():
            return importlib.import_module("great_expectations")


def _import_quietly(*names: str) -> None:
    """Import deprecated modules that the library uses, without their warnings.

    Only they are imported under the changed filters, which apply to other threads too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in names:
            importlib.import_module(name)


@contextmanager
def _deferred(names: Sequence[str]) -> Iterator[None]:
    """Replace modules by stand-ins; each loads its module at the first use of an attribute.

    `importlib.util.LazyLoader` does not work here, as an import statement alone makes it load.
    """
    waiting = {name: _stand_in(name) for name in names if name not in sys.modules}
    sys.modules.update(waiting)
    try:
        yield
    finally:
        for name, module in waiting.items():
            _withdraw(name, module)


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let an import of a module fail, unless it was imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)

    def load(attribute: str) -> Any:
        _withdraw(name, module)
        return getattr(importlib.import_module(name), attribute)

    vars(module)["__getattr__"] = load
    return module


def _withdraw(name: str, module: ModuleType) -> None:
    if sys.modules.get(name) is module:
        del sys.modules[name]


class ExpectationKinds(NamedTuple):
    """Expectation classes of the library; mean and sum are our own subclasses."""

    mean: Any
    sum: Any
    maximum: Any
    quantiles: Any


@functools.cache
def expectation_kinds() -> ExpectationKinds:
    """Return the expectation classes of the rules; each takes `column`, `meta` and bounds.

    The library's own mean and sum look in Python at each value for decimals: 0.15 s for a million
    rows and rule, where these two, on metrics of their own, take 0.005 s.
    """
    kinds = import_great_expectations().expectations
    _register_metric("column.narrow_mean", lambda column: column.mean())
    _register_metric("column.narrow_sum", lambda column: column.sum())
    return ExpectationKinds(
        mean=_narrow(kinds.ExpectColumnMeanToBeBetween, "column.narrow_mean"),
        sum=_narrow(kinds.ExpectColumnSumToBeBetween, "column.narrow_sum"),
        maximum=kinds.ExpectColumnMaxToBeBetween,
        quantiles=kinds.ExpectColumnQuantileValuesToBeBetween,
    )


def _narrow(kind: Any, metric: str) -> Any:
    """Derive an expectation that compares another metric with the same bounds."""

    def compare(self: Any, metrics: Any, *rest: Any, **named: Any) -> Any:
        return self._validate_metric_value_between(metric, metrics, *rest, **named)

    parts = {"__doc__": kind.__doc__, "metric_dependencies": (metric,), "_validate": compare}
    return type(kind)(kind.__name__.replace("Column", "NarrowColumn", 1), (kind,), parts)


def _register_metric(name: str, measure: Callable[[Any], Any]) -> None:
    """Register a metric of a pandas column with great-expectations, by defining its class."""
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.metrics.column_aggregate_metric_provider import (
        ColumnAggregateMetricProvider,
        column_aggregate_value,
    )

    class NarrowColumnMetric(ColumnAggregateMetricProvider):
        metric_name = name

        @column_aggregate_value(engine=PandasExecutionEngine)
        def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805 - made a class method
            return measure(column)


def open_validator() -> Callable[[NDArray[numpy.generic], Any], Any]:
    """Set great-expectations up in memory: no project folder, no progress bar, no usage event.

    Returns:
        A function that validates one column against an expectation on `COLUMN` and returns the
        validation result of the library. The column is not copied: its type stays narrow.
    """
    gx = import_great_expectations()
    import pandas
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )

    def validate(column: NDArray[numpy.generic], expectation: Any) -> Any:
        # A data source's batch would fingerprint the frame: 40 bytes a row, and most of the time.
        frame = pandas.DataFrame({COLUMN: column}, copy=False)
        engine = PandasExecutionEngine(batch_data_dict={COLUMN: frame})
        [result] = Validator(execution_engine=engine, data_context=context).graph_validate(
            configurations=[expectation.configuration],
            runtime_configuration={"result_format": "BASIC", "catch_exceptions": True},
        )
        return result

    return validate
