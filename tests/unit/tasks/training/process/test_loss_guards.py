from __future__ import annotations

import math
import random
from typing import Any

import pytest

from schemas.config.training import EarlyStopping, GuardSettings, TrainingConfig
from schemas.errors import LossNotFinite, LossSpike, NothingLearned, is_retryable
from tasks.training.process._loss_guards import (
    check_learning,
    check_spike,
    has_stopped_improving,
    last_losses,
    make_loss_guard,
    training_losses,
    validation_losses,
)

SETTINGS = GuardSettings(spike_factor=3.0, spike_patience=2)
FALLING = [2.0, 1.9, 1.8, 1.7, 1.6, 1.0, 0.9, 0.8, 0.7, 0.6]
EARLY = TrainingConfig(eval_steps=1, early_stopping=EarlyStopping(patience=2, min_delta=0.1))


def curve(*losses: float) -> list[dict[str, Any]]:
    return [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]


def measurements(*losses: float) -> list[dict[str, Any]]:
    """Measured before the first step and after each."""
    return [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses)]


def test_training_losses_leave_measurements_out() -> None:
    assert training_losses([*curve(2.0), *measurements(3.0), {"train_loss": 9.0}]) == [2.0]


def test_validation_losses_take_the_first_of_two_at_a_step() -> None:
    log = [{"step": 0, "eval_loss": 3.0}, {"step": 4, "eval_loss": 2.0}]
    assert validation_losses([*log, {"step": 4, "eval_loss": 2.5}]) == {0: 3.0, 4: 2.0}


def test_last_losses_are_in_order() -> None:
    log = [*curve(1.0, 2.0), *measurements(7.0), *curve(3.0)]
    assert last_losses(log, 2) == [2.0, 3.0]
    assert last_losses(log, 9) == [1.0, 2.0, 3.0]


def test_check_spike_stops_after_as_many_losses_as_are_waited_for() -> None:
    with pytest.raises(LossSpike, match=r"below 3\.000, as the median before was 1\.000") as caught:
        check_spike([1.0] * 20 + [3.1, 4.0], SETTINGS, 22)
    assert "up to step 22" in caught.value.where
    assert caught.value.got == "3.100 to 4.000"


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 20 + [9.0],  # one is noise
        [1.0] * 20 + [9.0, 2.9],  # back again
        [1.0] * 20 + [3.0, 3.0],  # at the limit
        [1.0] * 4 + [9.0, 9.0],  # too early to tell
        [0.01] * 20 + [0.1, 0.1],  # ten times nearly nothing
        [9.0] * 30 + [1.0] * 11 + [2.9, 2.9],  # the median of 20 is 1
    ],
)
def test_check_spike_lets_what_is_no_spike_pass(losses: list[float]) -> None:
    check_spike(losses, SETTINGS, len(losses))
    with pytest.raises(LossSpike):  # two more that are far above
        check_spike([*losses, 90.0, 90.0], SETTINGS, len(losses) + 2)


@pytest.mark.parametrize(
    ("losses", "is_over"),
    [
        ((3.0, 2.0, 1.0), False),
        ((3.0, 2.0, 2.0), False),  # one without improvement
        ((3.0, 2.0, 2.1, 2.2), True),
        ((3.0, 2.0, 1.95, 1.92), True),  # lower, but not by min_delta
        ((3.0, 2.0, 2.1, 1.5, 1.6), False),  # counted anew
    ],
)
def test_has_stopped_improving_counts_since_the_last_improvement(
    losses: tuple[float, ...], is_over: bool
) -> None:
    settings = EarlyStopping(patience=2, min_delta=0.1)
    assert has_stopped_improving(measurements(*losses), settings) is is_over


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.5, 3.0], [1.0] * 9])
def test_check_learning_does_not_judge_short_curves(losses: list[float]) -> None:
    assert check_learning(curve(*losses), TrainingConfig()) == ""


def test_check_learning_says_that_a_limit_could_not_be_judged() -> None:
    training = TrainingConfig(guards=GuardSettings(min_learning_fraction=0.1))
    assert "3 logged losses are too few" in check_learning(curve(2.0, 2.5, 3.0), training)


def test_check_learning_accepts_a_falling_loss() -> None:
    assert check_learning(curve(*FALLING), TrainingConfig()) == ""


@pytest.mark.parametrize("losses", [FALLING[::-1], [1.5] * 10])
def test_check_learning_refuses_a_loss_that_rose_or_stood_still(losses: list[float]) -> None:
    with pytest.raises(NothingLearned, match="did not fall") as caught:
        check_learning(curve(*losses), TrainingConfig())
    assert "first and the last 5 of 10" in caught.value.where
    assert not is_retryable(caught.value)


