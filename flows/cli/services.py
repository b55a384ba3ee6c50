"""`sft-flow up` and `down`: local services."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, print_table, quiet_libraries
from flows.cli.options import debug_option, json_option
from flows.services.own_packages import hidden_message, hiding_packages
from flows.services.state import Service


@click.command(short_help="Start a Prefect server, the MLflow UI and a worker.")
@click.option(
    "--prefect-port",
    type=click.IntRange(1, 65535),
    default=4200,
    show_default=True,
    help="Port of the Prefect server.",
)
@click.option(
    "--mlflow-port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Port of the MLflow UI.",
)
@click.option(
    "--pool",
    default="sft-local",
    show_default=True,
    help="Work pool of the worker; created if missing.",
)
@click.option("--no-worker", is_flag=True, help="Start only the two servers.")
@json_option
@debug_option
def up(prefect_port: int, mlflow_port: int, pool: str, no_worker: bool, is_json: bool) -> None:
    """Start a Prefect server, the MLflow UI and a worker on this machine.

    Services that are already running are kept.
    """
    quiet_libraries()
    from flows.services.local import ServiceOptions, start_services
    from flows.services.state import ServiceName, lock_services

    options = ServiceOptions(prefect_port, mlflow_port, pool, has_worker=not no_worker)
    with keep_stdout_clean(), lock_services(_tell):
        started = start_services(options)
    for hiding in hiding_packages(Path.cwd()):
        echo(f"warning: {hidden_message(hiding)}", err=True)
    if started.crashed:
        echo(f"marked Crashed, without a heartbeat: {', '.join(started.crashed)}", err=True)
    if is_json:
        services = [one.model_dump() for one in started.services]
        print_json({"api": started.api, "mlflow": started.mlflow, "services": services})
        return
    rows = [
        [one.name, "started" if one.name in started.new else "already running", *_place(one)]
        for one in started.services
    ]
    print_table(["service", "", "process", "at", "log"], rows)
    if ServiceName.MLFLOW not in {one.name for one in started.services}:
        echo(f"\nno MLflow UI was started: using the configured {started.mlflow}")
    echo(f"\nexport PREFECT_API_URL={started.api}")
    echo("prefect deploy --all        # in the folder with prefect.yaml")
    echo("sft-flow down               # stops these services")


@click.command()
@json_option
@debug_option
def down(is_json: bool) -> None:
    """Stop the services that `sft-flow up` started.

    Active runs save a checkpoint first.
    """
    quiet_libraries()
    from flows.services.local import stop_services
    from flows.services.state import lock_services

    with keep_stdout_clean(), lock_services(_tell):
        stopped = stop_services()
    if is_json:
        print_json([one.model_dump() for one in stopped])
    elif stopped:
        print_table(
            ["stopped", "process", "at", "log"], [[one.name, *_place(one)] for one in stopped]
        )
    else:
        echo("no services of `sft-flow up` are running")


def _place(service: Service) -> list[str]:
    return [str(service.pid), service.address, service.log]


def _tell(sentence: str) -> None:
    echo(sentence, err=True)
