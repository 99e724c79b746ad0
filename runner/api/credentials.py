"""Which key is used, where it came from, and where it may go.

A key goes only to an address that was named by whoever gave the key: the process environment, the user's own
configuration or a flag. Files that come along with a project may name an address only beside its own key, so that a
cloned folder cannot carry a key away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import urlsplit

from runner.api.proxies import is_loopback
from runner.domain.job import DEFAULT_BASE_URL
from runner.errors import CredentialsRefused

Kind = Literal["api_key", "bearer"]

# In the order in which they are looked at.
KINDS: Mapping[str, Kind] = {"api_key": "api_key", "auth_token": "bearer"}
VARIABLES = {"api_key": "ANTHROPIC_API_KEY", "auth_token": "ANTHROPIC_AUTH_TOKEN"}
ADMIN_VARIABLE = "ANTHROPIC_ADMIN_KEY"
# Below this many characters a key's last four would be a good part of it.
SHOWABLE_LENGTH = 12
# Origins of a base URL that come with a folder rather than from its user.
FROM_THE_FOLDER = frozenset({".env", "project"})


class Places(Protocol):
    """What is looked at: the settings' view of the service. `origin` says where a value came from, and `layer`
    which kind of place that is: flag, env, .env, project, user or default."""

    @property
    def api_key(self) -> str | None: ...
    @property
    def auth_token(self) -> str | None: ...
    @property
    def admin_key(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def origin(self) -> Mapping[str, str]: ...
    @property
    def layer(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """A key ready to be sent. It never appears in its own repr."""

    kind: Kind
    secret: str = field(repr=False)
    source: str

    def __post_init__(self) -> None:
        check_secret(self.secret, self.source)

    @property
    def shown(self) -> str:
        """What people may see of it."""
        return f"...{self.secret[-4:]}" if len(self.secret) >= SHOWABLE_LENGTH else "..."

    @property
    def fingerprint(self) -> str:
        """Tells one key from another, and no more: a short keyed hash."""
        return hashlib.blake2b(self.secret.encode(), key=b"runner key fingerprint", digest_size=8).hexdigest()

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind!r}, secret={self.shown!r}, source={self.source!r})"

    def header(self) -> tuple[str, str]:
        """The header that carries it."""
        return ("x-api-key", self.secret) if self.kind == "api_key" else ("authorization", f"Bearer {self.secret}")


def check_secret(secret: str, source: str) -> None:
    """A key that was pasted with its newline or quotes is named here, not by a 401 after a thousand rows."""
    if not secret or not all("!" <= letter <= "~" for letter in secret):
        trouble = "is empty" if not secret.strip() else "holds a space, a line break or a letter outside ASCII"
        raise CredentialsRefused(
            f"the key from {source} {trouble}.",
            name="bad-key",
            hints=("copy it again, without quotes or line breaks",),
        )


def find_credential(places: Places, *, explicit: str | None = None) -> Credential:
    """The key to use: an explicit one, then `ANTHROPIC_API_KEY`, then `ANTHROPIC_AUTH_TOKEN`.

    Raises CredentialsRefused where there is none, or where it must not go to the base URL.
    """
    if explicit is not None:
        return Credential(kind="api_key", secret=explicit, source="argument")
    for name, kind in KINDS.items():
        secret = getattr(places, name)
        if secret:
            source = places.origin.get(name, VARIABLES[name])
            _check_may_go(places, name, source)
            return Credential(kind=kind, secret=secret, source=source)
    raise CredentialsRefused(
        "no Anthropic credentials found.",
        name="no-credentials",
        hints=(
            "looked at: ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN",
            "fix: export ANTHROPIC_API_KEY=...   then: runner doctor",
        ),
    )


def find_admin_credential(places: Places) -> Credential | None:
    """The key for the Admin API, None where none is set. Raises where it must not go to the base URL."""
    if not places.admin_key:
        return None
    source = places.origin.get("admin_key", ADMIN_VARIABLE)
    _check_may_go(places, "admin_key", source)
    return Credential(kind="api_key", secret=places.admin_key, source=source)


def _check_may_go(places: Places, name: str, source: str) -> None:
    """The rule of this module, for the key that was chosen."""
    base_url = places.base_url
    layer = places.layer.get("base_url")
    if base_url is None or base_url.rstrip("/") == DEFAULT_BASE_URL or layer not in FROM_THE_FOLDER:
        return
    if places.layer.get(name) == layer:
        return
    where = places.origin.get("base_url", layer)
    raise CredentialsRefused(
        f"{where} names the address {host_of(base_url)}, but the key comes from {source}. Nothing was sent.",
        name="foreign-address",
        hints=(
            "a file of the project may not direct your own key elsewhere",
            "fix: put the key for that address beside it, or export ANTHROPIC_BASE_URL yourself",
        ),
    )


def check_base_url(url: str) -> str:
    """The base URL without a slash at its end; raises where a key could be read on the way."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _refused_address(url, str(error)) from error
    host = parts.hostname
    if parts.scheme not in ("https", "http") or not host:
        raise _refused_address(url, "it must begin with https:// and name a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise _refused_address(url, "it must hold no user, query or fragment")
    if not url.isascii() or any(letter.isspace() for letter in url):
        raise _refused_address(url, "it holds a space or a letter outside ASCII")
    if parts.scheme == "http" and not is_loopback(host):
        raise _refused_address(
            url, "http would send the key in the clear; only this machine itself may do without TLS"
        )
    return url.rstrip("/")


def host_of(url: str) -> str:
    """Host and port, never what may stand before an @."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _refused_address(url: str, why: str) -> CredentialsRefused:
    try:
        host = host_of(url) or "the base URL"
    except ValueError:
        host = "the base URL"
    return CredentialsRefused(f"{host} cannot be used as base URL: {why}.", name="base-url")