def test_check_learning_allows_for_noise() -> None:
    # Means 2.0 and 2.2, variances 0.5: 2.2 < 2.0 + 3 * sqrt(0.1 + 0.1) = 3.342
    first, last = [1.0, 2.0, 2.0, 2.0, 3.0], [1.2, 2.2, 2.2, 2.2, 3.2]
    assert check_learning(curve(*first, *last), TrainingConfig()) == ""
    with pytest.raises(NothingLearned, match=r"below 3\.3416"):
        check_learning(curve(*first, *(loss + 1.2 for loss in last)), TrainingConfig())


def share_refused(rise_errors: float) -> float:
    """Of 2000 curves of two times 5 losses, whose end lies higher by so many standard errors."""
    draw = random.Random(4)
    error = math.sqrt(2 / 5)
    n_refused = 0
    for _ in range(2000):
        first = [100 + draw.gauss() for _ in range(5)]
        last = [100 + rise_errors * error + draw.gauss() for _ in range(5)]
        try:
            check_learning(curve(*first, *last), TrainingConfig())
        except NothingLearned:
            n_refused += 1
    return n_refused / 2000


def test_check_learning_is_rarely_wrong_and_finds_what_rises() -> None:
    assert share_refused(-1) < 0.01
    assert share_refused(0) < 0.02
    assert share_refused(6) > 0.95


def test_check_learning_wants_the_fraction_asked_for() -> None:
    # The mean falls from 1.8 to 0.8; variances are 0.025, so noise allows 3 * sqrt(0.01) = 0.3.
    for fraction, has_learned in ((0.7, True), (0.8, False)):
        training = TrainingConfig(guards=GuardSettings(min_learning_fraction=fraction))
        if has_learned:
            assert check_learning(curve(*FALLING), training) == ""
        else:
            with pytest.raises(NothingLearned, match=r"below 0\.6600"):
                check_learning(curve(*FALLING), training)


def test_check_learning_wants_one_measurement_below_the_first() -> None:
    assert check_learning(measurements(3.0, 2.9, 3.5), EARLY) == ""
    with pytest.raises(NothingLearned, match=r"3\.0000 at step 2, the best"):
        check_learning(measurements(3.0, 3.1, 3.0), EARLY)


def test_check_learning_leaves_single_measurements_alone() -> None:
    assert check_learning(measurements(3.0), EARLY) == ""
    assert check_learning(measurements(3.0, 3.0), TrainingConfig(eval_steps=1)) == ""  # a trial


class Flow:
    """What the trainer hands to its callbacks."""

    def __init__(self, log: list[dict[str, Any]]) -> None:
        self.log_history = log
        self.global_step = int(log[-1]["step"])
        self.should_training_stop = False


def test_loss_guard_stops_early_and_names_the_best_step() -> None:
    told: list[str] = []
    guard: Any = make_loss_guard(EARLY, told.append)
    for losses, is_over in (((3.0, 2.0, 2.1), False), ((3.0, 2.0, 2.1, 2.2), True)):
        flow = Flow(measurements(*losses))
        guard.on_evaluate(None, flow, flow)
        assert flow.should_training_stop is is_over
    assert told == [
        "stopped early at step 3: the validation loss no longer fell; it was lowest at step 1 (2.0000)"
    ]


def test_loss_guard_does_not_stop_early_unless_asked_to() -> None:
    flow = Flow(measurements(3.0, 4.0, 5.0, 6.0))
    guard: Any = make_loss_guard(TrainingConfig(eval_steps=1), pytest.fail)
    guard.on_evaluate(None, flow, flow)
    assert not flow.should_training_stop


@pytest.mark.parametrize(("name", "kind"), [("loss", "the loss"), ("eval_loss", "the validation")])
def test_loss_guard_refuses_losses_that_are_not_finite(name: str, kind: str) -> None:
    flow = Flow(curve(2.0))
    guard: Any = make_loss_guard(TrainingConfig(), pytest.fail)
    with pytest.raises(LossNotFinite, match=kind):
        guard.on_log(None, flow, flow, logs={name: math.nan})


def test_loss_guard_reads_the_log_so_that_a_resumed_training_goes_on_counting() -> None:
    guard: Any = make_loss_guard(TrainingConfig(guards=SETTINGS), pytest.fail)
    flow = Flow(curve(*[1.0] * 20, 5.0, 5.0))  # all but the last entry come from a checkpoint
    with pytest.raises(LossSpike):
        guard.on_log(None, flow, flow, logs={"loss": 5.0})
