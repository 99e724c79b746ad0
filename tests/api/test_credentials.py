"""Which key is taken, what is refused, and where a key may not go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.api.credentials import Credential, find_credential
from runner.errors import CredentialsRefused
from runner.settings import load_settings

KEY, OTHER = "sk-ant-api-CANARY-one", "sk-ant-api-CANARY-two"
GATEWAY = "https://gateway.example"


def found(cwd: Path, env: Mapping[str, str], *, dotenv: str = "", project: str = "", user: str = "") -> Credential:
    (cwd / ".env").write_text(dotenv)
    (cwd / "runner.toml").write_text(project)
    config = cwd / "home" / ".config" / "runner"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.toml").write_text(user)
    return find_credential(load_settings({"HOME": str(cwd / "home"), **env}, cwd).service)


def test_an_explicit_key_goes_before_all(tmp_path: Path) -> None:
    service = load_settings({"ANTHROPIC_API_KEY": KEY, "HOME": str(tmp_path)}, tmp_path).service
    assert find_credential(service, explicit=OTHER).secret == OTHER


def test_the_api_key_goes_before_the_token(tmp_path: Path) -> None:
    both = found(tmp_path, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": OTHER})
    assert (both.kind, both.secret, both.source) == ("api_key", KEY, "ANTHROPIC_API_KEY")
    token = found(tmp_path, {"ANTHROPIC_AUTH_TOKEN": OTHER})
    assert (token.kind, token.secret, token.source) == ("bearer", OTHER, "ANTHROPIC_AUTH_TOKEN")
    assert token.header() == ("authorization", f"Bearer {OTHER}")


def test_a_key_of_dotenv_is_named_so(tmp_path: Path) -> None:
    assert found(tmp_path, {}, dotenv=f"ANTHROPIC_API_KEY={KEY}").source == "ANTHROPIC_API_KEY in .env"


def test_no_key_is_an_error_that_helps(tmp_path: Path) -> None:
    with pytest.raises(CredentialsRefused) as raised:
        found(tmp_path, {"ANTHROPIC_API_KEY": ""})
    assert (raised.value.name, raised.value.exit_code) == ("no-credentials", 5)
    assert "export ANTHROPIC_API_KEY" in "".join(raised.value.hints)


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "sk ant", "sk-änt", "sk\x00", "sk\x7f", "\t"])
def test_a_key_that_cannot_be_one_is_refused_before_use(key: str, tmp_path: Path) -> None:
    with pytest.raises(CredentialsRefused) as raised:
        found(tmp_path, {"ANTHROPIC_API_KEY": key})
    assert raised.value.name == "bad-key"
    assert "CANARY" not in str(raised.value)


def test_a_key_never_shows_more_than_its_end() -> None:
    credential = Credential(kind="api_key", secret=KEY, source="x")
    assert KEY not in f"{credential} {credential!r} {credential.shown}"
    assert credential.shown == "...-one"
    assert Credential(kind="api_key", secret="short", source="x").shown == "..."


BESIDE = f"ANTHROPIC_BASE_URL={GATEWAY}\nANTHROPIC_API_KEY={OTHER}"
PROJECT_URL = f'base_url = "{GATEWAY}"'
PROJECT_BOTH = f'{PROJECT_URL}\napi_key = "{OTHER}"'


@pytest.mark.parametrize(
    ("env", "files", "secret"),
    [
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": GATEWAY}, {}, KEY),
        ({"ANTHROPIC_API_KEY": KEY}, {"user": PROJECT_URL}, KEY),
        ({}, {"dotenv": BESIDE}, OTHER),
        ({}, {"project": PROJECT_BOTH}, OTHER),
        ({"ANTHROPIC_API_KEY": KEY}, {"dotenv": "ANTHROPIC_BASE_URL=https://api.anthropic.com/"}, KEY),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": GATEWAY}, {"project": PROJECT_BOTH}, KEY),
    ],
)
def test_a_key_goes_where_its_owner_says(
    env: dict[str, str], files: dict[str, str], secret: str, tmp_path: Path
) -> None:
    assert found(tmp_path, env, **files).secret == secret


@pytest.mark.parametrize(
    ("env", "files"),
    [
        ({"ANTHROPIC_API_KEY": KEY}, {"dotenv": f"ANTHROPIC_BASE_URL={GATEWAY}"}),
        ({"ANTHROPIC_AUTH_TOKEN": KEY}, {"dotenv": f"ANTHROPIC_BASE_URL={GATEWAY}"}),
        ({"ANTHROPIC_API_KEY": KEY}, {"dotenv": BESIDE}),
        ({"ANTHROPIC_API_KEY": KEY}, {"project": PROJECT_URL}),
        ({"ANTHROPIC_API_KEY": KEY}, {"project": PROJECT_BOTH}),
        ({}, {"project": PROJECT_URL, "user": f'api_key = "{KEY}"'}),
        ({}, {"project": PROJECT_URL, "dotenv": f"ANTHROPIC_API_KEY={KEY}"}),
        ({"ANTHROPIC_API_KEY": KEY}, {"project": 'base_url = "http://127.0.0.1:9"'}),
        ({"ANTHROPIC_API_KEY": KEY}, {"dotenv": "ANTHROPIC_BASE_URL=https://api.anthropic.com.evil.example"}),
        ({"ANTHROPIC_API_KEY": KEY}, {"dotenv": "ANTHROPIC_BASE_URL=https://api.anthropic.com@evil.example"}),
    ],
)
def test_a_folder_cannot_take_the_key_elsewhere(env: dict[str, str], files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(CredentialsRefused) as raised:
        found(tmp_path, env, **files)
    assert raised.value.name == "foreign-address"
    assert "CANARY" not in f"{raised.value}{raised.value.hints}"
