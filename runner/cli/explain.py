"""`explain`: what an error of the service means, what becomes of the rows, and what to do."""

from __future__ import annotations

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.cli.options import json_option
from runner.domain.explanations import (
    ERROR_CODES,
    ERROR_TYPES,
    EXPLANATIONS,
    Explanation,
    Fate,
    explained,
    nearest_code,
)
from runner.domain.nearest import suggest
from runner.domain.traps import TRAP_NAMES
from runner.errors import UsageInvalid
from runner.views.tables import facts_lines


@command("explain", examples=("runner explain rate_limit_error", "runner explain 413", "runner explain --all"))
@click.argument("code", metavar="CODE", required=False)
@click.option("--all", "every", is_flag=True, help="Every status, type and code that this program knows.")
@json_option
def explain(context: Context, code: str | None, every: bool) -> None:
    """What an error means: its HTTP status, its type or its error code, as messages of this program show them."""
    if every:
        _print_all(context)
        return
    if code is None:
        raise UsageInvalid("which error?", hints=("runner explain CODE", "runner explain --all   lists them"))
    found = explained(code) or _rule(code)
    if found is None:
        near = nearest_code(code) or suggest(code, TRAP_NAMES)
        hints = [f"did you mean {near} ?"] if near else []
        hints.append("runner explain --all   lists those that are known")
        raise UsageInvalid(f"there is no explanation of {code!r}.", name="unknown-code", hints=hints)
    if context.json:
        context.print_json(_as_json(found))
        return
    for line in facts_lines(_facts(found)):
        click.echo(line)


def _rule(name: str) -> Explanation | None:
    """A rule by which this program itself refuses requests, as its messages name it."""
    if name not in TRAP_NAMES:
        return None
    return Explanation(
        code=name,
        status=400,
        means="by this rule runner refuses a request before it is sent, because the API is known to refuse it",
        fate=Fate.COMMAND,
        fix=f"what the message says; where the rule is wrong, allow: [{name}] in the job or --allow {name}",
    )


def _facts(found: Explanation) -> list[tuple[str, str]]:
    status = "" if found.status is None or str(found.status) == found.code else f"   HTTP {found.status}"
    return [("code", found.code + status), ("means", found.means), ("rows", found.rows), ("fix", found.fix)]


def _as_json(found: Explanation) -> dict[str, object]:
    return {
        "code": found.code,
        "status": found.status,
        "means": found.means,
        "rows": found.rows,
        "fate": found.fate,
        "fix": found.fix,
    }


def _print_all(context: Context) -> None:
    if context.json:
        context.print_json({"errors": [_as_json(found) for found in EXPLANATIONS.values()]})
        return
    width = max(map(len, EXPLANATIONS))
    for found in EXPLANATIONS.values():
        kind = "type" if found.code in ERROR_TYPES else "code" if found.code in ERROR_CODES else ""
        click.echo(f"{found.code:{width}}  {kind:4}  {found.means}")
