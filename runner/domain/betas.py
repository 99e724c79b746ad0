"""Which beta names a request needs, read from its content by the rules of `betas.json`; and what is known of a name
that somebody wrote down.

What is needed is added and nothing is taken away: a name that the user set stays, and where it is another version of
the same feature, ours is not added beside it. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from msgspec import Struct

from runner.domain.nearest import suggest

Fields = Mapping[str, Any]
# Does a body call for the rule? The second argument: it rides in a batch.
Test = Callable[[Fields, bool], bool]


class Rule(Struct, frozen=True, kw_only=True):
    """A feature, what in a request shows it, and the names that it needs.

    `instead` are names that serve as well; `in_batches` is None where nobody says. Only `required` names are added.
    """

    id: str
    feature: str
    endpoint: str
    when: Mapping[str, Any]
    betas: tuple[str, ...]
    instead: tuple[str, ...]
    required: bool
    status: str
    in_batches: bool | None


class BetaFacts(Struct, frozen=True, kw_only=True):
    """The whole of `betas.json`. `graduated` and `obsolete` say, by name, which rule's feature a name once opened."""

    rules: tuple[Rule, ...]
    graduated: Mapping[str, str]
    obsolete: Mapping[str, str]
    known: frozenset[str]

    def feature(self, name: str) -> str | None:
        """What a beta is for, in words; None for one that no rule knows."""
        by_id = {rule.id: rule.feature for rule in self.rules}
        past = self.graduated.get(name) or self.obsolete.get(name)
        if past is not None:
            return by_id[past]
        return next((rule.feature for rule in self.rules if name in (*rule.betas, *rule.instead)), None)


class Need(Struct, frozen=True, kw_only=True):
    """A name that was added, and the feature that needs it."""

    beta: str
    feature: str


class BetaWarning(Struct, frozen=True, kw_only=True):
    """Something about a name that a person may not have meant. `kind` is a word for machines."""

    kind: str
    sentence: str


@cache
def beta_facts() -> BetaFacts:
    """The rules and names that ship with the program."""
    told = json.loads(resources.files("runner.domain").joinpath("betas.json").read_text(encoding="utf-8"))
    rules = [{"instead": (), **rule} for rule in told["rules"]]
    return BetaFacts(
        rules=tuple(
            Rule(**{**rule, "betas": tuple(rule["betas"]), "instead": tuple(rule["instead"])}) for rule in rules
        ),
        graduated=told["graduated"],
        obsolete=told["obsolete"],
        known=frozenset(told["known"]),
    )


def needs(body: Fields, *, batch: bool = False, named: Collection[str] = ()) -> list[Need]:
    """What must be added to the names in `named` for this Messages body, each once, in the order of the rules."""
    found: dict[str, Need] = {}
    for rule, test in _due(body):
        if not test(body, batch) or any(name in named for name in rule.instead):
            continue
        for beta in rule.betas:
            if beta not in named:
                found.setdefault(beta, Need(beta=beta, feature=rule.feature))
    return list(found.values())


def warnings(names: Iterable[str]) -> Iterator[BetaWarning]:
    """What is worth saying about names that a user wrote: misspelt ones, and those that open nothing any more."""
    facts = beta_facts()
    for name in dict.fromkeys(names):
        if name in facts.graduated:
            sentence = (
                f'"{name}" is not needed any more: {facts.feature(name)} works without a beta. Sent as written.'
            )
            yield BetaWarning(kind="graduated-beta", sentence=sentence)
        elif name in facts.obsolete:
            sentence = f'"{name}" opens nothing any more ({facts.feature(name)}). Sent as written.'
            yield BetaWarning(kind="obsolete-beta", sentence=sentence)
        elif name not in facts.known:
            near = suggest(name, facts.known)
            question = f"; did you mean {near} ?" if near else ""
            sentence = (
                f'"{name}" is not known here{question} Sent as written; the API refuses names it does not know.'
            )
            yield BetaWarning(kind="unknown-beta", sentence=sentence)


_NAME = re.compile(r"[a-z0-9][a-z0-9-]*-\d{4}-\d{2}-\d{2}")


