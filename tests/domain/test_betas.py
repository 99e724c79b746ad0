"""Every rule about betas: what shows it, what it adds, and what is said of names."""

from __future__ import annotations

from typing import Any

import pytest

from runner.domain.betas import beta_facts, needs, warnings
from tests.beta_examples import EXAMPLES, MCP, NOT_IN_A_BODY, TOOLSET


def added(body: dict[str, Any], *, batch: bool = False, named: tuple[str, ...] = ()) -> set[str]:
    return {need.beta for need in needs(body, batch=batch, named=named)}


def test_every_rule_has_an_example_or_a_reason_to_have_none() -> None:
    assert {rule.id for rule in beta_facts().rules} == EXAMPLES.keys() | NOT_IN_A_BODY


@pytest.mark.parametrize("rule", EXAMPLES)
def test_a_request_goes_with_the_names_of_its_rule_and_no_others(rule: str) -> None:
    fields, names, model = EXAMPLES[rule]
    body = {"model": model or "claude-haiku-5-5", "max_tokens": 100, "messages": [], **fields}
    assert added(body, batch=rule == "output_300k") == set(names)


@pytest.mark.parametrize("rule", [rule for rule in beta_facts().rules if rule.required and rule.id in EXAMPLES])
def test_every_required_name_is_reached_by_its_example(rule: Any) -> None:
    assert set(rule.betas) <= set(EXAMPLES[rule.id][1])


def test_a_plain_request_needs_nothing() -> None:
    assert needs({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "system": "s"}) == []


def test_long_answers_need_their_name_in_batches_alone() -> None:
    assert added({"max_tokens": 128_001}, batch=True) == {"output-300k-2026-03-24"}
    assert added({"max_tokens": 128_001}) == added({"max_tokens": 128_000}, batch=True) == set()


def test_what_the_user_named_is_not_added_again() -> None:
    assert added({"mcp_servers": MCP}, named=("mcp-client-2025-11-20",)) == set()


@pytest.mark.parametrize("name", ["mcp-client-2025-04-04", "mcp-client-2026-09-15"])
def test_another_version_that_the_user_named_is_not_contradicted(name: str) -> None:
    assert added({"mcp_servers": MCP, "tools": [TOOLSET]}, named=(name,)) == set()


@pytest.mark.parametrize(
    "body",
    [
        {"tools": 3},
        {"tools": ["x", None, {"type": ["computer_20251124"]}]},
        {"context_management": {"edits": "all"}},
        {"thinking": "yes", "output_config": [], "fallbacks": {}, "max_tokens": True},
        {"messages": [{"role": "system"}, {"role": "system", "content": [None, {"tool": 5, "type": {}}]}]},
        {"messages": "hello"},
        {"speed": {}, "model": None},
    ],
)
def test_a_body_of_odd_shapes_needs_nothing_and_breaks_nothing(body: dict[str, Any]) -> None:
    assert added(body) == set()


def test_names_come_in_one_order_whatever_the_order_of_the_body() -> None:
    fields = {"mcp_servers": MCP, "thread": {"type": "create"}, "compaction": {"type": "auto"}}
    forth = [need.beta for need in needs(fields)]
    assert forth == [need.beta for need in needs(dict(reversed(fields.items())))]


# -- names


def said(*names: str) -> list[tuple[str, str]]:
    return [(told.kind, told.sentence) for told in warnings(names)]


def test_a_misspelt_name_is_told_with_the_nearest() -> None:
    [(kind, sentence)] = said("contxt-management-2025-06-27")
    assert kind == "unknown-beta"
    assert "did you mean context-management-2025-06-27 ?" in sentence


@pytest.mark.parametrize("name", sorted(beta_facts().graduated))
def test_a_graduated_name_is_told_to_be_needless(name: str) -> None:
    [(kind, sentence)] = said(name)
    assert kind == "graduated-beta"
    assert "works without a beta" in sentence


@pytest.mark.parametrize("name", sorted(beta_facts().obsolete))
def test_an_obsolete_name_is_told_to_open_nothing(name: str) -> None:
    assert said(name)[0][0] == "obsolete-beta"


def test_a_name_that_is_still_needed_is_not_talked_about() -> None:
    assert said(*(rule.betas[0] for rule in beta_facts().rules if rule.required and rule.status == "beta")) == []
