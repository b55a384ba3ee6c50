"""What the check of a GPU computes, with numbers made up by hand, and its parts on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from benchmarks import gpu_check
from benchmarks._gpu_parts import N_BYTES, WORK, make_tokenizer, write_rows
from benchmarks.gpu_check import Check, parse_arguments, summarise, table


def results(device: str = "NVIDIA H100 80GB HBM3") -> dict[str, Any]:
    def run(speed: float, error: float, n_trained: int) -> dict[str, Any]:
        return {
            "tokens_per_second": speed,
            "estimate_error": error,
            "n_trainable_parameters": n_trained,
        }

    return {
        "peak": {"device": device, "flop_per_second": 800e12},
        "prepare 1b": {"n_parameters": 10**9},
        "full 1b": run(80_000, -0.1, 10**9),
        "lora 1b": run(100_000, 0.2, 10**7),
        "stock 1b": {"tokens_per_second": 40_000},
    }


def test_wheels_are_pinned_as_in_the_constraints() -> None:
    def pins(name: str) -> set[str]:
        lines = (gpu_check.ROOT / name).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if "==" in line and not line.startswith("#")}

    wanted = pins("requirements/gpu-check.txt")
    assert {"trl", "datasets"} <= {pin.partition("==")[0] for pin in wanted}
    assert wanted <= pins("constraints.txt")


def test_summarise_counts_useful_operations_against_the_data_sheet() -> None:
    found = summarise(results())
    assert found["peak_flop_per_second"] == 989e12
    full, lora = found["trainings"]["full 1b"], found["trainings"]["lora 1b"]
    assert full["share_of_peak"] == pytest.approx(80_000 * 6e9 / 989e12)
    assert full["share_of_product"] == pytest.approx(80_000 * 6e9 / 800e12)
    assert lora["share_of_peak"] == pytest.approx(100_000 * (4e9 + 6e7) / 989e12)
    assert full["ratio_to_stock"] == 2.0
    assert found["goals"] == {
        "share_1b": True,
        "ratio_to_stock full 1b": True,
        "estimate full 1b": True,
        "estimate lora 1b": False,
    }
    assert table(found).count("MISSED") == 1


def test_summarise_takes_an_unknown_card_by_its_product_and_parts_that_are_missing() -> None:
    some = results("Some Card")
    del some["stock 1b"]
    found = summarise(some)
    assert found["peak_flop_per_second"] == 800e12
    assert found["trainings"]["full 1b"]["ratio_to_stock"] is None
    assert set(found["goals"]) == {"share_1b", "estimate full 1b", "estimate lora 1b"}
    assert "full 1b" in table(found)
    tiny = {name.replace("1b", "tiny"): run for name, run in some.items()}
    assert summarise(tiny)["goals"] == {}


def test_check_leaves_out_what_has_no_time_and_keeps_what_failed(tmp_path: Path) -> None:
    late = Check(0.0)
    assert late.run("peak", "peak", tmp_path) == {}
    assert late.failed == {"peak": "left out: the time is over"}
    found = Check(60.0)
    assert found.run("odd", "no_such_part", tmp_path) == {}
    assert "no_such_part" in found.failed["odd"]
    assert found.results == {}


def test_made_up_rows_fit_tokenizer_template_and_length(tmp_path: Path) -> None:
    work = WORK["tiny"]
    tokenizer = make_tokenizer(work["vocabulary"])
    assert len(tokenizer) == work["vocabulary"]
    n_tokens = write_rows(tmp_path / "rows.parquet", tokenizer, work)
    rows = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert (len(rows), sum(len(row["input_ids"]) for row in rows)) == (work["rows"], n_tokens)
    for row in rows:
        assert len(row["input_ids"]) <= work["packed"]
        trained = [label for label in row["labels"] if label != -100]
        assert trained[-1] == tokenizer.eos_token_id
        assert min(trained) >= N_BYTES
        text = tokenizer.decode(row["input_ids"])
        assert text.startswith("<|im_start|>user\n")
        assert "<|im_end|>\n<|im_start|>assistant\n" in text


def test_the_environment_of_a_part_finds_the_wheels_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/others")
    found = gpu_check.environment()
    assert found["PYTHONPATH"].split(":") == [
        str(gpu_check.PACKAGES),
        str(gpu_check.ROOT),
        "/others",
    ]
    assert parse_arguments(["--tiny", "--minutes", "2"]).tiny
