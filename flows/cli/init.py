"""`sft-flow init`: a configuration and deployments for one's own data."""

from __future__ import annotations

import glob
import os
import re
import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, quiet_libraries
from flows.cli.options import debug_option, json_option

if TYPE_CHECKING:
    from flows.cli.project_files import Project
    from schemas.config.run import RunConfig
    from tasks.sources.source import ResolvedSource

NAMELESS = "my-model"
MAX_NAME = 80


@dataclass(frozen=True)
class Wanted:
    """The options of the command, as they were given."""

    source: str
    model: str | None
    name: str | None
    columns: str | None


def write_project(wanted: Wanted, folder: Path) -> Project:
    """Propose a configuration for some data, and write it into a folder with its deployments.

    Args:
        wanted: What the command was called with.
        folder: Where the files are written, all of them or none.

    Returns:
        What the files say.

    Raises:
        UsageError: A path is not UTF-8 text, no data is named, or its address contains a secret.
    """
    from flows.cli.project_files import Project, new_files, project_files
    from tasks.dataset.column_mapping import propose_columns
    from tasks.engine.files import require_new_files, write_new_files
    from tasks.engine.redaction import without_secrets
    from tasks.sources.source import SourceKind, resolve_source

    for text in (wanted.source, wanted.model or "", str(folder.absolute())):
        if not _is_utf8(text):
            raise click.UsageError(f"{click.format_filename(text)} is not UTF-8; rename it")
    if not wanted.source.strip():
        raise click.UsageError("--data is empty; is a variable unset?")
    files = new_files(folder)
    require_new_files(folder, files)
    if without_secrets(wanted.source) != wanted.source:
        raise click.UsageError(
            "--data contains a password or a signed query, which would be stored in sft-flow.yaml and "
            "shown; give credentials in the environment"
        )
    config = _checked(wanted)
    resolved = resolve_source(config.data.source)
    model = _checked_model(config, folder) if wanted.model else config.model.source
    proposal = propose_columns(config.data.source)
    source = wanted.source
    if resolved.kind is SourceKind.LOCAL:
        source = path_from(folder, source.removeprefix("file://"))
    project = Project(source, model, wanted.name or _name_of(resolved), proposal, files)
    write_new_files(folder, project_files(project))
    return project


def _checked(wanted: Wanted) -> RunConfig:
    """Check the options as the settings that they become, and name them in errors."""
    from schemas.config.file import load_config
    from schemas.config.plain_yaml import yaml_text
    from schemas.errors import ConfigError

    given = {
        "data.source.source": ("--data", yaml_text(wanted.source)),
        "model.source": ("--model", yaml_text(wanted.model) if wanted.model is not None else None),
        "registry.name": ("--name", yaml_text(wanted.name) if wanted.name is not None else None),
        "data.source.columns": ("--columns", wanted.columns),
    }
    overrides = [f"{key}={value}" for key, (_, value) in given.items() if value is not None]
    try:
        return load_config(None, overrides)
    except ConfigError as error:
        for key, (option, _) in given.items():
            if key in error.where:
                error.where = option
        raise


def _is_utf8(text: str) -> bool:
    """Return False for a name with bytes that a YAML file cannot contain."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _checked_model(config: RunConfig, folder: Path) -> str:
    """Check a model as far as its files are on this machine; return it as found from the folder."""
    from tasks.models.files import check_folders
    from tasks.models.source import SourceKind, resolve_source

    source = config.model.source
    found = resolve_source(source)
    if found.kind is SourceKind.FOLDER:
        check_folders(found.path, found.path, config.model)
    on_disk = found.kind in (SourceKind.FOLDER, SourceKind.GGUF)
    return path_from(folder, source) if on_disk else source


def path_from(folder: Path, name: str) -> str:
    """Write a path or pattern of the current folder as it is found from another folder.

    Args:
        folder: Where it will be read.
        name: Relative to the current folder, or absolute.

    Returns:
        A relative path for what is in the folder, otherwise an absolute one.
    """
    target, here, base = os.path.expanduser(name), os.getcwd(), os.path.abspath(folder)
    if not os.path.exists(target) and glob.has_magic(target):
        here, base = glob.escape(here), glob.escape(base)
    path = os.path.normpath(os.path.join(here, target))
    if path != base and not path.startswith(f"{base.rstrip('/')}/"):
        return path
    inside = os.path.relpath(path, base)
    # A bare word could name bundled data, and these signs begin or mark other kinds of names.
    is_plain = any(sign in inside for sign in "./") and not re.search(r"^~|:", inside)
    return inside if is_plain else f"./{inside}"


def _name_of(resolved: ResolvedSource) -> str:
    """Make a registered name of a source's file, folder, address or Hub id."""
    from tasks.sources.source import SourceKind

    stem = resolved.source.source.rpartition("/")[2]
    if resolved.kind is SourceKind.ADDRESS:
        stem = Path(urlsplit(resolved.source.source).path).name.split(".")[0]
    elif resolved.kind is SourceKind.LOCAL:
        folders = [file.absolute().parent for file in resolved.files]
        is_one = len(folders) == 1
        stem = (
            resolved.files[0].name.split(".")[0]
            if is_one
            else Path(os.path.commonpath(folders)).name
        )
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", ascii_only).strip("-._")[:MAX_NAME]
    return name or NAMELESS


