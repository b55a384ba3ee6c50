"""PostgreSQL as Debian packages it, with a folder, a port and a password of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.engine.local_server import free_port
from tests.support.processes import running

USER = "sft"
DATABASES = ("mlflow", "mlflow_accounts", "prefect")
LOOPBACK = "127.0.0.1"
UNPRIVILEGED_USERS = ("postgres", "nobody")


def find_postgresql() -> Path | None:
    """Find its programs, the newest version first; Debian keeps them off the path.

    Returns:
        Their folder.
    """
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def running_postgresql(programs: Path, folder: Path) -> Iterator[str]:
    """Run it with its databases until the block ends.

    Args:
        programs: Where `find_postgresql` found it.
        folder: Gets its log.

    Yields:
        `user:password@host:port`.
    """
    port, password, user = free_port(), secrets.token_hex(16), _unprivileged_user()
    # Below /tmp itself: whom it runs as may not enter the folders of a test.
    with tempfile.TemporaryDirectory(prefix="sft-flow-postgresql-") as place:
        if user:
            shutil.chown(place, user)
        _make_cluster(programs, Path(place), password, user)
        options = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": place,
            "fsync": "off",  # the data are thrown away
        }
        command = [str(programs / "postgres"), "-D", f"{place}/data"]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        client = ["-h", LOOPBACK, "-p", str(port), "-U", USER]
        ready = [str(programs / "pg_isready"), "-q", *client]
        log = folder / "postgresql.log"
        with running(
            command, log, {}, lambda: subprocess.run(ready, check=False).returncode == 0, user=user
        ):
            for name in DATABASES:
                subprocess.run(
                    [str(programs / "createdb"), *client, name],
                    env={**os.environ, "PGPASSWORD": password},
                    check=True,
                )
            yield f"{USER}:{password}@{LOOPBACK}:{port}"


def _make_cluster(programs: Path, place: Path, password: str, user: str | None) -> None:
    password_file = place / "password"
    password_file.write_text(password, encoding="ascii")
    command = [str(programs / "initdb"), "-D", str(place / "data"), "--no-sync"]
    command += [f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
    subprocess.run(
        [*command, "--encoding=UTF8", "--locale=C.UTF-8"],
        stdout=subprocess.DEVNULL,
        check=True,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        cwd=place,
    )
    password_file.unlink()


def _unprivileged_user() -> str | None:
    """Say whom it runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED_USERS if name in known)
