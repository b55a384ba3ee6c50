"""`sft-flow export`: export a registered version to a folder, to GGUF, or to the Hub."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, quiet_libraries
from flows.cli.options import debug_option, json_option


@click.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--overwrite", "is_overwriting", is_flag=True, help="Replace an earlier export.")
@click.option("--gguf", "is_gguf", is_flag=True, help="Also convert to GGUF (needs llama.cpp).")
@click.option(
    "--push-to-hub",
    "repository",
    metavar="OWNER/NAME",
    help="Also push to the Hub; private unless --public.",
)
@click.option(
    "--public", "is_public", is_flag=True, help="Make the new repository on the Hub public."
)
@debug_option
@json_option
def export(
    model: str,
    folder: Path,
    is_overwriting: bool,
    is_gguf: bool,
    repository: str | None,
    is_public: bool,
    is_json: bool,
) -> None:
    """Export a registered version to FOLDER, for transformers to load.

    MODEL is NAME (its champion), NAME@alias or NAME/VERSION.
    """
    quiet_libraries()
    from tasks.release.export import (
        export_version,
        find_converter,
        push_to_hub,
        read_address,
        write_gguf,
    )

    with keep_stdout_clean():
        converter = find_converter() if is_gguf else None
        lineage = export_version(read_address(model), folder, is_overwriting=is_overwriting)
        gguf = write_gguf(folder, converter) if converter else None
        address = push_to_hub(folder, repository, is_public=is_public) if repository else None
    found = {"folder": str(folder), "gguf": str(gguf) if gguf else None, "hub": address}
    if is_json:
        print_json({**found, "name": lineage["name"], "version": lineage["version"]})
        return
    echo(f"{lineage['name']} version {lineage['version']}: {folder}")
    for place in (gguf, address):
        if place:
            echo(str(place))
