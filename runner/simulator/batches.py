"""The doors of the Message Batches API: create, list, retrieve, cancel, delete, results.

Checks, life cycle, work and bill each have their module; here is who may see what, and in which order it is asked.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from runner.clock import Clock
from runner.simulator import callers
from runner.simulator.batch import FOREVER_US, SECOND_US, Batch, Pace
from runner.simulator.batch_bill import bill_of
from runner.simulator.batch_envelope import Rider, riders_of
from runner.simulator.batch_journal import BatchJournal, Made
from runner.simulator.batch_verdicts import Judge
from runner.simulator.batch_work import Work
from runner.simulator.buckets import Limits
from runner.simulator.caches import PromptCaches
from runner.simulator.config import SimulatorConfig
from runner.simulator.exchange import Headers, Reply, Request, json_reply
from runner.simulator.facts import facts
from runner.simulator.faults import Fault
from runner.simulator.files import FilesDoor
from runner.simulator.ledger import Ledger, Offer
from runner.simulator.messages import spend_problem
from runner.simulator.paging import page_of
from runner.simulator.problems import Problem, invalid, not_found

PATH = "/v1/messages/batches"
SLICE = 64  # requests worked on between two looks at the sockets: some milliseconds
FULL_QUEUE_WAIT_S = 60
JSON_LINES: Headers = (("content-type", "application/x-jsonl"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One call at a door: what was sent, by whom, when."""

    request: Request
    workspace_id: str
    ordinal: int
    request_id: str
    fault: Fault | None
    now_us: int

    @property
    def origin(self) -> str:
        """Where the caller reaches this simulator."""
        return f"http://{self.request.headers.get('host', 'api.anthropic.com')}"


