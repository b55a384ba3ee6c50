"""The loss curve does not depend on interruptions, and the best measurement is found."""

from __future__ import annotations

from tasks.training.process._log import best_measurement, loss_curve

LOG = [
    {"step": 0, "eval_loss": 4.0, "eval_runtime": 1.0},
    {"step": 1, "loss": 4.0, "learning_rate": 0.1, "tokens_per_second": 7.0},
    {"step": 2, "loss": 3.0, "learning_rate": 0.2},
    {"step": 2, "eval_loss": 2.5},
    {"step": 3, "loss": 2.0},
    {"step": 4, "loss": 1.0},
    {"step": 4, "eval_loss": 2.5},
    {"step": 5, "loss": 0.5},
    {"step": 5, "train_runtime": 9.0},
]


def test_loss_curve_means_over_the_steps_between_points() -> None:
    assert loss_curve(LOG, 2) == [
        {"step": 0, "eval_loss": 4.0},
        {"step": 2, "loss": 3.5, "learning_rate": 0.2},
        {"step": 2, "eval_loss": 2.5},
        {"step": 4, "loss": 1.5},
        {"step": 4, "eval_loss": 2.5},
        {"step": 5, "loss": 0.5},
    ]


def test_loss_curve_of_every_step_keeps_each() -> None:
    assert [point["loss"] for point in loss_curve(LOG, 1) if "loss" in point] == [4, 3, 2, 1, 0.5]


def test_loss_curve_drops_what_was_measured_again_after_a_resume() -> None:
    again = [*LOG[:4], {"step": 2, "eval_loss": 2.5}, *LOG[4:]]
    assert loss_curve(again, 2) == loss_curve(LOG, 2)


def test_best_measurement_is_the_first_of_equals() -> None:
    assert best_measurement(LOG) == (2, 2.5)
    assert best_measurement(LOG[1:3]) is None
