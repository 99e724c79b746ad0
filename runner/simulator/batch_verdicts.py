"""What becomes of one request inside a batch: a message at the batch's terms, or the error that ends it.

It reads params only now, long after they were accepted. Time and money are not its business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from runner.simulator.answers import compose_message
from runner.simulator.caches import MARK_BYTES, NO_CACHE, NOTHING_WARM, CacheUse, Entry, cache_use
from runner.simulator.config import SimulatorConfig
from runner.simulator.directives import MARK, NO_WISHES, body_key, wished_trouble, wishes_of
from runner.simulator.files import FilesDoor
from runner.simulator.messages import params_problem
from runner.simulator.problems import EDGE, TYPE_OF_STATUS, Problem, error_body, invalid

REFUSED_FIELDS = (
    "speed",
    "store",
    "thread",
    "previous_thread_event_id",
    "cache_hint",
    "context_hint",
    "fallbacks",
    "fallback_credit_token",
)
PREVIEW = "research_preview_2026_02"
_MARK_BYTES = MARK.encode()
_FLAKY_BYTES = b"[[sim:flaky"

Result = dict[str, Any]


class Verdict(NamedTuple):
    """The `result` object of a line, and what its request leaves in the caches."""

    result: Result
    entries: tuple[Entry, ...] = ()


class Judge:
    """Answers the requests of one batch; version and betas were told once, for all of them.

    `warm` is what its prompts find in the caches: what was there when it was created.
    """

    def __init__(
        self,
        config: SimulatorConfig,
        headers: Mapping[str, str],
        flaky: Counter[bytes],
        workspace_id: str = "",
        warm: Container[Entry] = NOTHING_WARM,
        files: FilesDoor | None = None,
    ) -> None:
        self._config = config
        self._workspace_id = workspace_id
        self._warm = warm
        self._files = files
        self._headers = {name: headers[name] for name in ("anthropic-version", "anthropic-beta") if name in headers}
        self._flaky = flaky

    def result(self, body: bytes) -> Result:
        """The `result` object of its line: `succeeded` or `errored`."""
        return self.verdict(body).result

    def verdict(self, body: bytes) -> Verdict:
        """The same, and what is cached by it."""
        params = self._read(body)
        if isinstance(params, Problem):
            return Verdict(_errored(params))
        unusable = self._files.problem(params, self._workspace_id) if self._files is not None else None
        if unusable is not None:
            return Verdict(_errored(unusable))
        wishes = wishes_of(params) if _MARK_BYTES in body else NO_WISHES
        trouble = wished_trouble(wishes, body, self._flaky)
        if trouble is not None:
            return Verdict(_errored(_of_the_service(trouble)))
        cached = self._cached(body, params)
        message = compose_message(
            params,
            seed=self._config.seed,
            body=body,
            wishes=wishes,
            default_tokens=self._config.output_tokens,
            broken_share=self._config.broken_output_share,
            cached=cached,
        )
        return Verdict({"type": "succeeded", "message": at_batch_terms(message)}, cached.entries)

    def _cached(self, body: bytes, params: Mapping[str, Any]) -> CacheUse:
        return cache_use(params, self._workspace_id, self._warm) if MARK_BYTES in body else NO_CACHE

    def configured_error(self) -> Verdict:
        """The error of those that the config lets fail."""
        kind = self._config.batch_errored_type
        status = next((status for status, name in TYPE_OF_STATUS.items() if name == kind), 500)
        return Verdict(_errored(Problem(status=status, type=kind, message=self._config.batch_errored_message)))

    def forget(self, body: bytes) -> None:
        """This one was judged ahead of time and is now not to have been processed."""
        if _FLAKY_BYTES in body:
            self._flaky[body_key(body)] -= 1

    def _read(self, body: bytes) -> dict[str, Any] | Problem:
        try:
            params: dict[str, Any] = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return invalid("params: not valid JSON")
        return _refused(params) or params_problem(params, self._headers, batch=True) or params


def at_batch_terms(message: dict[str, Any]) -> dict[str, Any]:
    """The same message, as a batch tells it."""
    return message | {"usage": message["usage"] | {"service_tier": "batch"}}


def _refused(params: Mapping[str, Any]) -> Problem | None:
    """What a single call may ask for and a batch may not."""
    if params.get("stream"):
        return invalid("stream: not supported in message batches")
    for name in REFUSED_FIELDS:
        if params.get(name) is not None:
            return invalid(f"{name}: not supported in message batches")
    if params.get(PREVIEW) == "active":
        return invalid(f"{PREVIEW}: not supported in message batches")
    limit = params.get("max_tokens")
    if isinstance(limit, int) and not isinstance(limit, bool) and limit == 0:
        return invalid("max_tokens: must be greater than or equal to 1 in message batches")
    return None


def _of_the_service(problem: Problem) -> Problem:
    """Nothing stands before a request that is in a batch."""
    if problem.type != EDGE:
        return problem
    return replace(problem, type=TYPE_OF_STATUS.get(problem.status, "api_error"))


def _errored(problem: Problem) -> Result:
    return {"type": "errored", "error": error_body(problem, None)}
