"""The parts of the training benchmark that compute, with figures made up by hand."""

from __future__ import annotations

import pytest

from benchmarks._training_results import Work, gemm_share, summary, table
from benchmarks.measure_train import best, parse_arguments
from benchmarks.tutorial_sft import parse_arguments as parse_script_arguments
from benchmarks.tutorial_sft import speed_after_first


def make_runs() -> dict[str, dict[str, float]]:
    speeds = {"stock": 20.0, "fixed": 50.0, "full": 100.0, "lora": 150.0}
    losses = {"fixed": 3.0, "full": 2.5}
    return {
        name: {"tokens_per_second": speed, "gemm_share": speed / 200, "computed_per_token": 0.8}
        | ({"loss": losses[name]} if name in losses else {})
        for name, speed in speeds.items()
    }


def test_speed_leaves_the_first_step_out() -> None:
    assert speed_after_first([(10.0, 100), (12.0, 300), (15.0, 600)]) == 100.0


def test_full_training_multiplies_every_weight_three_times() -> None:
    assert Work(n_body=100, n_head=50).flop_per_computed_token(0.5) == 6 * 125


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    work = Work(n_body=100, n_head=50, n_adapter=10)
    assert work.flop_per_computed_token(0.5) == 4 * 125 + 60


def test_share_counts_a_shared_prefix_once() -> None:
    run = {"tokens_per_second": 100.0, "computed_per_token": 0.8, "label_fraction": 0.5}
    assert gemm_share(run, Work(n_body=10, n_head=4), 9600.0) == pytest.approx(0.6)


def test_share_takes_padding_out() -> None:
    run = {"tokens_per_second": 100.0, "computed_per_token": 1.25, "label_fraction": 0.8}
    assert gemm_share(run, Work(n_body=10, n_head=4), 16800.0) == pytest.approx(0.5)


def test_fastest_run_counts() -> None:
    runs = [{"tokens_per_second": 5.0}, {"tokens_per_second": 7.0}]
    assert best(runs) == {"tokens_per_second": 7.0}


def test_summary_holds_every_promised_figure() -> None:
    found = summary(make_runs())
    assert found["full_vs_stock"] == 5.0
    assert found["full_vs_fixed"] == 2.0
    assert found["lora_vs_fixed"] == 3.0
    assert found["loss_gap_full"] == -0.5
    assert found["gemm_share_full"] == 0.5
    assert found["gemm_share_lora"] == 0.75
    assert list(found["runs"]) == ["stock", "fixed", "full", "lora"]
    assert found["runs"]["stock"]["ratio_to_fixed"] == 0.4


def test_table_marks_targets() -> None:
    figures = summary(make_runs())
    assert "MISSED" not in table(figures)
    assert "MISSED" in table(figures | {"loss_gap_full": 0.03})
    assert "(5) trl sft" not in table(figures)


def test_options_allow_fewer_steps() -> None:
    arguments = parse_arguments(["--steps", "4", "--slow-steps", "2", "--no-command"])
    assert (arguments.steps, arguments.slow_steps, arguments.command) == (4, 2, False)
    script = parse_script_arguments(["model", "rows", "out", "--fixed", "--max-steps", "2"])
    assert (script.fixed, script.max_steps) == (True, 2)
