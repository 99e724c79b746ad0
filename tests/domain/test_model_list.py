"""What the service lists is held against the table: new, gone and changed models are named."""

from __future__ import annotations

from msgspec.structs import replace

from runner.domain.model_list import ListedModel, differences
from runner.domain.pricing import shipped_prices

BOOK = shipped_prices()
KNOWN = {facts.id: facts for facts in BOOK.models.values()}
LISTED = {
    id_: ListedModel(
        id=id_,
        lifecycle="deprecated" if facts.deprecated else "active",
        deprecated=facts.deprecated,
        retires=facts.retires if facts.deprecated else None,
        context_window=facts.context_window,
        max_output=facts.max_output,
    )
    for id_, facts in KNOWN.items()
}


def told(**changes: ListedModel | None) -> list[tuple[str, str]]:
    listed = {**LISTED, **{name.replace("_", "-"): one for name, one in changes.items()}}
    found = differences(BOOK, [one for one in listed.values() if one is not None])
    return [(one.model, one.sentence) for one in found]


def test_where_all_is_the_same_nothing_is_said() -> None:
    assert told() == []


def test_a_new_model_has_no_price() -> None:
    new = ListedModel(id="claude-next-6", lifecycle="active")
    assert told(claude_next_6=new) == [("claude-next-6", "the service has it; no price is known for it here")]


def test_a_retired_one_that_nobody_knew_is_no_news() -> None:
    assert told(claude_old_1=ListedModel(id="claude-old-1", lifecycle="retired")) == []


def test_a_model_that_is_not_listed_any_more() -> None:
    assert told(claude_opus_5=None) == [("claude-opus-5", "the service does not list it to this key")]


def test_an_alias_in_the_list_is_its_model() -> None:
    dated = LISTED["claude-haiku-4-5-20251001"]
    assert told(claude_haiku_4_5_20251001=replace(dated, id="claude-haiku-4-5")) == []


def test_what_is_otherwise_is_said_with_both_sides() -> None:
    was = LISTED["claude-opus-4-5-20251101"]
    now = replace(was, lifecycle="deprecated", deprecated="2026-11-20", retires="2027-01-19", max_output=32_000)
    assert told(claude_opus_4_5_20251101=now) == [
        ("claude-opus-4-5-20251101", "it is deprecated since 2026-11-20; not so here"),
        ("claude-opus-4-5-20251101", "it retires on 2027-01-19; here no day is known"),
        ("claude-opus-4-5-20251101", "its longest answer is 32,000 tokens; here 64,000"),
    ]
    assert told(claude_opus_5=replace(LISTED["claude-opus-5"], lifecycle="retired")) == [
        ("claude-opus-5", "it is retired")
    ]