def next_commands(folder: Path) -> list[str]:
    """Return the commands to run after the files are written."""
    from flows.cli.project_files import CONFIGURATION

    is_here = os.path.abspath(folder) == os.getcwd()
    change = [] if is_here else [f"cd {shlex.quote(str(folder))}"]
    return change + [f"sft-flow {name} -c {CONFIGURATION}" for name in ("check", "plan", "run")]


def show_project(project: Project, folder: Path) -> None:
    """Print what was found and written, and what to do next."""
    from flows.cli.project_files import IGNORED, PROJECT, describe_mapping, describe_sample
    from flows.services.own_packages import hidden_message, hiding_packages
    from tasks.dataset.column_mapping import shown_list
    from tasks.models.bundled import BUNDLED_COMMAND, BUNDLED_NAME, bundled_distribution

    echo(f"Columns: {shown_list(project.proposal.seen)}")
    echo(describe_mapping(project.proposal))
    echo(f"Row rules, on the first rows: {describe_sample(project.proposal)}")
    echo(f"Model: {project.model}, registered as {project.name}")
    if project.model == BUNDLED_NAME and bundled_distribution() is None:
        echo(f"The model is not installed: {BUNDLED_COMMAND}")
    echo(f"Written: {', '.join(str(folder / name) for name in project.files)}")
    if IGNORED not in project.files:
        echo(f"{folder / IGNORED} is kept; it should list .sft/")
    for hiding in hiding_packages(folder):
        echo(f"warning: {hidden_message(hiding)}", err=True)
    echo("\nNext; check shows every broken rule and how to fix it:")
    for command in next_commands(folder):
        echo(f"  {command}")
    echo(f"To schedule it, see the top of {PROJECT}.")


def print_project(project: Project, folder: Path) -> None:
    """Print the same as one JSON document."""
    proposal = project.proposal
    document = {
        "files": [str(folder / name) for name in project.files],
        "source": project.source,
        "model": project.model,
        "name": project.name,
        "seen": list(proposal.seen),
        "columns": dict(proposal.columns),
        "reason": proposal.reason,
        "n_rows": proposal.outcome.n_rows,
        "n_kept_rows": proposal.outcome.n_kept_rows,
        "broken": {str(rule): count for rule, count in proposal.outcome.n_broken.items()},
        "next": next_commands(folder),
    }
    print_json(document)


@click.command(short_help="Write a configuration and deployments for your data.")
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option(
    "--data",
    "source",
    required=True,
    metavar="SOURCE",
    help="File, folder, quoted pattern, address, Hub id or bundled name.",
)
@click.option(
    "--model",
    metavar="SOURCE",
    help="Model folder, .gguf file, Hub id or models:/name@alias.  [default: the demo's model]",
)
@click.option(
    "--name", metavar="NAME", help="Registered model name.  [default: made of the data's name]"
)
@click.option(
    "--columns",
    metavar="MAPPING",
    help="Column of each field, e.g. '{prompt: q, completion: a}'.  [default: found in the data]",
)
@json_option
@debug_option
def init(
    folder: Path,
    source: str,
    model: str | None,
    name: str | None,
    columns: str | None,
    is_json: bool,
) -> None:
    """Write sft-flow.yaml, prefect.yaml and .gitignore into FOLDER for your data.

    FOLDER is the current folder by default. The first 1,000 rows are read to find out which columns
    are prompt and answer. Existing files are never overwritten.
    """
    quiet_libraries()
    with keep_stdout_clean():
        project = write_project(Wanted(source, model, name, columns), folder)
    (print_project if is_json else show_project)(project, folder)
