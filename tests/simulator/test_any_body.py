"""Whatever JSON comes in, the simulator answers: it never falls over a body."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.simulator import Simulator, SimulatorConfig
from tests.simulator.calls import params, post
from tests.turned_clock import TurnedClock

NAMES = st.sampled_from(
    [
        "type", "text", "role", "content", "name", "input_schema", "format", "schema", "effort", "display",
        "budget_tokens", "properties", "items", "anyOf", "allOf", "enum", "const", "required", "pattern", "$ref",
        "citations", "source", "tool_use_id", "additionalProperties", "minItems",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "", "user", "assistant", "text", "image", "tool_use", "tool_result", "document", "search_result", "any",
        "tool", "json_schema", "object", "array", "string", "adaptive", "enabled", "disabled", "high", "#/x",
        "[[sim:error]]", "[[sim:flaky=x]]", "[[sim:pause_turn=1]]", "[[sim:tokens=-1]]", "[[sim:tool_use]]", "π",
    ]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-2, 5000) | st.floats(allow_nan=False) | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
BLOCK = st.fixed_dictionaries({"type": WORDS}, optional={"text": WORDS, "content": JSON, "source": JSON})
MESSAGE = st.fixed_dictionaries({"role": WORDS, "content": WORDS | st.lists(BLOCK | JSON, max_size=3)})
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": JSON,
    "max_tokens": JSON,
    "messages": st.lists(MESSAGE, max_size=3) | JSON,
    "system": JSON,
    "tools": st.lists(st.fixed_dictionaries({"name": JSON, "input_schema": JSON}), max_size=2) | JSON,
    "tool_choice": st.fixed_dictionaries({"type": WORDS}, optional={"name": JSON}) | JSON,
    "stop_sequences": JSON,
    "thinking": st.fixed_dictionaries({"type": WORDS}, optional={"budget_tokens": JSON}) | JSON,
    "output_config": st.fixed_dictionaries(
        {"format": st.fixed_dictionaries({"type": st.just("json_schema"), "schema": JSON})}
    )
    | JSON,
    "stream": JSON,
    "temperature": JSON,
    "top_p": JSON,
    "top_k": JSON,
    "inference_geo": JSON,
    "speed": JSON,
}

# Few at a time: with more, nearly every body is refused before its odd corner is reached.
SOME_FIELDS = st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)


@settings(max_examples=1000)
@given(changed=SOME_FIELDS, new=st.booleans(), counting=st.booleans())
def test_any_body_gets_an_answer_or_a_refusal(changed: dict[str, Any], new: bool, counting: bool) -> None:
    simulator = Simulator(SimulatorConfig(), TurnedClock())
    told = json.dumps(params() | changed).encode()
    version = "2026-10-21" if new else "2023-06-01"
    path = "/v1/messages/count_tokens" if counting else "/v1/messages"
    reply = post(simulator, told, path, anthropic_version=version)
    assert reply.status in (200, 400, 404)
