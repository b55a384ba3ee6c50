from __future__ import annotations

from pathlib import Path

import click
from click.testing import CliRunner

from flows.cli.console import DEBUG
from flows.cli.options import config_options, json_option, refresh_option

got: list[object] = []


@click.command()
@json_option
@refresh_option
@config_options
@click.pass_context
def command(context: click.Context, /, **options: object) -> None:
    got[:] = [options, context.meta.get(DEBUG)]


def test_options_reach_the_command() -> None:
    words = ["-c", "a.yaml", "--set", "a=1", "--set", "b=2", "--json", "--refresh", "decide"]
    assert CliRunner().invoke(command, [*words, "--debug"]).exit_code == 0
    options = {"config_path": Path("a.yaml"), "overrides": ("a=1", "b=2")}
    assert got == [{**options, "is_json": True, "refresh": ("decide",)}, True]


def test_options_may_be_left_out() -> None:
    assert CliRunner().invoke(command, []).exit_code == 0
    options = {"config_path": None, "overrides": ()}
    assert got == [{**options, "is_json": False, "refresh": ()}, None]


def test_refresh_takes_stages_only() -> None:
    refused = CliRunner().invoke(command, ["--refresh", "nothing"])
    assert refused.exit_code == 2
    assert "train_model" in refused.output