def refused_name(message: str) -> str:
    """The beta that the service does not take, from its message."""
    found = _NAME.search(message)
    return found[0] if found else message.rpartition(":")[2].strip()


def refusal(message: str) -> str:
    """What to say when the service does not take a beta: its name, what it is for, and the way out."""
    name = refused_name(message)
    facts = beta_facts()
    if name not in facts.known:
        near = suggest(name, facts.known)
        way = f"did you mean {near} ? Correct it" if near else "take it out"
        return f'the API does not take the beta "{name}": {way} where it is set (betas: in the job, --beta, headers)'
    feature = facts.feature(name)
    what = f", which {feature} needs" if feature and name not in {*facts.graduated, *facts.obsolete} else ""
    return (
        f'the API at this address does not take the beta "{name}"{what}: '
        "take out what needs it, or the name where it is set (betas: in the job, --beta, headers)"
    )


# --- from the conditions in the file to tests of a body


def _due(body: Fields) -> Iterator[tuple[Rule, Test]]:
    """The rules that something in the body may call for. Most bodies hold nothing that any rule is about."""
    by_field = _by_field()
    for name in sorted(body.keys() & by_field.keys()):
        if name == "messages" and not _has_directives(body["messages"]):
            continue
        if name == "max_tokens" and type(body[name]) is int and body[name] <= _LEAST_EXTENDED:
            continue
        yield from by_field[name]


# The rule about max_tokens begins above it; almost no body comes near.
_LEAST_EXTENDED = 128_000


def _has_directives(messages: Any) -> bool:
    """Only system turns in mid-conversation carry what the rules about messages look for."""
    return isinstance(messages, (list, tuple)) and any(
        isinstance(turn, Mapping) and turn.get("role") == "system" for turn in messages
    )


@cache
def _by_field() -> Mapping[str, tuple[tuple[Rule, Test], ...]]:
    """The rules that add something to a Messages call, by the field of the body that they begin with."""
    found: dict[str, list[tuple[Rule, Test]]] = {}
    for rule in beta_facts().rules:
        if rule.endpoint == "messages" and rule.required:
            for name in _first_fields(rule.when):
                found.setdefault(name, []).append((rule, _test(rule.when)))
    return {name: tuple(rules) for name, rules in found.items()}


def _first_fields(when: Mapping[str, Any]) -> list[str]:
    """One field each body must have, or several of which it has one. Of conditions together, the first is enough."""
    if "any" in when:
        return [name for part in when["any"] for name in _first_fields(part)]
    if "all" in when:
        return next((names for part in when["all"] if (names := _first_fields(part))), [])
    return [str(when["path"]).split(".", maxsplit=1)[0].removesuffix("[]")] if "path" in when else []


def _test(when: Mapping[str, Any]) -> Test:
    if "any" in when:
        some = [_test(part) for part in when["any"]]
        return lambda body, batch: any(test(body, batch) for test in some)
    if "all" in when:
        every = [_test(part) for part in when["all"]]
        return lambda body, batch: all(test(body, batch) for test in every)
    if "context" in when:
        return lambda _body, batch: batch is (when["context"] == "batch")
    steps, fits = str(when["path"]).split("."), _fitting(when)
    return lambda body, _batch: any(fits(value) for value in _at(body, steps))


def _fitting(when: Mapping[str, Any]) -> Callable[[Any], bool]:
    if "equals" in when:
        return lambda value: type(value) is type(when["equals"]) and value == when["equals"]
    if "in" in when:
        return lambda value: isinstance(value, str) and value in when["in"]
    if "gt" in when:
        return lambda value: type(value) is int and value > when["gt"]
    if when.get("type") == "array":
        return lambda value: isinstance(value, (list, tuple))
    return lambda value: value is not None


def _at(value: Any, steps: list[str]) -> Iterator[Any]:
    """The values at a path: `tools[].type` names that of each tool."""
    if not steps:
        yield value
        return
    if not isinstance(value, Mapping):
        return
    name, rest = steps[0], steps[1:]
    found = value.get(name.removesuffix("[]"))
    if found is None:
        return
    if not name.endswith("[]"):
        yield from _at(found, rest)
    elif isinstance(found, (list, tuple)):
        for part in found:
            yield from _at(part, rest)