class BatchesDoor:
    """All batches of the organization, whichever workspace they belong to."""

    def __init__(
        self,
        config: SimulatorConfig,
        clock: Clock,
        ledger: Ledger,
        limits: Limits,
        flaky: Counter[bytes],
        caches: PromptCaches,
        files: FilesDoor,
    ) -> None:
        self._config = config
        self._clock = clock
        self._ledger = ledger
        self._limits = limits
        self._flaky = flaky
        self._caches = caches
        self._files = files
        self._batches: dict[str, Batch] = {}
        self._open: list[Batch] = []  # not ended yet
        self._ahead: list[tuple[Work, int]] = []  # work that can be done before its time, and up to where
        self._made = 0
        self.journal = BatchJournal()

    # -- time goes on

    @property
    def has_work(self) -> bool:
        return bool(self._ahead)

    def work_ahead(self) -> bool:
        """Do a slice of what is due later; whether there is more."""
        if self._ahead:
            work, upto = self._ahead[0]
            work.go_on(max(work.done, min(upto, work.done + SLICE)))
            if work.done >= upto:
                self._ahead.pop(0)
        return bool(self._ahead)

    def settle(self) -> None:
        """End every batch whose time has come, and bill it."""
        if not self._open:
            return
        now_us = self._clock.now_us()
        for batch in [batch for batch in self._open if batch.has_ended(now_us)]:
            self._end(batch)

    def _end(self, batch: Batch) -> None:
        self._open.remove(batch)
        if batch.work is None:
            return
        self._ahead = [(work, upto) for work, upto in self._ahead if work is not batch.work]
        batch.outcome = batch.work.finish(batch.processed, batch.ending)
        self._caches.use(batch.work.entries, began_us=batch.ends_us, readable_us=batch.ends_us)
        batch.work = None
        if batch.foreign:
            return
        self._ledger.counts["batches_ended"] += 1
        for name, count in batch.outcome.counts.items():
            self._ledger.counts[f"batch_{name}"] += count
        self._ledger.charge_batch(bill_of(batch, batch.outcome))

    # -- the doors

    def answer(self, visit: Visit) -> Reply | Problem:
        """Any call below PATH."""
        now_s = self._clock.monotonic()
        buckets = self._limits.of_batches(now_s)
        refusal = buckets.admit(0, now_s) if buckets else None
        kind = "batch_accepted" if refusal is None else "batch_requests"
        self._ledger.offer(Offer(now_s, kind, "batches", 0, 0))
        told = buckets.headers(now_s, visit.now_us) if buckets else ()
        if refusal is not None:
            message = "This request would exceed your organization's limit of batch requests per minute."
            wait = ("retry-after", str(refusal.retry_after_s))
            return Problem(status=429, type="rate_limit_error", message=message, headers=(wait, *told))
        answer = self._routed(visit)
        return answer if isinstance(answer, Problem) else answer.with_headers(told)

    def _routed(self, visit: Visit) -> Reply | Problem:
        method = visit.request.method
        if visit.request.path == PATH:
            doors = {"POST": self._create, "GET": self._list}
            return doors[method](visit) if method in doors else _no_door(visit)
        batch_id, _, action = visit.request.path.removeprefix(PATH + "/").partition("/")
        door = {
            ("GET", ""): self._retrieve,
            ("DELETE", ""): self._delete,
            ("POST", "cancel"): self._cancel,
            ("GET", "results"): self._results,
        }.get((method, action))
        if door is None:
            return _no_door(visit)
        batch = self._batches.get(batch_id)
        if batch is None or not self._can_be_seen(batch, visit):
            return not_found(f"message batch {batch_id} not found")
        return door(batch, visit)

    def _can_be_seen(self, batch: Batch, visit: Visit) -> bool:
        visible_us = batch.created_us + round(self._config.batch_404_s * SECOND_US)
        return batch.workspace_id == visit.workspace_id and visit.now_us >= visible_us

    def _create(self, visit: Visit) -> Reply | Problem:
        body = callers.decoded_body(visit.request, facts().body_limits["batches"])
        if isinstance(body, Problem):
            return body
        riders = riders_of(body)
        if isinstance(riders, Problem):
            return riders
        refused = spend_problem(self._config, self._ledger) or self._queue_problem(len(riders))
        if refused is not None:
            return refused
        batch = self._added(riders, visit)
        self._ledger.counts["batches_created"] += 1
        first = riders[0].custom_id
        self.journal.made(visit.request_id, Made(batch_id=batch.id, count=batch.count, first_custom_id=first))
        return self._told(batch, visit)

    def _queue_problem(self, wanted: int) -> Problem | None:
        """The queue counts every request that is not done, in all workspaces."""
        limit = self._config.batch_queue
        if limit is None and self._config.tier is not None:
            limit = facts().batch_limits[self._config.tier].queued
        queued = sum(batch.count for batch in self._open)
        if limit is None or queued + wanted <= limit:
            return None
        return Problem(
            status=429,
            type="rate_limit_error",
            message=f"This batch would exceed your organization's limit of {limit} queued batch requests.",
            headers=(("retry-after", str(self._config.batch_queue_wait_s)),),
        )

    def _list(self, visit: Visit) -> Reply | Problem:
        seen = [
            batch
            for batch in self._batches.values()
            if batch.workspace_id == visit.workspace_id and visit.now_us >= batch.listed_us
        ]
        seen.sort(key=lambda batch: batch.created_us)  # stable: of two in one moment the later stays later
        page = page_of(
            seen[::-1],
            visit.request.query,
            id_of=lambda batch: batch.id,
            told=lambda batch: batch.as_json(visit.now_us, visit.origin),
        )
        return page if isinstance(page, Problem) else json_reply(page)

    def _retrieve(self, batch: Batch, visit: Visit) -> Reply:
        return self._told(batch, visit)

    def _cancel(self, batch: Batch, visit: Visit) -> Reply | Problem:
        if batch.has_ended(visit.now_us):
            return invalid(f"message batch {batch.id} has already ended and cannot be canceled")
        if batch.cancel_us is None:
            batch.cancel_us = visit.now_us
            batch.cancel_stuck_until_us = _until(visit.now_us, visit.fault, "batch_stuck")
            self._ahead = [(work, upto) for work, upto in self._ahead if work is not batch.work]
        return self._told(batch, visit)

    def _delete(self, batch: Batch, visit: Visit) -> Reply | Problem:
        if not batch.has_ended(visit.now_us):
            return invalid(f"message batch {batch.id} is still being processed: cancel it first")
        del self._batches[batch.id]
        return json_reply({"id": batch.id, "type": "message_batch_deleted"})

    def _results(self, batch: Batch, visit: Visit) -> Reply | Problem:
        if batch.outcome is None:
            return not_found(f"message batch {batch.id} has no results yet")
        if batch.is_archived(visit.now_us):
            return not_found(f"the results of message batch {batch.id} are no longer available")
        return Reply(status=200, headers=JSON_LINES, events=batch.outcome.pages)

    def _told(self, batch: Batch, visit: Visit) -> Reply:
        return json_reply(batch.as_json(visit.now_us, visit.origin))

    # -- making one

    def add_foreign(
        self, count: int, custom_id_prefix: str, workspace_id: str, seconds: float | None = None
    ) -> Mapping[str, object]:
        """A batch of somebody else in a workspace; it is on no bill of ours."""
        params = {"model": "claude-haiku-5-5", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]}
        told = msgspec.json.encode(
            {"requests": [{"custom_id": f"{custom_id_prefix}{n}", "params": params} for n in range(count)]}
        )
        riders = riders_of(told)
        if isinstance(riders, Problem):
            raise ValueError(riders.message)
        headers = {"anthropic-version": callers.VERSIONS[-1]}
        visit = Visit(
            request=Request(method="POST", path=PATH, headers=headers),
            workspace_id=workspace_id,
            ordinal=0,
            request_id="",
            fault=None,
            now_us=self._clock.now_us(),
        )
        return self._added(riders, visit, foreign=True, seconds=seconds).as_json(visit.now_us, visit.origin)

    def _added(
        self, riders: list[Rider], visit: Visit, *, foreign: bool = False, seconds: float | None = None
    ) -> Batch:
        self._made += 1
        config, fault = self._config, visit.fault
        created_us = visit.now_us
        if fault is not None and fault.kind == "batch_late":
            created_us += round((fault.lasts_s or 0.0) * SECOND_US)
        warm = self._caches.all_now(visit.now_us)
        judge = Judge(config, visit.request.headers, self._flaky, visit.workspace_id, warm, self._files)
        seed = f"{config.seed}:{self._made}"
        batch = Batch(
            id="msgbatch_01" + hashlib.sha256(seed.encode()).hexdigest()[:22],
            workspace_id=visit.workspace_id,
            count=len(riders),
            created_us=created_us,
            listed_us=max(
                created_us + round(config.batch_list_delay_s * SECOND_US),
                _until(created_us, fault, "batch_hidden"),
            ),
            pace=Pace(
                seconds=config.batch_seconds if seconds is None else seconds,
                cancel_seconds=config.batch_cancel_seconds,
                canceled_share=config.batch_canceled_share,
                expired_share=0.0 if foreign else config.batch_expired_share,
                expires_s=config.batch_expires_s,
            ),
            work=Work(riders, judge, seed=seed, errored_share=0.0 if foreign else config.batch_errored_share),
            ordinal=visit.ordinal,
            request_id=visit.request_id,
            foreign=foreign,
            stuck_until_us=_until(created_us, fault, "batch_stuck"),
        )
        self._batches[batch.id] = batch
        self._open.append(batch)
        if batch.work is not None:
            self._ahead.append((batch.work, batch.processed))
        return batch


def _until(since_us: int, fault: Fault | None, kind: str) -> int:
    """When a fault of that kind lets go; 0 where none struck."""
    if fault is None or fault.kind != kind:
        return 0
    return FOREVER_US if fault.lasts_s is None else since_us + round(fault.lasts_s * SECOND_US)


def _no_door(visit: Visit) -> Problem:
    return not_found(f"{visit.request.path}: Not Found")
