"""`files`: what lies at the service, put there, looked at, fetched, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from runner.api.client import Client
from runner.api.files import FileInfo, Files, free_path, safe_name
from runner.cli.command import ExampleGroup, command
from runner.cli.context import Context
from runner.cli.messages import say, warning
from runner.cli.options import base_url_option, json_option, limited_to, plain_option
from runner.cli.service import ask_service, good
from runner.domain.attachment import MAX_FILE_BYTES, Attachment
from runner.domain.outcome import Failure
from runner.engine.file_desk import FileDesk
from runner.engine.written_files import fetch_written
from runner.errors import UsageInvalid
from runner.files.output_folders import OutputFolders
from runner.files.row_files import expires_s, media_type_of
from runner.views.durations import moment_told
from runner.views.numbers import brief, count
from runner.views.safe_text import safe_line
from runner.views.tables import Column, facts_lines, table_lines

SHOWN = 50


@click.group(
    "files",
    cls=ExampleGroup,
    examples=(
        "runner files ls",
        "runner files upload scans/*.pdf --expires 7d",
        "runner files download file_011C -o out",
    ),
)
def files() -> None:
    """Files at the service: free, and seen by every key of the workspace."""


@command("ls", examples=("runner files ls", "runner files ls --all --json"))
@limited_to("How many files.", default=SHOWN, show_default=True)
@click.option("--all", "every", is_flag=True, help="All of them.")
@base_url_option
@json_option
@plain_option
def ls(context: Context, limit: int, every: bool) -> None:
    """Files of the workspace, newest first."""

    async def listed(client: Client) -> list[FileInfo]:
        found: list[FileInfo] = []
        async for told in Files(client).every():
            found.append(good(client, told))
            if not every and len(found) == limit:
                break
        return found

    found = ask_service(context, listed)
    if context.json:
        context.print_json({"files": [_as_json(one) for one in found]})
        return
    if not found:
        context.note("there are no files.   runner files upload FILE   puts one there")
        return
    console = context.stdout_console()
    columns = (Column(title="id"), Column(title="name", most=40), Column(title="size", right=True),
               Column(title="kind", most=30), Column(title="expires"), Column(title="made"))  # fmt: skip
    when = (lambda told: told) if context.plain else moment_told
    cells = [
        (
            one.id,
            one.filename,
            f"{brief(one.size_bytes)}B",
            one.mime_type,
            when(one.expires_at) if one.expires_at else "never",
            when(one.created_at),
        )
        for one in found
    ]
    for line in table_lines(columns, cells, console.width if console.is_terminal else None, plain=context.plain):
        click.echo(line)


@command("upload", examples=("runner files upload scans/*.pdf", "runner files upload data.csv --expires 7d --json"))
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--expires", metavar="TIME", help="Let the service delete it after this: 1h to 90d.")
@base_url_option
@json_option
def upload(context: Context, paths: tuple[Path, ...], expires: str | None) -> None:
    """Put files there. A content that this runner has uploaded before is not uploaded again."""
    attachments = [_attachment(path, expires_s(expires, "--expires")) for path in paths]
    with context.store() as store:

        async def uploaded(client: Client) -> list[tuple[str, bool]]:
            desk = FileDesk(Files(client), store, context.clock, client.connection.credential.fingerprint)
            found = []
            for attachment in attachments:
                before = desk.uploads
                file_id = good(client, await desk.file_id(attachment))
                found.append((file_id, desk.uploads > before))
            return found

        found = ask_service(context, uploaded)
    if context.json:
        told = [
            {"path": str(path), "id": file_id, "uploaded": new}
            for path, (file_id, new) in zip(paths, found, strict=True)
        ]
        context.print_json({"files": told})
        return
    for path, (file_id, new) in zip(paths, found, strict=True):
        click.echo(f"{file_id}  {safe_line(str(path))}{'' if new else '   was there already'}")


def _attachment(path: Path, life_s: int | None) -> Attachment:
    try:
        about = path.stat()
    except OSError as problem:
        raise UsageInvalid(f"{path} cannot be read: {problem.strerror}.") from None
    if not path.is_file():
        raise UsageInvalid(f"{path} is no file.")
    if not 0 < about.st_size <= MAX_FILE_BYTES:
        raise UsageInvalid(f"{path} has {about.st_size:,} bytes; the Files API takes 1 to {MAX_FILE_BYTES:,}.")
    return Attachment(
        path=str(path.absolute()),
        size=about.st_size,
        changed_ns=about.st_mtime_ns,
        media_type=media_type_of(path),
        expires_s=life_s,
    )


@command("show", examples=("runner files show file_011C",))
@click.argument("file_id", metavar="ID")
@base_url_option
@json_option
def show(context: Context, file_id: str) -> None:
    """One file: its name, size, kind, and how long it stays."""

    async def shown(client: Client) -> FileInfo:
        return good(client, await Files(client).show(file_id))

    found = ask_service(context, shown)
    if context.json:
        context.print_json(_as_json(found))
        return
    facts = [
        ("file", found.id),
        ("name", safe_line(found.filename)),
        ("size", f"{count(found.size_bytes)} bytes"),
        ("kind", safe_line(found.mime_type)),
        ("made", moment_told(found.created_at)),
        ("expires", moment_told(found.expires_at) if found.expires_at else "never"),
        ("download", "yes" if found.downloadable else "no: only what code execution and skills have written"),
    ]
    for line in facts_lines(facts):
        click.echo(line)


@command("download", examples=("runner files download file_011C -o out", "runner files download --run latest -o out"))
@click.argument("file_ids", metavar="[ID...]", nargs=-1)
@click.option("--run", "label", metavar="RUN", help="All files that the answers of this run tell of.")
@click.option(
    "-o", "--output", "folder", metavar="DIR", type=click.Path(path_type=Path),
    help="Where to put them; without it here, those of a run where its job says.",
)  # fmt: skip
@base_url_option
@json_option
def download(context: Context, file_ids: tuple[str, ...], label: str | None, folder: Path | None) -> None:
    """Fetch files that code execution and skills have written.

    Names come from the service: they are made harmless, and nothing that is there is written over. With --run each
    row has a folder of its own, named by its number or as the job's output.files says, and what is there already is
    not fetched again.
    """
    if bool(file_ids) == (label is not None):
        raise UsageInvalid("name files, or a run with --run.", hints=("runner files ls",))
    got = _fetched(context, file_ids, folder or Path()) if label is None else _fetched_of_run(context, label, folder)
    if context.json:
        context.print_json({"files": [{"id": file_id, "path": str(path)} for file_id, path in got]})
        return
    for file_id, path in got:
        click.echo(f"{file_id}  {path}")
    if not got:
        say("no answer of this run tells of a file.")


def _fetched(context: Context, file_ids: Sequence[str], folder: Path) -> list[tuple[str, Path]]:
    async def fetched(client: Client) -> list[tuple[str, Path]]:
        files_, got = Files(client), []
        for file_id in file_ids:
            about = good(client, await files_.show(file_id))
            to = free_path(folder, safe_name(about.filename, about.id))
            good(client, await files_.download(file_id, to))
            got.append((file_id, to))
        return got

    folder.mkdir(parents=True, exist_ok=True)
    return ask_service(context, fetched)


def _fetched_of_run(context: Context, label: str, folder: Path | None) -> list[tuple[str, Path]]:
    with context.found_run(label) as (store, run):
        place = str(folder) if folder is not None else run.job.output.files or "."
        folders = OutputFolders(place, run.job, run.label)

        async def fetched(client: Client) -> list[tuple[str, Path]]:
            got = []
            async for one in fetch_written(Files(client), store.exported(run), folders.folder):
                if one.path is None:
                    good(client, one.failure)
                else:
                    got.append((one.file_id, one.path))
            return got

        return ask_service(context, fetched)


@command("rm", examples=("runner files rm file_011C", "runner files rm --uploaded -y"))
@click.argument("file_ids", metavar="[ID...]", nargs=-1)
@click.option("--uploaded", is_flag=True, help="All that this runner has uploaded to this workspace.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@base_url_option
def rm(context: Context, file_ids: tuple[str, ...], uploaded: bool, yes: bool) -> None:
    """Delete files at the service. Runs that need them again upload them again."""
    if bool(file_ids) == uploaded:
        raise UsageInvalid("name files, or --uploaded.", hints=("runner files ls",))
    with context.store() as store:

        async def ours(client: Client) -> list[str]:
            known = [good(client, told).id async for told in Files(client).every()]
            kept = {one.file_id for one in store.files_of_ids(known)}
            return [file_id for file_id in known if file_id in kept]

        doomed = list(file_ids) or ask_service(context, ours)
        if not doomed:
            say("there is nothing to delete.")
            return
        if not yes and uploaded:
            _confirm(context, len(doomed))

        async def deleted(client: Client) -> list[str]:
            gone = []
            for file_id in doomed:
                told = await Files(client).delete(file_id)
                if isinstance(told, Failure) and told.status == 404:
                    warning("no-such-file", f"{file_id} is not there.")
                    missing.add(file_id)
                elif isinstance(told, Failure):
                    good(client, told)
                gone.append(file_id)
            return gone

        missing: set[str] = set()
        gone = ask_service(context, deleted)
        batched = iter(gone)
        while part := list(islice(batched, 500)):
            store.forget_files(part)
    for file_id in gone:
        if file_id not in missing:
            click.echo(f"deleted {file_id}")


def _confirm(context: Context, many: int) -> None:
    if context.settings.no_input:
        raise UsageInvalid(f"{many:,} files would be deleted, and nobody may be asked.", hints=("say --yes",))
    click.confirm(f"Delete {many:,} files?", abort=True, err=True)


def _as_json(one: FileInfo) -> dict[str, Any]:
    return {
        "id": one.id,
        "filename": one.filename,
        "mime_type": one.mime_type,
        "size_bytes": one.size_bytes,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "downloadable": one.downloadable,
    }


for _one in (ls, upload, show, download, rm):
    files.add_command(_one)
