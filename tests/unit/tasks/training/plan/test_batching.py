from __future__ import annotations

from typing import Any

import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.batching import (
    Batching,
    effective_batch,
    fit_batching,
    halve,
    wished_batching,
)


def config(**settings: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(settings)


def test_effective_batch_is_the_product_or_what_is_set() -> None:
    product = config(per_device_train_batch_size=3, gradient_accumulation_steps=4, processes=2)
    assert effective_batch(product) == 24
    assert effective_batch(config(effective_batch_size=8)) == 8


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}, (2, 3, 1)),
        ({"per_device_train_batch_size": 2, "effective_batch_size": 12, "processes": 2}, (2, 3, 2)),
        (
            {"per_device_train_batch_size": "auto", "effective_batch_size": 12, "processes": 2},
            (6, 1, 2),
        ),
    ],
)
def test_wished_batching(settings: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found = wished_batching(config(**settings))
    assert (found.per_device, found.accumulation, found.processes) == expected


@pytest.mark.parametrize("batch", [4, "auto"])
def test_an_effective_batch_that_cannot_be_divided_is_refused(batch: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        wished_batching(
            config(per_device_train_batch_size=batch, effective_batch_size=9, processes=2)
        )
    assert (caught.value.exit_code, caught.value.got) == (2, "9")
    assert f"per_device_train_batch_size {batch} x processes 2" in caught.value.expected
    assert "8 or" in caught.value.fix


@pytest.mark.parametrize(
    ("before", "after"),
    [((8, 1), (4, 2)), ((3, 1), (1, 3)), ((6, 1), (3, 2)), ((5, 2), (2, 5)), ((2, 7), (1, 14))],
)
def test_halve_keeps_the_product(before: tuple[int, int], after: tuple[int, int]) -> None:
    batching = Batching(per_device=before[0], accumulation=before[1], processes=2)
    found = halve(batching)
    assert found is not None
    assert (found.per_device, found.accumulation) == after
    assert found.effective == batching.effective


def test_halve_ends_at_one() -> None:
    assert halve(Batching(per_device=1, accumulation=8)) is None


@pytest.mark.parametrize(("most", "expected"), [(12, 12), (11, 6), (5, 4), (1, 1)])
def test_fit_batching_takes_the_largest_divisor_that_fits(most: int, expected: int) -> None:
    found = fit_batching(Batching(per_device=12, accumulation=1), lambda n: n <= most)
    assert found is not None
    assert (found.per_device, found.effective) == (expected, 12)


def test_fit_batching_finds_nothing_when_one_sequence_is_too_many() -> None:
    assert fit_batching(Batching(per_device=4, accumulation=1), lambda n: False) is None
