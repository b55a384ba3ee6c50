"""`sft-flow sweep`: try settings of the training and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from flows.cli.console import (
    echo,
    is_debug,
    keep_stdout_clean,
    print_json,
    print_table,
    quiet_libraries,
)
from flows.cli.options import config_options, json_option
from schemas.config.sweep import nest
from schemas.errors import TrainingError, TrainingInterrupted
from tasks.engine.extras import require
from tasks.engine.wording import duration, number

if TYPE_CHECKING:
    from schemas.config.run import RunConfig
    from schemas.config.sweep import SweepConfig
    from tasks.sweep.results import SweepReport


def run_sweep(
    config_path: Path | None,
    overrides: Sequence[str],
    *,
    sweep_path: Path | None,
    searches: Sequence[str],
    is_json: bool,
    **limits: Any,
) -> None:
    """Run the trials and print them; a TrainingError when none was finished."""
    from schemas.config.file import load_config
    from schemas.config.sweep import check_space, load_sweep

    config = load_config(config_path, overrides)
    sweep, places = load_sweep(sweep_path, searches, limits)
    check_space(config, sweep, places)
    report = _run_flow(config, sweep)
    if is_json:
        print_json(report.model_dump(mode="json"))
    else:
        show_sweep(report)
    if report.best is None:
        raise TrainingError(
            "no trial was trained to its end",
            where=str(report.folder),
            expected="at least one whose loss could be measured at the end",
            got=", ".join(trial.error or trial.outcome.value for trial in report.trials[-3:]),
            fix="narrow the search space, e.g. to lower learning rates; the logs say what failed",
        )


def _run_flow(config: RunConfig, sweep: SweepConfig) -> SweepReport:
    quiet_libraries()
    require("optuna", "`sft-flow sweep`")
    from flows.cli.failures import short_failures
    from flows.cli.screen import run_screen
    from flows.services.temporary_server import prefect_api, set_prefect_environment

    set_prefect_environment()
    with (
        keep_stdout_clean(),
        run_screen(has_stages=False) as screen,
        prefect_api(),
        short_failures(is_wanted=not is_debug()),
    ):
        from flows.sweep_training import sweep_training

        if screen:
            screen.adopt_logging()
        try:
            return sweep_training(config, sweep)
        except (KeyboardInterrupt, TrainingInterrupted):
            echo(
                "The same command continues the sweep: finished trials are not repeated, "
                "and the one that was stopped resumes at its checkpoint.",
                err=True,
            )
            raise


def show_sweep(report: SweepReport) -> None:
    """Print the trials and the best settings."""
    headings = ["trial", "state", "settings", "validation loss", "time"]
    rows = []
    for trial in report.trials:
        settings = "\n".join(f"{key}={_shown(value)}" for key, value in trial.settings.items())
        state = trial.outcome.value + (" (best)" if trial == report.best else "")
        if trial.error:
            state += f"\n{trial.error}"
        rows.append(
            [
                str(trial.number),
                state,
                settings,
                number(trial.validation_loss),
                duration(trial.seconds),
            ]
        )
    print_table(headings, rows)
    echo()
    if report.is_timed_out:
        echo("Time was up before all trials were made; the same command continues.")
    if report.best:
        echo("Best settings:")
        echo(yaml.safe_dump({"training": nest(report.best.settings)}, sort_keys=False))
        echo(f"Train, evaluate and register with them: sft-flow run -c {report.best_config}")
    echo(f"Study: sqlite:///{report.folder / 'study.db'}")
    echo(f"MLflow run: {report.mlflow_run_id}; each trial is a run below it")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@click.command()
@click.option(
    "--sweep",
    "sweep_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File with the search space (.yaml or .toml).",
)
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="KEY=VALUES",
    help="Search a setting, e.g. learning_rate=1e-5..1e-3:log or lora.r=[8, 16]. Can be repeated.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Total number of trials, including earlier ones.  [default: 20]",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Start no new trial after this time.",
)
@config_options
@json_option
def sweep(config_path: Path | None, overrides: Sequence[str], **asked: Any) -> None:
    """Search the training settings with the lowest validation loss.

    Writes the best configuration to best.yaml. Running the command again resumes it.
    """
    run_sweep(config_path, overrides, **asked)
