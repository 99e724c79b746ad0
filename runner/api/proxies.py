"""Which proxy stands between us and a base URL, by the environment's usual variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # missing in typeshed


def is_loopback(host: str) -> bool:
    """This very machine, by name or number."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(base_url: str, env: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None. `HTTPS_PROXY` or `HTTP_PROXY` by scheme, else `ALL_PROXY`, unless `NO_PROXY`
    exempts the host; lower-case spellings win. A loopback address is never reached through a proxy.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxy = _said(f"{parts.scheme}_proxy", env) or _said("all_proxy", env)
    if proxy is None or proxy_bypass_environment(
        parts.netloc.rpartition("@")[2], {"no": _said("no_proxy", env) or ""}
    ):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _said(name: str, env: Mapping[str, str]) -> str | None:
    # In a CGI process HTTP_PROXY is a header of the visitor, not a setting (httpoxy).
    if name == "http_proxy" and "REQUEST_METHOD" in env:
        return env.get(name) or None
    return env.get(name) or env.get(name.upper()) or None
