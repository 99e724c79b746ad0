"""The name that somebody probably meant, or none."""

from __future__ import annotations

import pytest

from runner.domain.nearest import did_you_mean, suggest


@pytest.mark.parametrize(
    ("name", "choices", "meant"),
    [
        ("promt", ["prompt", "model", "input"], "prompt"),
        ("Model", ["prompt", "model"], "model"),
        ("EMAIL_ID", ["email_id", "id"], "email_id"),
        ("clade-haiku-5-5", ["claude-haiku-5-5", "claude-opus-5-5"], "claude-haiku-5-5"),
        ("zzz", ["prompt", "model"], None),
        ("anything", [], None),
    ],
)
def test_the_nearest_name_is_offered_and_a_far_one_is_not(name: str, choices: list[str], meant: str | None) -> None:
    assert suggest(name, choices) == meant
    assert did_you_mean(name, choices) == (f' (did you mean "{meant}"?)' if meant else "")
