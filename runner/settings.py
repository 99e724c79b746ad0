"""Settings: where, how fast, with whose key. What to run is the job's; nothing here changes a prompt or a model.

A value is taken from the first of: flag, process environment, `.env`, the project's `runner.toml` (or `[tool.runner]`
of its pyproject.toml), the user's `config.toml`, the default. Each remembers where it came from, for error messages,
for `doctor`, and because a file of a project may not direct the user's own key elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runner.errors import JobInvalid, UsageInvalid
from runner.settings_files import read_dotenv, read_project, read_user, user_folder
from runner.settings_values import SETTINGS, Unusable, simulated_beside, without_password

ENV, DOTENV, PROJECT, USER, FLAG, DEFAULT = "env", ".env", "project", "user", "flag", "default"


KNOWN_KEYS = frozenset(SETTINGS)
# The one header that places do not take from one another: its names add up.
BETA_HEADER = "anthropic-beta"


@dataclass(frozen=True, kw_only=True)
class HeaderSource:
    """Custom headers of one place, with the place in words."""

    place: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Service:
    """The settings of the service, as `api.credentials` looks at them. Secrets stay out of the repr.

    `header_sources` are the custom headers of every place that has some, the strongest first; `custom_headers` those
    of them all together.
    """

    api_key: str | None = field(default=None, repr=False)
    auth_token: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    base_url: str | None = field(default=None, repr=False)  # may hold a password until it is checked
    custom_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    header_sources: tuple[HeaderSource, ...] = field(default=(), repr=False)
    origin: Mapping[str, str] = field(default_factory=dict)
    layer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`origin[name]` is the place in words (a variable, a file, a flag), `layer[name]` its rank."""

    home: Path
    database_url: str = field(repr=False)
    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    tier: str | None = None
    concurrency: int | None = None
    max_usd: Decimal | None = None
    prices: str | None = None
    model_prices: Mapping[str, Any] = field(default_factory=dict)
    max_usd_day: Decimal | None = None
    max_usd_month: Decimal | None = None
    confirm_usd: Decimal | None = None
    batch_poll_s: float | None = None
    batch_window_s: float | None = None
    batch_settle_s: float | None = None
    batch_max_requests: int | None = None
    log_level: str = "info"
    log_format: str = "auto"
    no_input: bool = False
    service: Service = Service()
    project_file: Path | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    layer: Mapping[str, str] = field(default_factory=dict)
    simulated_database: str | None = field(default=None, repr=False)

    @property
    def prices_file(self) -> Path | None:
        """The table of prices of one's own. What a project's file names lies beside it."""
        if self.prices is None:
            return None
        near = self.project_file.parent if self.project_file and self.layer.get("prices") == PROJECT else Path()
        return near / Path(self.prices).expanduser()

    @property
    def shown_database_url(self) -> str:
        """The database, its password left out."""
        return without_password(self.database_url)

    @property
    def simulated_database_url(self) -> str:
        """The store of simulated runs, so that a rehearsal never answers for the real thing.

        On SQLite a file beside the real one. A real store on PostgreSQL does not tell where a second one may be, so
        it has to be named.
        """
        if self.simulated_database is not None:
            if self.simulated_database == self.database_url:
                raise JobInvalid("simulated runs need a store of their own.", name="simulated-store")
            return self.simulated_database
        if self.database_url.startswith("sqlite:"):
            return simulated_beside(self.database_url)
        raise JobInvalid(
            "simulated runs need a store of their own, and none is named.",
            name="simulated-store",
            hints=(f"fix: export RUNNER_SIMULATED_DATABASE_URL={sqlite_url(self.home / 'runner-simulated.db')}",),
        )


