from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from schemas.rules._expectations import (
    COLUMN,
    _deferred,
    expectation_kinds,
    import_great_expectations,
    open_validator,
)
from schemas.rules.check_set import preload


def test_preload_leaves_out_what_no_rule_uses_and_keeps_it_usable() -> None:
    script = (
        "import gc, sys\n"
        "from schemas.rules.check_set import preload\n"
        "preload()\n"
        "assert gc.isenabled()\n"
        "assert 'great_expectations' in sys.modules\n"
        "assert not {'altair', 'boto3', 'scipy.stats', 'rfc3987_syntax'} & set(sys.modules)\n"
        "from great_expectations.expectations.core import (\n"
        "    expect_column_kl_divergence_to_be_less_than as divergence)\n"
        "import scipy.stats\n"
        "assert divergence.stats.entropy([1, 1], [1, 1]) == 0\n"
        "assert divergence.stats.entropy is scipy.stats.entropy\n"
        "assert hasattr(divergence.alt, 'Chart')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_preload_may_be_called_again() -> None:
    preload()
    preload()
    assert sys.modules["great_expectations"]


def test_import_from_several_threads_gives_one_library() -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(import_great_expectations())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sys.modules["great_expectations"]] * 3


@pytest.fixture(autouse=True)
def _without_wave() -> Iterator[None]:
    """Let the tests defer a small module of the standard library that nothing else needs."""
    sys.modules.pop("wave", None)
    yield
    sys.modules.pop("wave", None)


def test_deferred_module_is_loaded_at_first_use_and_forgotten_afterwards() -> None:
    with _deferred(["wave", "json"]):
        stand_in = importlib.import_module("wave")
        assert sys.modules["json"] is json
    assert "wave" not in sys.modules
    assert stand_in.Error is importlib.import_module("wave").Error
    assert sys.modules["wave"] is not stand_in


def test_deferred_module_that_is_used_meanwhile_stays_loaded() -> None:
    with _deferred(["wave"]):
        from wave import Error

        assert Error.__module__ == "wave"
        loaded = sys.modules["wave"]
    assert sys.modules["wave"] is loaded


@pytest.mark.parametrize("kind", ["bool", "int32", "uint32", "float32"])
def test_validator_takes_columns_of_every_narrow_type(kind: str) -> None:
    kinds, validate = expectation_kinds(), open_validator()
    column: Any = numpy.array([0, 1, 1, 0], dtype=kind)
    highest = validate(column, kinds.maximum(column=COLUMN, max_value=1))
    assert highest.success
    assert highest.result["observed_value"].dtype == kind
    assert validate(column, kinds.mean(column=COLUMN, max_value=0.5)).success
    assert not validate(column, kinds.mean(column=COLUMN, max_value=0.49)).success
    assert validate(column, kinds.sum(column=COLUMN, min_value=2)).success
    assert not validate(column, kinds.sum(column=COLUMN, min_value=3)).success


def test_validator_gives_no_figure_for_a_column_that_is_not_there() -> None:
    column: Any = numpy.array([True])
    found = open_validator()(column, expectation_kinds().mean(column="other", max_value=1))
    assert not found.success
    assert "observed_value" not in found.result
