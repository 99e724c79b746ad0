"""`doctor`: what is set, what is missing, what is wrong. It looks at everything before it judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
from msgspec import Struct

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.doctor_checks import (
    at_database,
    at_online,
    at_proxy,
    at_service,
    at_settings,
    at_simulated,
    at_versions,
)
from runner.cli.findings import Finding
from runner.cli.messages import print_error
from runner.cli.options import base_url_option, json_option
from runner.errors import RunnerError
from runner.views.safe_text import safe_text

MARKS = {"ok": "ok", "note": "--", "warning": "!!", "broken": "XX"}
COLORS = {"ok": "green", "note": None, "warning": "yellow", "broken": "red"}


class Part(Struct, frozen=True, kw_only=True):
    """One part of the examination."""

    name: str
    look: Callable[[Context], Iterator[Finding]]


PARTS = (
    Part(name="versions", look=at_versions),
    Part(name="settings", look=at_settings),
    Part(name="database", look=at_database),
    Part(name="simulated", look=at_simulated),
    Part(name="proxy", look=at_proxy),
    Part(name="service", look=at_service),
)
ONLINE = Part(name="online", look=at_online)


@command("doctor", examples=("runner doctor", "runner doctor --online", "runner doctor --json"))
@click.option("--online", is_flag=True, help="Also ask the service who we are; that costs nothing.")
@base_url_option
@json_option
def doctor(context: Context, online: bool) -> int:
    """Key and where it comes from, address, database, proxy, versions. Exit 0 unless something is broken."""
    found: list[Finding] = []
    errors: list[RunnerError] = []
    for part in (*PARTS, *((ONLINE,) if online else ())):
        try:
            found += part.look(context)
        except RunnerError as error:
            errors.append(error)
            found.append(Finding(part=part.name, state="broken", text=error.message, name=error.name))
    code = errors[0].exit_code if errors else 0
    if context.json:
        context.print_json(
            {"healthy": not errors, "exit": code, "findings": [finding.as_json() for finding in found]}
        )
        return code
    for finding in found:
        click.echo(_line(finding))
    for broken in errors:
        print_error(broken)
    return code


def _line(finding: Finding) -> str:
    mark: Any = click.style(MARKS[finding.state], fg=COLORS[finding.state])
    return f"{mark}  {finding.part:9}  {safe_text(finding.text)}"
