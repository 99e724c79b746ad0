"""`simulator`: the Claude API offline, on a port of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from runner.cli.command import command
from runner.cli.context import Context
from runner.errors import UsageInvalid

TIERS = ("start", "build", "scale")
PORT = click.IntRange(0, 65_535)
COUNT = click.IntRange(min=1)


@command(
    "simulator",
    examples=(
        "runner simulator --port 8080 --tier start --latency-ms 800",
        "ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_API_KEY=any runner run job.yaml",
    ),
)
@click.option("--port", type=PORT, default=0, help="0, the default, takes a free one and says which.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--seed", type=int, help="The same seed gives the same answers and faults.")
@click.option("--tier", type=click.Choice(TIERS), help="The rate limits of a usage tier; none without it.")
@click.option("--rpm", type=COUNT, metavar="N", help="Requests a minute.")
@click.option("--itpm", type=COUNT, metavar="N", help="Input tokens a minute.")
@click.option("--otpm", type=COUNT, metavar="N", help="Output tokens a minute.")
@click.option("--latency-ms", type=click.FloatRange(min=0), metavar="MS", help="How long an answer takes.")
@click.option("--config", metavar="FILE", help="A JSON object of settings, faults among them; flags go before it.")
def simulator(context: Context, port: int, host: str, config: str | None, **flags: Any) -> None:
    """Serve until Ctrl-C. The first line on stdout says where: any key is taken, nothing leaves this machine."""
    del context
    import msgspec

    from runner.simulator.config import config_from_json
    from runner.simulator.process import run_forever

    told = _from_file(config) if config else {}
    latency_ms = flags.pop("latency_ms")
    told |= {name: value for name, value in flags.items() if value is not None}
    if latency_ms is not None:
        told["latency_s"] = latency_ms / 1000
    try:
        settings = config_from_json(json.dumps(told))
    except (msgspec.ValidationError, ValueError) as problem:
        raise UsageInvalid(f"the simulator cannot be set up so: {problem}.") from None
    try:
        run_forever(settings, host, port)
    except OSError as problem:
        raise UsageInvalid(
            f"cannot listen on {host}:{port}: {problem.strerror or problem}.", hints=("--port 0 takes a free port",)
        ) from None


def _from_file(path: str) -> dict[str, Any]:
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageInvalid(f"{path} cannot be read as JSON: {problem}.") from None
    if not isinstance(told, dict):
        raise UsageInvalid(f"{path} must hold a JSON object.")
    return told