def load_settings(
    env: Mapping[str, str],
    cwd: Path,
    flags: Mapping[str, object] | None = None,
    *,
    use_dotenv: bool = True,
) -> Settings:
    """All settings. `flags` by setting name, None where not given. Raises UsageInvalid naming the culprit."""
    project = read_project(cwd, KNOWN_KEYS)
    user = read_user(env, KNOWN_KEYS)
    dotenv = read_dotenv(cwd / ".env") if use_dotenv else {}
    layers = (
        (FLAG, _of_flags(flags or {})),
        (ENV, _of_variables(env, "", cwd)),
        (DOTENV, _of_variables(dotenv, " in .env", cwd)),
        (PROJECT, _of_table(project.values, project.shown)),
        (USER, _of_table(user.values, user.shown)),
    )
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    layer: dict[str, str] = {}
    sources: list[HeaderSource] = []
    for rank, given in layers:
        if (headers := given.get("custom_headers")) is not None:
            sources.append(HeaderSource(place=headers[1], headers=_read("custom_headers", *headers)))
        for name, (told, place) in given.items():
            if name not in values:
                values[name], origin[name], layer[name] = _read(name, told, place), place, rank
    home = _home(env, project.folder)
    if "database_url" not in values:
        values["database_url"], origin["database_url"] = sqlite_url(home / "runner.db"), DEFAULT
        layer["database_url"] = DEFAULT
    values["header_sources"] = tuple(sources)
    values["custom_headers"] = together(sources)
    return _settings(values, origin, layer, home=home, project_file=project.path)


def together(sources: Iterable[HeaderSource]) -> Mapping[str, str]:
    """Each header as the strongest place says it, under the name that is written there; betas of all places."""
    found: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, value in source.headers.items():
            key = name.lower()
            if key == BETA_HEADER and key in found:
                value = f"{found[key][1]},{value}"  # noqa: PLW2901 - the names of both places
                found[key] = (found[key][0], value)
            found.setdefault(key, (name, value))
    return MappingProxyType(dict(found.values()))


def _settings(
    values: dict[str, Any],
    origin: dict[str, str],
    layer: dict[str, str],
    *,
    home: Path,
    project_file: Path | None,
) -> Settings:
    origins, layers = MappingProxyType(origin), MappingProxyType(layer)
    of_service = {
        name: values.pop(name)
        for name in ("api_key", "auth_token", "admin_key", "base_url", "custom_headers", "header_sources")
        if name in values
    }
    return Settings(
        home=home,
        service=Service(**of_service, origin=origins, layer=layers),
        project_file=project_file,
        origin=origins,
        layer=layers,
        simulated_database=values.pop("simulated_database_url", None),
        **values,
    )


_Given = dict[str, tuple[str, str]]  # setting: what was said, and where


def _of_flags(flags: Mapping[str, object]) -> _Given:
    unknown = flags.keys() - SETTINGS.keys()
    if unknown:
        raise TypeError(f"no such settings: {sorted(unknown)}")
    return {name: (str(value), f"--{name.replace('_', '-')}") for name, value in flags.items() if value is not None}


def _of_table(table: Mapping[str, object], shown: str) -> _Given:
    return {name: (_as_text(value), f"{name} in {shown}") for name, value in table.items()}


def _as_text(value: object) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if any(isinstance(part, Mapping) for part in value.values()):
        return json.dumps(value, default=str)
    return "\n".join(f"{name}: {part}" for name, part in value.items())


def _of_variables(env: Mapping[str, str], where: str, cwd: Path) -> _Given:
    return dict(_variables(env, where, cwd))


def _variables(env: Mapping[str, str], where: str, cwd: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, setting in SETTINGS.items():
        told = env.get(setting.variable) or None  # an empty variable is how shells and compose files say "unset"
        file_variable = f"{setting.variable}_FILE"
        path = (env.get(file_variable) or None) if setting.own else None
        if told is not None and path is not None:
            raise UsageInvalid(f"both {setting.variable} and {file_variable} are set{where}; keep one.")
        if path is not None:
            yield name, (_content(cwd / path, file_variable), file_variable + where)
        elif told is not None:
            yield name, (told, setting.variable + where)


def _content(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageInvalid(f"{variable} names a file that cannot be read: {error}") from None


def _read(name: str, told: str, place: str) -> Any:
    setting = SETTINGS[name]
    try:
        return setting.read(told)
    except Unusable as bad:
        raise UsageInvalid(f"{place} {bad}.") from None


def _home(env: Mapping[str, str], project_folder: Path | None) -> Path:
    """Where state is kept: what `RUNNER_HOME` says, `.runner/` of the project, else the user's state folder."""
    if told := env.get("RUNNER_HOME"):
        return Path(told).expanduser().absolute()
    if project_folder is not None:
        return project_folder / ".runner"
    state = env.get("XDG_STATE_HOME")
    # The XDG rules have relative paths ignored.
    base = Path(state) if state and Path(state).is_absolute() else user_folder(env) / ".local" / "state"
    return base / "runner"


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"
