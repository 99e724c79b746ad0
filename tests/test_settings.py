"""Settings: which place wins, what each value may be, and that secrets stay out of sight."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from runner.errors import JobInvalid, UsageInvalid
from runner.settings import Settings, load_settings


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "deep"
    folder.mkdir(parents=True)
    return folder


def loaded(cwd: Path, flags: dict[str, object] | None = None, *, use_dotenv: bool = True, **env: str) -> Settings:
    return load_settings({"HOME": str(cwd.parents[1] / "home"), **env}, cwd, flags, use_dotenv=use_dotenv)


def user_config(cwd: Path, text: str) -> None:
    path = cwd.parents[1] / "home" / ".config" / "runner" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_defaults(cwd: Path) -> None:
    told = loaded(cwd)
    home = cwd.parents[1] / "home" / ".local" / "state" / "runner"
    assert told.home == home
    assert told.database_url == f"sqlite:///{home}/runner.db"
    assert told.simulated_database_url == f"sqlite:///{home}/runner-simulated.db"
    assert told.origin == {"database_url": "default"}
    assert (told.rpm, told.concurrency, told.max_usd, told.no_input, told.log_level) == (
        None,
        None,
        None,
        False,
        "info",
    )
    assert told.service.base_url is None


def test_each_place_goes_before_the_next(cwd: Path) -> None:
    user_config(cwd, "rpm = 1\nitpm = 1\notpm = 1\nconcurrency = 1\nmax_usd = 1")
    (cwd.parent / "runner.toml").write_text("rpm = 2\nitpm = 2\notpm = 2\nconcurrency = 2")
    (cwd / ".env").write_text("RUNNER_RPM=3\nRUNNER_ITPM=3\nRUNNER_OTPM=3")
    told = loaded(cwd, {"rpm": 5, "itpm": None}, RUNNER_RPM="4", RUNNER_ITPM="4")
    assert (told.rpm, told.itpm, told.otpm, told.concurrency, told.max_usd) == (5, 4, 3, 2, Decimal(1))
    assert told.origin["rpm"] == "--rpm"
    assert told.origin["itpm"] == "RUNNER_ITPM"
    assert told.origin["otpm"] == "RUNNER_OTPM in .env"
    assert told.origin["concurrency"] == "concurrency in runner.toml"
    assert told.origin["max_usd"] == "max_usd in config.toml"
    assert [told.layer[name] for name in ("rpm", "itpm", "otpm", "concurrency", "max_usd")] == [
        "flag",
        "env",
        ".env",
        "project",
        "user",
    ]


def test_dotenv_can_be_left_out(cwd: Path) -> None:
    (cwd / ".env").write_text("RUNNER_RPM=3")
    assert loaded(cwd, use_dotenv=False).rpm is None


def test_dotenv_of_another_folder_is_not_read(cwd: Path) -> None:
    (cwd.parent / ".env").write_text("RUNNER_RPM=3")
    assert loaded(cwd).rpm is None


def test_state_lies_beside_the_project_file(cwd: Path) -> None:
    (cwd.parent / "runner.toml").write_text("")
    told = loaded(cwd)
    assert told.database_url == f"sqlite:///{cwd.parent}/.runner/runner.db"
    assert told.project_file == cwd.parent / "runner.toml"


def test_pyproject_counts_only_with_our_table(cwd: Path) -> None:
    (cwd / "pyproject.toml").write_text('[project]\nname = "x"')
    (cwd.parent / "pyproject.toml").write_text("[tool.runner]\nrpm = 7")
    told = loaded(cwd)
    assert (told.rpm, told.origin["rpm"]) == (7, "rpm in pyproject.toml")


def test_runner_home_and_xdg_say_where_state_lies(cwd: Path, tmp_path: Path) -> None:
    assert loaded(cwd, XDG_STATE_HOME="/var/s").home == Path("/var/s/runner")
    assert loaded(cwd, XDG_STATE_HOME="relative").home == tmp_path / "home" / ".local" / "state" / "runner"
    (cwd / "runner.toml").write_text("")
    assert loaded(cwd, RUNNER_HOME="/srv/r").home == Path("/srv/r")


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgres://u:p@h/db", "postgresql://u:p@h/db"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg://h/db"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_database_urls(cwd: Path, url: str, read: str) -> None:
    assert loaded(cwd, RUNNER_DATABASE_URL=url).database_url == read


@pytest.mark.parametrize(
    ("url", "simulated"),
    [
        ("sqlite:////a/runs.db", "sqlite:////a/runs-simulated.db"),
        ("sqlite:////a.b/runs", "sqlite:////a.b/runs-simulated"),
        ("sqlite:////a/runs.db?mode=rw", "sqlite:////a/runs-simulated.db?mode=rw"),
        ("sqlite:///runs.db", "sqlite:///runs-simulated.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
    ],
)
def test_simulated_runs_lie_beside(cwd: Path, url: str, simulated: str) -> None:
    assert loaded(cwd, RUNNER_DATABASE_URL=url).simulated_database_url == simulated


def test_on_postgresql_the_store_of_simulated_runs_must_be_named(cwd: Path) -> None:
    real = "postgresql://u:hush@h/db"
    with pytest.raises(JobInvalid, match="store of their own") as raised:
        _ = loaded(cwd, RUNNER_DATABASE_URL=real).simulated_database_url
    assert "RUNNER_SIMULATED_DATABASE_URL" in raised.value.hints[0]
    other = "sqlite:////tmp/s.db"
    told = loaded(cwd, RUNNER_DATABASE_URL=real, RUNNER_SIMULATED_DATABASE_URL=other)
    assert told.simulated_database_url == other
    with pytest.raises(JobInvalid):
        _ = loaded(cwd, RUNNER_DATABASE_URL=real, RUNNER_SIMULATED_DATABASE_URL=real).simulated_database_url


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("RUNNER_RPM", "many", "whole number"),
        ("RUNNER_RPM", "1.5", "whole number"),
        ("RUNNER_ITPM", "0", "at least 1"),
        ("RUNNER_OTPM", "-3", "at least 1"),
        ("RUNNER_CONCURRENCY", "1e3", "whole number"),
        ("RUNNER_BATCH_MAX_REQUESTS", "0", "at least 1"),
        ("RUNNER_BATCH_MAX_REQUESTS", "1.5", "whole number"),
        ("RUNNER_BATCH_POLL_S", "0", "above 0"),
        ("RUNNER_BATCH_WINDOW_S", "-1", "above 0"),
        ("RUNNER_BATCH_SETTLE_S", "10m", "number of seconds"),
        ("RUNNER_BATCH_SETTLE_S", "nan", "above 0"),
        ("RUNNER_BATCH_SETTLE_S", "inf", "above 0"),
        ("RUNNER_MAX_USD", "-1", "at least 0"),
        ("RUNNER_MAX_USD", "nan", "at least 0"),
        ("RUNNER_MAX_USD", "ten", "US dollars"),
        ("RUNNER_LOG_LEVEL", "loud", "one of debug"),
        ("RUNNER_LOG_FORMAT", "xml", "one of auto"),
        ("RUNNER_NO_INPUT", "maybe", "1 or 0"),
        ("RUNNER_DATABASE_URL", "mysql://u:hush@h/x", "must begin with"),
        ("ANTHROPIC_CUSTOM_HEADERS", "nonsense", "Name: value"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(cwd: Path, variable: str, value: str, why: str) -> None:
    with pytest.raises(UsageInvalid, match=variable) as raised:
        loaded(cwd, **{variable: value})
    assert why in str(raised.value)
    assert "hush" not in str(raised.value)


def test_values_are_read(cwd: Path) -> None:
    told = loaded(
        cwd,
        RUNNER_MAX_USD="$12.50",
        RUNNER_NO_INPUT="yes",
        RUNNER_LOG_LEVEL="DEBUG",
        RUNNER_ITPM="2_000_000",
        RUNNER_RPM="",
        ANTHROPIC_CUSTOM_HEADERS="X-Team: blue\n\n X-Url:  http://x:1 \n",
    )
    assert (told.max_usd, told.no_input, told.log_level) == (Decimal("12.50"), True, "debug")
    assert (told.itpm, told.rpm) == (2_000_000, None)
    assert told.service.custom_headers == {"X-Team": "blue", "X-Url": "http://x:1"}


def test_the_times_and_the_size_of_batches_are_read(cwd: Path) -> None:
    (cwd / "runner.toml").write_text("batch_settle_s = 30\nbatch_poll_s = 5")
    told = loaded(cwd, RUNNER_BATCH_POLL_S="0.25", RUNNER_BATCH_WINDOW_S="1e2", RUNNER_BATCH_MAX_REQUESTS="10_000")
    assert (told.batch_poll_s, told.batch_window_s, told.batch_settle_s) == (0.25, 100.0, 30.0)
    assert told.batch_max_requests == 10_000
    assert (loaded(cwd.parents[1]).batch_poll_s, loaded(cwd.parents[1]).batch_max_requests) == (None, None)


def test_a_value_may_lie_in_a_file(cwd: Path) -> None:
    (cwd / "url").write_text("sqlite:////a/b.db\n")
    told = loaded(cwd, RUNNER_DATABASE_URL_FILE=str(cwd / "url"))
    assert told.database_url == "sqlite:////a/b.db"
    assert told.origin["database_url"] == "RUNNER_DATABASE_URL_FILE"
    with pytest.raises(UsageInvalid, match="RUNNER_RPM_FILE"):
        loaded(cwd, RUNNER_RPM_FILE=str(cwd / "none"))
    with pytest.raises(UsageInvalid, match="both"):
        loaded(cwd, RUNNER_RPM_FILE=str(cwd / "url"), RUNNER_RPM="3")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ANTHROPIC_BASE_URL=https://a", "https://a"),
        ("  export ANTHROPIC_BASE_URL = https://a  # here", "https://a"),
        ("ANTHROPIC_BASE_URL='https://a#b' # c", "https://a#b"),
        ('ANTHROPIC_BASE_URL="https://a\\"b"', 'https://a"b'),
        ("ANTHROPIC_BASE_URL=https://a#b", "https://a#b"),
        ("\ufeffANTHROPIC_BASE_URL=https://a\r", "https://a"),
        ("ANTHROPIC_BASE_URL=$HOME", "$HOME"),
        ("# ANTHROPIC_BASE_URL=https://a", None),
        ("ANTHROPIC_BASE_URL=", None),
        ("ANTHROPIC_BASE_URL", None),
    ],
)
def test_lines_of_dotenv(cwd: Path, line: str, value: str | None) -> None:
    (cwd / ".env").write_text(f"{line}\n# more\nOTHER=1\n", newline="")
    assert loaded(cwd).service.base_url == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [("concurency = 3", "concurrency"), ("database-url = 'x'", "database_url"), ("zebra = 1", "known:")],
)
def test_an_unknown_key_is_named_with_the_nearest(cwd: Path, text: str, hint: str) -> None:
    (cwd / "runner.toml").write_text(text)
    with pytest.raises(UsageInvalid, match="unknown key") as raised:
        loaded(cwd)
    assert hint in raised.value.hints[0]


@pytest.mark.parametrize("text", ["rpm = [1]", "[rpm]\na = 1", "not toml"])
def test_a_project_file_that_makes_no_sense_is_an_error(cwd: Path, text: str) -> None:
    (cwd / "runner.toml").write_text(text)
    with pytest.raises(UsageInvalid, match=r"runner\.toml"):
        loaded(cwd)


def test_custom_headers_may_be_a_table(cwd: Path) -> None:
    (cwd / "runner.toml").write_text('[custom_headers]\nX-Team = "blue"')
    assert loaded(cwd).service.custom_headers == {"X-Team": "blue"}


def test_secrets_are_in_no_repr(cwd: Path) -> None:
    told = loaded(
        cwd,
        ANTHROPIC_API_KEY="CANARY-1",
        ANTHROPIC_AUTH_TOKEN="CANARY-2",
        ANTHROPIC_CUSTOM_HEADERS="X-Secret: CANARY-3",
        ANTHROPIC_BASE_URL="https://u:CANARY-6@h",
        RUNNER_DATABASE_URL="postgresql://me:CANARY-4@h:5/db?password=CANARY-5",
    )
    assert "CANARY" not in f"{told!r} {told} {told.service!r} {told.shown_database_url}"
    assert told.shown_database_url == "postgresql://me:***@h:5/db"


def test_an_unknown_flag_is_a_mistake_of_the_program(cwd: Path) -> None:
    with pytest.raises(TypeError):
        loaded(cwd, {"speed": 3})
