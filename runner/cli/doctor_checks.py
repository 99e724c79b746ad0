"""The doctor's single looks. Each gives findings, or raises the error that a run would end with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from runner import __version__
from runner.api.credentials import check_base_url, find_credential, host_of
from runner.api.proxies import proxy_for
from runner.cli.context import Context, sqlite_file_exists
from runner.cli.findings import Finding, State
from runner.domain.job import DEFAULT_BASE_URL
from runner.errors import JobInvalid, SchemaMismatch, StoreFault
from runner.store.database import Database
from runner.store.tables import HEAD_REVISION

SHOWN_VERSIONS = ("httpx", "sqlalchemy", "anyio")
SHOWN_SETTINGS = (
    "concurrency",
    "rpm",
    "itpm",
    "otpm",
    "tier",
    "max_usd",
    "prices",
    "batch_max_requests",
    "batch_poll_s",
    "batch_window_s",
    "batch_settle_s",
)
# SQLite's locks and write-ahead log need a file system of this machine.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)


def _finding(part: str, text: str, state: State = "ok") -> Finding:
    return Finding(part=part, state=state, text=text)


def at_versions(context: Context) -> Iterator[Finding]:
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN_VERSIONS)
    yield _finding("versions", f"runner {__version__}, Python {platform.python_version()}, {others}")
    yield _finding("versions", f"{sys.platform}, prices of {context.prices.version}", "note")


def at_settings(context: Context) -> Iterator[Finding]:
    settings = context.settings
    where = str(settings.project_file) if settings.project_file else "none found; runner init writes one"
    yield _finding("settings", f"project file: {where}", "note")
    yield _finding("settings", f"state folder: {settings.home}", "note")
    for name in SHOWN_SETTINGS:
        if name in settings.origin:
            yield _finding("settings", f"{name} {getattr(settings, name)}, from {settings.origin[name]}", "note")


def at_database(context: Context) -> Iterator[Finding]:
    settings = context.settings
    yield from _store("database", settings.database_url, settings.origin.get("database_url", "default"))


def at_simulated(context: Context) -> Iterator[Finding]:
    try:
        url = context.settings.simulated_database_url
    except JobInvalid as error:
        yield _finding("simulated", f"{error.message} Only --simulate needs it.", "note")
        return
    if sqlite_file_exists(url):
        yield from _store("simulated", url, "beside the real one")
    else:
        yield _finding("simulated", "no simulated runs yet", "note")


def _store(part: str, url: str, origin: str) -> Iterator[Finding]:
    if not sqlite_file_exists(url):
        path = _sqlite_path(url)
        folder = path.parent
        _check_writable(folder)
        yield _finding(part, f"{path} ({origin}): made at first use")
        yield from _file_system(part, folder)
        return
    database = Database(url)
    try:
        revision = database.revision()
        yield _finding(part, f"{database.safe_url} ({origin}), revision {revision or 'none'}")
        _check_revision(revision, database)
        if database.is_sqlite:
            _check_writable(database.path)
            yield from _file_system(part, database.path)
            yield from _privacy(part, database.path)
    finally:
        database.close()


def _sqlite_path(url: str) -> Path:
    return Path(url.partition("://")[2].partition("?")[0].removeprefix("/"))


def _check_revision(revision: str | None, database: Database) -> None:
    """A SQLite file that is behind upgrades itself; everything else that differs stops a run."""
    if revision == HEAD_REVISION or (database.is_sqlite and (revision or "") < HEAD_REVISION):
        return
    ahead = (revision or "") > HEAD_REVISION
    raise SchemaMismatch(
        f"the database is at revision {revision or 'none'}, this runner needs {HEAD_REVISION}.",
        name="db-ahead" if ahead else "db-behind",
        hints=("install the newer runner that upgraded it",) if ahead else ("runner db upgrade",),
    )


def _check_writable(path: Path) -> None:
    while not path.exists():
        path = path.parent
    if not os.access(path, os.W_OK):
        raise StoreFault(
            f"{path} cannot be written.",
            name="database",
            hints=("set RUNNER_DATABASE_URL or RUNNER_HOME to a place that can be written",),
        )


def _privacy(part: str, path: Path) -> Iterator[Finding]:
    if path.stat().st_mode & 0o077:
        yield _finding(part, f"others may read {path}: chmod 600", "warning")


def _file_system(part: str, path: Path) -> Iterator[Finding]:
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS:
        text = f"it lies on a network file system ({kind}), where SQLite's locks are not to be trusted: move it"
        yield _finding(part, text, "warning")


def file_system_of(path: Path, mounts: str = "/proc/mounts") -> str | None:
    """The kind of file system below `path`; None where the system does not tell (macOS)."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place = path.absolute()
    best, kind = -1, None
    for line in lines:
        _device, point, found, *_rest = line.split(" ")
        folder = Path(point.replace("\\040", " "))
        if (folder == place or folder in place.parents) and len(folder.parts) >= best:
            best, kind = len(folder.parts), found
    return kind


def at_proxy(context: Context) -> Iterator[Finding]:
    base_url = context.settings.service.base_url or DEFAULT_BASE_URL
    proxy = proxy_for(base_url, os.environ)
    yield _finding("proxy", f"{host_of(proxy)} stands in between" if proxy else "none", "note")


def at_service(context: Context) -> Iterator[Finding]:
    service = context.settings.service
    base_url = check_base_url(service.base_url or DEFAULT_BASE_URL)
    yield _finding("service", f"{base_url}, from {service.origin.get('base_url', 'default')}")
    credential = find_credential(service)
    kind = "key" if credential.kind == "api_key" else "token"
    yield _finding("service", f"{kind} {credential.shown} from {credential.source}")
    if service.api_key and service.auth_token:
        yield _finding("service", f"{service.origin['auth_token']} is set too and is not used", "warning")


def at_online(context: Context) -> Iterator[Finding]:
    from runner.cli.service import ask_service

    origin = ask_service(context, lambda client: client.identify())
    yield _finding("online", f"organisation {origin.organization or 'not told'}")
    yield _finding("online", f"workspace {origin.workspace or 'not told'}")
