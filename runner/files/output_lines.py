"""One line for each row: the program's own shape, and those of the two batch APIs for tools that read them.

The row is given back in its original bytes and the cost as an exact decimal. A line never holds a raw line break.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from runner.domain.explanations import code_in
from runner.domain.outcome import Usage
from runner.domain.pricing import PICO_PER_USD
from runner.domain.result import ExportedRow, RowResult
from runner.domain.states import RowStatus
from runner.files.message_parts import Message, message_parts, raw_json_inside, raw_text

_encode = msgspec.json.Encoder().encode
NULL = msgspec.Raw(b"null")

FINISH_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def output_line(
    exported: ExportedRow,
    *,
    run: str,
    mode: str,
    simulated: bool = False,
    parse_json: bool = False,
    variants: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> bytes:
    """The line in the program's own shape. `parse_json` when the request asked for a JSON schema."""
    result = exported.result
    parts = message_parts(exported.message) if exported.message is not None else None
    text = raw_text(parts) if parts is not None else None
    output = _output(parts, text) if parse_json and parts is not None and text is not None else None
    told: dict[str, Any] = {
        "key": result.key,
        "index": result.idx,
        "status": result.status,
        "text": _raw(text),
        "output": _raw(output),
        "stop_reason": result.stop_reason,
        "model": result.model,
        "usage": _usage(result.usage),
        "cost_usd": usd_number(result.cost_pico),
        "attempts": result.attempts,
        "latency_ms": None if result.latency_us is None else round(result.latency_us / 1000),
        "error": _error(result),
        "meta": {
            "run": run,
            "mode": mode,
            "variant": variants[result.variant] if variants else None,
            "repeat": result.repeat,
            "batch": result.batch,
            "request_id": result.request_id,
            "simulated": simulated,
            **_copy_of(result),
        },
        "row": msgspec.Raw(exported.row),
    }
    if keep and exported.message is not None:
        told |= _kept(exported.message, keep)
    return _line(told)


def _output(parts: Message, text: bytes) -> bytes | None:
    """What the text spells in JSON, else the input of the first tool call."""
    told = raw_json_inside(text)
    return told or next((bytes(block.input) for block in parts.content if block.type == "tool_use"), None)


def _kept(message: bytes, keep: Sequence[str]) -> dict[str, Any]:
    """Parts of the service's reply that a job asks for beside the line's own; `usage` is one of these anyway."""
    told: dict[str, Any] = {}
    if "response" in keep:
        told["response"] = msgspec.Raw(message)
    if "citations" in keep:
        content = json.loads(message).get("content", [])
        told["citations"] = [citation for block in content for citation in block.get("citations") or []]
    return told


def anthropic_line(exported: ExportedRow) -> bytes:
    """The line as a results file of the Message Batches API has it."""
    return _line({"custom_id": _custom_id(exported.result), "result": _anthropic_result(exported)})


def openai_line(exported: ExportedRow, *, run: str) -> bytes:
    """The line as an output file of OpenAI's batch API has it. When it was created is not known: 0."""
    result = exported.result
    told: dict[str, Any] = {"id": f"batch_req_{run}_{result.idx}", "custom_id": _custom_id(result)}
    if exported.message is None:
        told |= {"response": None, "error": {"code": result.error_type or result.status, "message": _said(result)}}
    else:
        body = _completion(result, message_parts(exported.message))
        told["response"] = {"status_code": 200, "request_id": result.request_id or "", "body": body}
        told["error"] = None
    return _line(told)


def line_writer(
    form: str,
    *,
    run: str,
    mode: str,
    simulated: bool = False,
    parse_json: bool = False,
    variants: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Callable[[ExportedRow], bytes]:
    """The function that makes lines of `form`: runner, anthropic or openai."""
    if form == "anthropic":
        return anthropic_line
    if form == "openai":
        return lambda exported: openai_line(exported, run=run)
    return lambda exported: output_line(
        exported, run=run, mode=mode, simulated=simulated, parse_json=parse_json, variants=variants, keep=keep
    )


def _line(told: dict[str, Any]) -> bytes:
    try:
        line = _encode(told)
    except UnicodeEncodeError:
        line = _encode(_whole_characters(told))
    if b"\r" in line or b"\n" in line:
        line = line.translate(_BREAKS_TO_BLANKS)
    return line + b"\n"


# A line break in JSON text can only stand between tokens.
_BREAKS_TO_BLANKS = bytes.maketrans(b"\r\n", b"  ")


def _whole_characters(told: Any) -> Any:
    """Half a surrogate pair in what a server said about an error cannot be written; the rest can."""
    if isinstance(told, dict):
        return {name: _whole_characters(value) for name, value in told.items()}
    return told.encode("utf-8", "replace").decode() if isinstance(told, str) else told


def _raw(value: bytes | None) -> msgspec.Raw:
    return NULL if value is None else msgspec.Raw(value)


def usd_number(pico: int | None) -> msgspec.Raw:
    """Pico-dollars as a JSON number in dollars: digits, not a float."""
    if pico is None:
        return NULL
    whole, part = divmod(abs(pico), PICO_PER_USD)
    digits = f"{'-' if pico < 0 else ''}{whole}.{part:012d}".rstrip("0").rstrip(".")
    return msgspec.Raw(digits.encode())


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    """The names of the API's own usage object."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "web_search_requests": usage.web_searches,
    }


def _copy_of(result: RowResult) -> dict[str, Any]:
    """Whose answer this is a copy of; nothing for a row that was asked itself."""
    told = {"same_as": result.same_as, "same_run": result.same_run}
    return {name: value for name, value in told.items() if value is not None}


def _error(result: RowResult) -> dict[str, Any] | None:
    if result.error_type is None and result.error_message is None:
        return None
    code = code_in(result.error_message)
    told = {"type": result.error_type, "message": result.error_message}
    return told if code is None else {**told, "code": code.code}


def _said(result: RowResult) -> str:
    return result.error_message or str(result.status)


def _custom_id(result: RowResult) -> str:
    return result.key if result.key is not None else f"row-{result.idx}"


def _anthropic_result(exported: ExportedRow) -> dict[str, Any]:
    result = exported.result
    if exported.message is not None:
        return {"type": "succeeded", "message": msgspec.Raw(exported.message)}
    if result.status in (RowStatus.EXPIRED, RowStatus.CANCELED):
        return {"type": result.status}
    error: dict[str, Any] = {"type": result.error_type or "api_error", "message": _said(result)}
    if (code := code_in(result.error_message)) is not None:
        error["details"] = {"error_code": code.code}
    return {"type": "errored", "error": {"type": "error", "error": error, "request_id": result.request_id}}


def _completion(result: RowResult, message: Message) -> dict[str, Any]:
    usage = result.usage or Usage()
    return {
        "id": message.id,
        "object": "chat.completion",
        "created": 0,
        "model": result.model,
        "choices": [
            {
                "index": 0,
                "message": _chat_message(message),
                "logprobs": None,
                "finish_reason": FINISH_REASONS.get(result.stop_reason or "", "stop"),
            }
        ],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.prompt_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        },
    }


def _chat_message(message: Message) -> dict[str, Any]:
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": bytes(block.input).decode()},
        }
        for block in message.content
        if block.type == "tool_use"
    ]
    told: dict[str, Any] = {"role": "assistant", "content": msgspec.Raw(raw_text(message)), "refusal": None}
    return told | ({"tool_calls": calls} if calls else {})
