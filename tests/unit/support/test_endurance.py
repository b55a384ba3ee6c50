"""What the endurance test takes for growth."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.endurance import (
    CHECK_LIMITS,
    LIMITS,
    Sample,
    growths,
    print_growths,
    take_sample,
)

STEADY = Sample(
    memory_bytes=700_000_000,
    open_files=40,
    threads=20,
    processes=1,
    output_bytes=5_000_000,
    output_files=300,
    other_bytes=2_000,
    other_files=9,
    weight_bytes=400_000,
    temporary_files=2,
    registry_bytes=2_000_000,
    prefect_bytes=2_000_000,
)
N_RUNS = 40


def growing(samples: list[Sample]) -> list[str]:
    return [one.quantity for one in growths(samples, LIMITS) if one.is_too_large]


def test_every_quantity_has_a_limit() -> None:
    assert set(LIMITS) == set(CHECK_LIMITS) == set(Sample.__dataclass_fields__)


def test_what_comes_and_goes_does_not_grow() -> None:
    generator = random.Random(1)
    samples = [
        replace(
            STEADY,
            memory_bytes=STEADY.memory_bytes + generator.randrange(1_000_000),
            open_files=40 + number % 3,
            output_bytes=generator.randrange(4_000_000, 6_000_000),
            output_files=generator.randrange(280, 320),
        )
        for number in range(N_RUNS)
    ]
    assert growing(samples) == []


def test_warming_up_is_no_growth() -> None:
    warm = N_RUNS // 2
    samples = [
        replace(STEADY, memory_bytes=STEADY.memory_bytes - 10_000_000 * max(0, warm - number))
        for number in range(N_RUNS)
    ]
    assert growing(samples) == []


@pytest.mark.parametrize("quantity", sorted(LIMITS))
def test_each_quantity_that_grows_is_named(quantity: str) -> None:
    steps = {name: int(2 * limit.each_run) for name, limit in LIMITS.items() if limit.each_run}
    step = steps.get(quantity, max(1, getattr(STEADY, quantity) // 4))
    samples = [
        replace(STEADY, **{quantity: getattr(STEADY, quantity) + step * number})
        for number in range(N_RUNS)
    ]
    assert growing(samples) == [quantity]


def test_files_left_open_and_files_left_behind_are_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    for name in ("artifacts", "runs", "registering"):
        (home / name).mkdir(parents=True)
    (home / "mlflow.db").write_bytes(b"x" * 1000)
    (home / "artifacts" / "model.safetensors").write_bytes(b"x" * 100)
    opened, samples = [], []
    for number in range(8):
        opened.append((temporary / str(number)).open("w", encoding="utf-8"))
        (home / "runs" / f"{number}.jsonl").write_text("{}", encoding="utf-8")
        (home / "registering" / f"{number}.lock").touch()
        samples.append(take_sample(home, temporary))
    for file in opened:
        file.close()
    last = samples[-1]
    assert (last.registry_bytes, last.weight_bytes, last.output_bytes) == (1000, 100, 16)
    names = ("open_files", "temporary_files", "other_files")
    found = growths(samples, {name: LIMITS[name] for name in names})
    assert [one.is_too_large for one in found] == [True] * len(names)
    print_growths("8 runs", found)
    assert capsys.readouterr().out.count("GROWS") == len(names)
    json.dumps([one.each_run for one in found])
