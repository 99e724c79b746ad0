"""Options that mean the same in every command.

Those that say how to speak or which settings to use go straight into the Context; those that name things (inputs,
outputs, parameters) are handed to the command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runner.cli.context import PROGRESS_KINDS, Context
from runner.domain.durations import up_to_a_year
from runner.domain.job import Mode

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


class CommonOption(click.Option):
    """One that every command has; help shows them last."""


def _into_context(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(ctx.ensure_object(Context), name, value)

    return keep


def _context_option(*declared: str, into: str, cls: type[click.Option] = click.Option, **told: Any) -> Any:
    return click.option(*declared, cls=cls, expose_value=False, callback=_into_context(into), **told)


def _no_color(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().color = False
        ctx.ensure_object(Context).no_color = True


def common_options(function: F) -> F:
    """`-q -v --no-color --no-env`; `command` gives them to every command."""
    for option in reversed(
        (
            _context_option("-q", "--quiet", into="quiet", cls=CommonOption, is_flag=True, help="Say only errors."),
            _context_option(
                "-v", "--verbose", into="verbosity", cls=CommonOption, count=True, help="Say more; -vv for the most."
            ),
            click.option(
                "--no-color",
                cls=CommonOption,
                is_flag=True,
                expose_value=False,
                callback=_no_color,
                help="No colours (as does NO_COLOR=1).",
            ),
            _context_option(
                "--no-env", into="no_env", cls=CommonOption, is_flag=True, help="Leave the folder's .env unread."
            ),
        )
    ):
        function = option(function)
    return function


json_option: Decorator[Any] = _context_option(
    "--json", into="json", is_flag=True, help="One JSON document on stdout."
)
plain_option: Decorator[Any] = _context_option(
    "--plain", into="plain", is_flag=True, help="Every column, tabs between them, nothing cut off."
)
simulate_option: Decorator[Any] = _context_option(
    "--simulate", into="simulate", is_flag=True, help="Ask the built-in simulator: no key, no network, no cost."
)
of_simulated_option: Decorator[Any] = _context_option(
    "--simulate", into="simulate", is_flag=True, help="Of simulated runs, which have a store of their own."
)
progress_option: Decorator[Any] = _context_option(
    "--progress",
    into="progress",
    type=click.Choice(PROGRESS_KINDS),
    help="How to show progress on stderr. Without it: bar on a terminal, else plain.",
)
input_option: Decorator[Any] = click.option(
    "-i", "--input", "input_path", metavar="FILE", help="The input, instead of the job's; - is stdin."
)


def _one_character(_context: click.Context, _parameter: click.Parameter, told: str | None) -> str | None:
    if told is not None and (len(told) != 1 or told in '"\r\n'):
        raise click.BadParameter(f"{told!r} is not one character, such as ';'.")
    return told


delimiter_option: Decorator[Any] = click.option(
    "--delimiter", metavar="C", callback=_one_character, help="What stands between the values of a CSV, such as ';'."
)
encoding_option: Decorator[Any] = click.option(
    "--encoding", metavar="NAME", help="Of a CSV that is not UTF-8, such as cp1252."
)
output_option: Decorator[Any] = click.option(
    "-o", "--output", "output_path", metavar="FILE", help="Where results go; - is stdout."
)


mode_option: Decorator[Any] = click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    help="How to send: live, batch (half the price, within 24 h) or auto.",
)


def header_options(function: F) -> F:
    """`--beta NAME` and `--header 'Name: value'`, both as often as wanted."""
    beta = click.option(
        "--beta", "betas", multiple=True, metavar="NAME", help="Send this anthropic-beta too; may be repeated."
    )
    header = click.option(
        "--header", "headers", multiple=True, metavar="LINE", help="Send this 'Name: value' too; may be repeated."
    )
    return beta(header(function))


def duration(_context: click.Context, _parameter: click.Parameter, told: str | None) -> int | None:
    """The callback of an option that takes a time: `90d`, `6h`, or a number of seconds."""
    if told is None:
        return None
    try:
        return up_to_a_year(int(told) if told.isdecimal() else told)
    except ValueError as problem:
        raise click.BadParameter(f"{told!r} {problem}.") from None


def _rules(_ctx: click.Context, _parameter: click.Parameter, told: tuple[str, ...]) -> list[str] | None:
    """None where nothing was told, so that the job's own stand."""
    if not told:
        return None
    from runner.domain.nearest import did_you_mean
    from runner.domain.traps import TRAP_NAMES

    for name in told:
        if name not in TRAP_NAMES:
            raise click.BadParameter(f"there is no rule {name}{did_you_mean(name, TRAP_NAMES)}")
    return list(told)


allow_option: Decorator[Any] = click.option(
    "--allow",
    "allow",
    multiple=True,
    metavar="RULE",
    callback=_rules,
    help="Send what this rule would refuse, as messages name it; may be repeated. Instead of the job's `allow`.",
)


def limited_to(text: str, **told: Any) -> Decorator[Any]:
    """`-n/--limit N`; what is limited, the command says."""
    return click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help=text, **told)


limit_option: Decorator[Any] = limited_to("Only the first N rows of the input.")


def _params(_ctx: click.Context, _parameter: click.Parameter, told: tuple[str, ...]) -> dict[str, str]:
    return _pairs(told)


def _pairs(told: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for pair in told:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE")
        pairs[name] = value
    return pairs


param_option: Decorator[Any] = click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="K=V",
    callback=_params,
    help="A parameter of the job's templates; may be given several times.",
)


def _set_values(_ctx: click.Context, _parameter: click.Parameter, told: tuple[str, ...]) -> dict[str, Any]:
    if not told:
        return {}
    from runner.files.job_yaml import YamlInvalid, read_value

    values = {}
    for path, text in _pairs(told).items():
        try:
            values[path] = read_value(text)
        except YamlInvalid as problem:
            raise click.BadParameter(f"{path}={text}: {problem}") from None
    return values


set_option: Decorator[Any] = click.option(
    "--set",
    "set_values",
    multiple=True,
    metavar="PATH=VALUE",
    callback=_set_values,
    help="A value of the job by its path, as limits.rpm=100 or schedule=null; may be given several times.",
)


def _into_settings(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.ensure_object(Context).flags[name] = value

    return keep


def _setting_option(flag: str, metavar: str, text: str) -> Any:
    name = flag.removeprefix("--").replace("-", "_")
    return click.option(flag, metavar=metavar, expose_value=False, callback=_into_settings(name), help=text)


base_url_option: Decorator[Any] = _setting_option("--base-url", "URL", "Where the API is; it receives your key.")


def pace_options(function: F) -> F:
    """`--max-usd --concurrency --rpm --itpm --otpm`: settings that go before the job's own limits; and `--tier`."""
    for option in reversed(
        (
            _setting_option("--max-usd", "X", "Spend at most this many dollars; the run pauses before it would."),
            _setting_option("--concurrency", "N", "At most this many requests at once."),
            _setting_option("--rpm", "N", "At most this many requests a minute."),
            _setting_option("--itpm", "N", "At most this many input tokens a minute."),
            _setting_option("--otpm", "N", "At most this many output tokens a minute."),
            _setting_option("--tier", "NAME", "Usage tier of the organisation: start, build or scale."),
        )
    ):
        function = option(function)
    return function
