"""`skills`: what code execution may be taught, kept in the workspace and used by jobs through `container.skills`."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec.structs import asdict

from runner.api.client import Client
from runner.api.skills import SkillInfo, Skills, VersionInfo
from runner.cli.command import ExampleGroup, command
from runner.cli.context import Context
from runner.cli.options import base_url_option, json_option, plain_option
from runner.cli.service import ask_service, good
from runner.domain.outcome import Failure
from runner.errors import UsageInvalid
from runner.files.skill_folder import read_skill
from runner.views.durations import moment_told
from runner.views.safe_text import safe_line
from runner.views.tables import Column, facts_lines, table_lines

SOURCES = ("custom", "anthropic")


@click.group(
    "skills",
    cls=ExampleGroup,
    examples=("runner skills ls", "runner skills create letters/", "runner skills create letters/ --to skill_01AbC"),
)
def skills() -> None:
    """Skills of the workspace. A job uses them with a code execution tool and container: { skills: [...] }."""


@command("ls", examples=("runner skills ls", "runner skills ls --source custom"))
@click.option("--source", type=click.Choice(SOURCES), help="Only these.")
@base_url_option
@json_option
@plain_option
def ls(context: Context, source: str | None) -> None:
    """Skills that jobs may use, newest first."""

    async def listed(client: Client) -> list[SkillInfo]:
        return [good(client, told) async for told in Skills(client).every(source)]

    found = ask_service(context, listed)
    if context.json:
        context.print_json({"skills": [asdict(one) for one in found]})
        return
    when = (lambda told: told) if context.plain else moment_told
    names = ("id", "name", "source", "latest version", "changed")
    columns = [Column(title=name, most=40) for name in names]
    cells = [(one.id, one.name, one.source, one.latest_version or "none", when(one.updated_at)) for one in found]
    console = context.stdout_console()
    for line in table_lines(columns, cells, console.width if console.is_terminal else None, plain=context.plain):
        click.echo(line)


@command("create", examples=("runner skills create letters/", "runner skills create letters.zip --to skill_01AbC"))
@click.argument("path", metavar="FOLDER|ZIP", type=click.Path(path_type=Path))
@click.option("--name", metavar="TEXT", help="What it is called in lists; without it, as SKILL.md says.")
@click.option("--to", "skill_id", metavar="ID", help="Add a version to this skill, instead of making a new one.")
@base_url_option
@json_option
def create(context: Context, path: Path, name: str | None, skill_id: str | None) -> None:
    """Make a skill of a folder or a zip with SKILL.md at its top. It is looked at before anything is sent."""
    if name is not None and skill_id is not None:
        raise UsageInvalid("--name is for new skills; --to adds a version to one that has a name.")
    skill = read_skill(path)

    async def made(client: Client) -> tuple[str, str]:
        if skill_id is None:
            found = good(client, await Skills(client).create(skill.files, name))
            return found.id, found.latest_version or ""
        version = good(client, await Skills(client).add_version(skill_id, skill.files))
        return skill_id, version.id

    made_id, version = ask_service(context, made)
    if context.json:
        context.print_json({"id": made_id, "version": version, "name": skill.name})
        return
    click.echo(f"{made_id}  version {version}  {skill.name}")
    context.note("a job uses it with   container: { skills: [{ type: custom, skill_id: " + made_id + " }] }")


@command("show", examples=("runner skills show xlsx",))
@click.argument("skill_id", metavar="ID")
@base_url_option
@json_option
def show(context: Context, skill_id: str) -> None:
    """One skill."""

    async def shown(client: Client) -> SkillInfo:
        return good(client, await Skills(client).show(skill_id))

    found = ask_service(context, shown)
    if context.json:
        context.print_json(asdict(found))
        return
    for line in facts_lines(
        [(name.replace("_", " "), safe_line(str(value))) for name, value in asdict(found).items()]
    ):
        click.echo(line)


@command("versions", examples=("runner skills versions skill_01AbC",))
@click.argument("skill_id", metavar="ID")
@base_url_option
@json_option
@plain_option
def versions(context: Context, skill_id: str) -> None:
    """The versions of a skill, newest first. Each is a full copy."""

    async def listed(client: Client) -> list[VersionInfo]:
        return [good(client, told) async for told in Skills(client).versions(skill_id)]

    found = ask_service(context, listed)
    if context.json:
        context.print_json({"versions": [asdict(one) for one in found]})
        return
    columns = (
        Column(title="version"),
        Column(title="name"),
        Column(title="made"),
        Column(title="description", most=60),
    )
    when = (lambda told: told) if context.plain else moment_told
    cells = [(one.id, one.name, when(one.created_at), one.description) for one in found]
    console = context.stdout_console()
    for line in table_lines(columns, cells, console.width if console.is_terminal else None, plain=context.plain):
        click.echo(line)


@command("rm", examples=("runner skills rm skill_01AbC", "runner skills rm skill_01AbC --version skver_01X"))
@click.argument("skill_id", metavar="ID")
@click.option("--version", metavar="ID", help="Only this version.")
@base_url_option
def rm(context: Context, skill_id: str, version: str | None) -> None:
    """Delete a skill with all its versions, or one of them. Runs that use it fail from then on."""

    async def deleted(client: Client) -> None:
        told = await Skills(client).delete(skill_id, version)
        if isinstance(told, Failure):
            good(client, told)

    ask_service(context, deleted)
    click.echo(f"deleted {skill_id}" + (f" version {version}" if version else ""))


for _one in (ls, create, show, versions, rm):
    skills.add_command(_one)
