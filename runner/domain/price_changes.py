"""Prices of one's own over the shipped ones: a contract's, or those of a model newer than this release.

A table in the form of `models.json`, of which everything may be left out that stays as it is. For a model that is
known, the parts that are given replace its own; one that is not known needs at least `input` and `output`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from runner.domain.nearest import suggest
from runner.domain.pricing import PRICE_KINDS, PriceBook, price_book

# What the cache's prices are to that of input, for a model of which nothing else is said.
USUAL_CACHE_SHARES = {
    "cache_write_5m": Fraction("1.25"),
    "cache_write_1h": Fraction(2),
    "cache_read": Fraction("0.1"),
}
CACHE_KINDS = tuple(USUAL_CACHE_SHARES)
TOP_FIELDS = frozenset({"version", "units", "batch_multiplier", "server_tools", "models"})
# Of a model: its prices in dollars per million tokens, `multiplier` for all of them together, and facts.
NUMBERS = (*PRICE_KINDS, "multiplier")
FACTS: Mapping[str, type | tuple[type, ...]] = {
    "aliases": list,
    "line": str,
    "status": str,
    "limit_class": str,
    "released": str,
    "deprecated": str,
    "retires": str,
    "context_window": int,
    "max_output": int,
    "max_output_batch": int,
    "min_cache_tokens": int,
    "fast_multiplier": (int, float, str),
    "fast_beta": bool,
    "fast_until": str,
    "us_geo_multiplier": (int, float, str),
}
MODEL_FIELDS = frozenset({"id", "bands", *NUMBERS, *FACTS})
UNKNOWN_MODEL: Mapping[str, Any] = {
    "aliases": [],
    "line": "",
    "status": "active",
    "context_window": 200_000,
    "max_output": 64_000,
    "fast_multiplier": None,
    "us_geo_multiplier": None,
}


class PricesInvalid(ValueError):
    """Why a table of prices cannot be used, as a sentence without its full stop."""


def changed_prices(shipped: Mapping[str, Any], changes: Mapping[str, Any]) -> PriceBook:
    """The book of `shipped`, in its JSON form, with `changes`. Raises PricesInvalid.

    Its version names the changes too, so that no two tables that differ have the same one.
    """
    if not changes:
        return price_book(shipped)
    _only(changes, TOP_FIELDS, "the table of prices")
    models = {entry["id"]: dict(entry) for entry in shipped["models"]}
    ids = {alias: entry["id"] for entry in shipped["models"] for alias in entry["aliases"]}
    for entry in _models(changes):
        name = _name(entry)
        id_ = ids.get(name, name)
        models[id_] = _changed(models.get(id_, {}), {**entry, "id": id_})
    fees = {name: _amount(usd, f"server_tools.{name}") for name, usd in _fees(changes).items()}
    return price_book(
        {
            **shipped,
            "version": f"{changes.get('version', shipped['version'])}+{_digest(changes)}",
            "batch_multiplier": str(
                _amount(changes.get("batch_multiplier", shipped["batch_multiplier"]), "batch_multiplier")
            ),
            "server_tools": {**shipped["server_tools"], **{name: str(fee) for name, fee in fees.items()}},
            "models": list(models.values()),
        }
    )


def joined_changes(table: Mapping[str, Any], by_model: Mapping[str, Any]) -> dict[str, Any]:
    """A table and changes by model id, which go before it, as one."""
    if not by_model:
        return dict(table)
    entries = []
    for name, told in by_model.items():
        if not isinstance(told, Mapping):
            raise PricesInvalid(f"the prices of {name} must be a table such as {{ input = 1, output = 5 }}")
        entries.append({**told, "id": name})
    return {**table, "models": [*_models(table), *entries]}


def _digest(changes: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(changes, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _models(changes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    told = changes.get("models", [])
    if not isinstance(told, list) or not all(isinstance(entry, Mapping) for entry in told):
        raise PricesInvalid("models must be a list of tables, each with its id")
    return told


def _name(entry: Mapping[str, Any]) -> str:
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        raise PricesInvalid("every entry of models needs its id")
    return name


def _fees(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    told = changes.get("server_tools", {})
    if not isinstance(told, Mapping):
        raise PricesInvalid("server_tools must be a table of dollars by name, such as { web_search_requests = 0.01 }")
    return told


def _changed(was: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """One model: what was known of it, and what is told."""
    name = told["id"]
    _only(told, MODEL_FIELDS, name)
    for fact, kind in FACTS.items():
        if told.get(fact) is not None and not isinstance(told[fact], kind):
            raise PricesInvalid(f"{fact} of {name} is {told[fact]!r}, which it cannot be")
    facts = {**UNKNOWN_MODEL, "limit_class": name, **was, **{fact: told[fact] for fact in FACTS if fact in told}}
    multiplier = _amount(told.get("multiplier", 1), f"multiplier of {name}")
    bands = [
        {"above_tokens": band["above_tokens"], **{kind: str(_exact(band[kind]) * multiplier) for kind in PRICE_KINDS}}
        for band in _bands(was, told)
    ]
    return {**facts, "id": name, "bands": bands}


def _bands(was: Mapping[str, Any], told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    name = told["id"]
    bands = was.get("bands", [])
    if "bands" in told:
        return _told_bands(name, told["bands"])
    given = {kind: _amount(told[kind], f"{kind} of {name}") for kind in PRICE_KINDS if kind in told}
    if not given and bands:
        return list(bands)
    if len(bands) > 1:
        raise PricesInvalid(f"{name} has {len(bands)} bands of prices: say them all under bands, or a multiplier")
    return [_band(name, -1, given, bands[0] if bands else {})]


def _told_bands(name: str, told: Any) -> list[Mapping[str, Any]]:
    if not isinstance(told, list) or not told:
        raise PricesInvalid(f"bands of {name} must be a list of tables")
    bands = []
    for entry in told:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("above_tokens"), int):
            raise PricesInvalid(f"each of the bands of {name} needs above_tokens (-1 for the first) and prices")
        _only(entry, {"above_tokens", *PRICE_KINDS}, f"a band of {name}")
        given = {kind: _amount(entry[kind], f"{kind} of {name}") for kind in PRICE_KINDS if kind in entry}
        bands.append(_band(name, entry["above_tokens"], given, {}))
    edges = [band["above_tokens"] for band in bands]
    if edges[0] != -1 or edges != sorted(set(edges)):
        raise PricesInvalid(f"the bands of {name} must begin with above_tokens -1 and rise")
    return bands


def _band(name: str, above: int, given: Mapping[str, Fraction], was: Mapping[str, Any]) -> Mapping[str, Any]:
    """Prices of the cache that are not given stay what they were to that of input."""
    for kind in ("input", "output"):
        if kind not in given and kind not in was:
            raise PricesInvalid(f"{name} needs a price of {kind}, in dollars per million tokens")
    input_ = given["input"] if "input" in given else _exact(was["input"])
    shares = {kind: _exact(was[kind]) / _exact(was["input"]) for kind in CACHE_KINDS} if was else USUAL_CACHE_SHARES
    prices = {kind: given.get(kind, input_ * shares[kind]) for kind in CACHE_KINDS}
    output = given["output"] if "output" in given else _exact(was["output"])
    return {"above_tokens": above, "input": input_, "output": output, **prices}


def _amount(told: Any, what: str) -> Fraction:
    if isinstance(told, int | float | str | Fraction) and not isinstance(told, bool):
        try:
            amount = Fraction(str(told))
        except (ValueError, ZeroDivisionError):
            pass
        else:
            if amount >= 0:
                return amount
    raise PricesInvalid(f"{what} must be a number of at least 0, not {told!r}")


def _exact(value: Any) -> Fraction:
    return Fraction(str(value))


def _only(told: Mapping[str, Any], known: frozenset[str] | set[str], what: str) -> None:
    for name in told:
        if name not in known:
            near = suggest(name, sorted(known - told.keys()))
            raise PricesInvalid(f"{what} has the unknown key {name!r}" + (f"; did you mean {near}?" if near else ""))
