"""`sft-flow`: the command line. Commands import heavy libraries only when they need them."""

from __future__ import annotations

import atexit
import gc

import click

from flows.cli.check import check
from flows.cli.clean import clean
from flows.cli.console import GuardedGroup, open_standard_streams
from flows.cli.doctor import doctor
from flows.cli.export import export
from flows.cli.history import history
from flows.cli.init import init
from flows.cli.notify import notify
from flows.cli.options import debug_option
from flows.cli.plan import plan
from flows.cli.promote import promote, rollback
from flows.cli.run import run
from flows.cli.services import down, up
from flows.cli.status import report, status
from flows.cli.sweep import sweep
from tasks.engine.home import prepare_environment

COMMANDS = (
    init,
    run,
    plan,
    check,
    sweep,
    status,
    report,
    doctor,
    promote,
    rollback,
    export,
    notify,
    up,
    down,
    history,
    clean,
)
COLLECT_AFTER_OBJECTS = 50_000


@click.group(cls=GuardedGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sft-flow", prog_name="sft-flow")
@debug_option
def main() -> None:
    """Fine-tune a chat model on a dataset, and promote it if it is measurably better.

    Outputs are stored in SFT_HOME (default: .sft in the current folder).

    Exit codes: 0 done, accepted or promoted; 1 data rejected or model refused; 2 wrong usage,
    configuration or unreadable input; 3 the run failed; 130 or 143 interrupted.
    """
    open_standard_streams()
    prepare_environment()
    # The default, every 700 new objects and once more at exit, takes a fifth of the time of a
    # cached run.
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    atexit.register(gc.freeze)


for _command in COMMANDS:
    main.add_command(_command)
