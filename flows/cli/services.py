"""`sft-flow up` and `down`: the services of one machine."""

from __future__ import annotations

import click

from flows.cli.console import keep_stdout_clean, print_json, print_table, quiet_libraries
from flows.cli.options import debug_option, json_option
from flows.services.state import Service


@click.command()
@click.option("--prefect-port", type=click.IntRange(1, 65535), default=4200, show_default=True)
@click.option("--mlflow-port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option(
    "--pool", default="sft-local", show_default=True, help="Work pool; made when missing."
)
@click.option("--no-worker", is_flag=True, help="Start the two servers only.")
@json_option
@debug_option
def up(prefect_port: int, mlflow_port: int, pool: str, no_worker: bool, is_json: bool) -> None:
    """Start a Prefect server, the MLflow page and a worker; what runs already is left alone."""
    quiet_libraries()
    from flows.services.local import Wanted, start_services
    from flows.services.state import ServiceName, hold_services

    wanted = Wanted(prefect_port, mlflow_port, pool, has_worker=not no_worker)
    with keep_stdout_clean(), hold_services(_tell):
        started = start_services(wanted)
    if is_json:
        services = [one.model_dump() for one in started.services]
        print_json({"api": started.api, "mlflow": started.mlflow, "services": services})
        return
    rows = [
        [one.name, "started" if one.name in started.new else "runs already", *_place(one)]
        for one in started.services
    ]
    print_table(["service", "", "process", "at", "log"], rows)
    if ServiceName.MLFLOW not in {one.name for one in started.services}:
        click.echo(f"\nno MLflow page was started: the configured {started.mlflow} is used")
    click.echo(f"\nexport PREFECT_API_URL={started.api}")
    click.echo("prefect deploy --all        # in the folder with prefect.yaml")
    click.echo("sft-flow down               # stops just these")


@click.command()
@json_option
@debug_option
def down(is_json: bool) -> None:
    """Stop what `sft-flow up` started here; runs at work save a checkpoint first."""
    quiet_libraries()
    from flows.services.local import stop_services
    from flows.services.state import hold_services

    with keep_stdout_clean(), hold_services(_tell):
        stopped = stop_services()
    if is_json:
        print_json([one.model_dump() for one in stopped])
    elif stopped:
        print_table(
            ["stopped", "process", "at", "log"], [[one.name, *_place(one)] for one in stopped]
        )
    else:
        click.echo("nothing runs that `sft-flow up` started here")


def _place(service: Service) -> list[str]:
    return [str(service.pid), service.address, service.log]


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)
