"""The calls of the batch endpoints that cost nothing, asked again until they are answered: listing, status, results.

The create is not among them: it is made once. What the service says to all of them alike (too many requests, a key
that is refused) holds for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

from runner.api.batch_create import MaySend
from runner.api.batches import Page, ResultsSpool
from runner.clock import SECOND, Clock
from runner.domain.batch import BatchStatus
from runner.domain.decide import pause_of
from runner.domain.listings import Listing, listing_of
from runner.domain.outcome import AccountTrouble, Failure, FailureKind
from runner.domain.submission import CreateReply
from runner.engine.stop import Stop

# Nobody waits for the answer but this run: as patient as a service that is down for an hour deserves.
SLOWEST_RETRY_S = 60.0
# A service that has not answered for so long is worth a pause of the run.
PATIENCE_S = 900.0
# Where somebody waits for the command to come back.
SHORT_PATIENCE_S = 30.0

T = TypeVar("T")


class BatchService(Protocol):
    """What the engine needs of the batch endpoints; `api.batches.Batches` is one."""

    async def create(
        self, path: Path, size: int, betas: tuple[str, ...] = (), *, limit_s: float, may_send: MaySend | None = None
    ) -> CreateReply: ...

    async def retrieve(self, batch_id: str) -> BatchStatus | Failure: ...

    async def cancel(self, batch_id: str) -> BatchStatus | Failure: ...

    async def delete(self, batch_id: str) -> Failure | None: ...

    async def list_page(self, after_id: str | None = None, limit: int = ...) -> Page | Failure: ...

    async def results(self, batch_id: str, to: Path, *, limit_s: float = ...) -> ResultsSpool | Failure: ...

    async def first_line(self, batch_id: str) -> bytes | Failure | None: ...


class BatchCalls:
    """Free calls, repeated while that may help. What comes back is the last answer, a Failure included.

    `stop` ends the patience, and is set when the account is in trouble. The patience is with the service, not with
    each call: while it goes on saying nothing, each is made once.
    """

    def __init__(self, service: BatchService, clock: Clock, stop: Stop, patience_s: float = PATIENCE_S) -> None:
        self._service, self._clock, self._stop = service, clock, stop
        self._patience_s = patience_s
        self._silent_since_s: float | None = None  # None: it answers
        self._held_until_us = 0

    async def retrieve(self, batch_id: str) -> BatchStatus | Failure:
        return await self._asked(lambda: self._service.retrieve(batch_id))

    async def cancel(self, batch_id: str) -> BatchStatus | Failure:
        return await self._asked(lambda: self._service.cancel(batch_id))

    async def delete(self, batch_id: str) -> Failure | None:
        return await self._asked(lambda: self._service.delete(batch_id))

    async def results(self, batch_id: str, to: Path) -> ResultsSpool | Failure:
        return await self._asked(lambda: self._service.results(batch_id, to))

    async def first_line(self, batch_id: str) -> bytes | Failure | None:
        return await self._asked(lambda: self._service.first_line(batch_id))

    async def walk(self, wants_more: Callable[[Listing], bool]) -> Listing | Failure:
        """The list of batches, newest first, as far as `wants_more` asks, or to its end."""
        taken_us = self._clock.now_us()
        pages: list[Page] = []
        after: str | None = None
        while True:
            page = await self._asked(lambda after=after: self._service.list_page(after))  # type: ignore[misc]
            if isinstance(page, Failure):
                return page
            pages.append(page)
            first = pages[0].origin
            listing = listing_of(
                [page.batches for page in pages],
                taken_us=taken_us,
                server_us=taken_us if first.server_time_us is None else first.server_time_us,
                organization=first.organization,
                workspace=first.workspace,
                to_the_end=page.next_after is None,
            )
            if page.next_after is None or not wants_more(listing):
                return listing
            after = page.next_after

    async def _asked(self, call: Callable[[], Awaitable[T]]) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_result(_goes_again),
            wait=self._wait_s,
            stop=lambda _: self._stop.is_asked() or self._is_down(),
            sleep=self._sleep,
            retry_error_callback=_last,
        )
        told: T = await retrying(self._once, call)
        if isinstance(told, Failure) and told.kind is FailureKind.ACCOUNT:
            pause = pause_of(told)
            self._stop.pause_for(pause.reason, _without_batches(told, pause.message))
        return told

    async def _once(self, call: Callable[[], Awaitable[T]]) -> T:
        wait_us = self._held_until_us - self._clock.now_us()
        if wait_us > 0:
            await self._clock.sleep(wait_us / SECOND)
        began_s = self._clock.monotonic()
        told = await call()
        if isinstance(told, Failure) and told.kind is FailureKind.RATE_LIMITED:
            self.hold(told.retry_after_s or 1.0)
        self._silent_since_s = (self._silent_since_s or began_s) if _goes_again(told) else None
        return told

    def _is_down(self) -> bool:
        since_s = self._silent_since_s
        return since_s is not None and self._clock.monotonic() - since_s > self._patience_s

    async def _sleep(self, seconds: float) -> None:
        await self._stop.sleep(self._clock, seconds)

    def hold(self, seconds: float) -> None:
        """The endpoints' own limit is used up: nobody asks before it has room again."""
        self._held_until_us = max(self._held_until_us, self._clock.now_us() + round(seconds * SECOND))

    def _wait_s(self, state: RetryCallState) -> float:
        told = state.outcome.result() if state.outcome is not None else None
        if isinstance(told, Failure) and told.retry_after_s:
            return told.retry_after_s
        return wait_random_exponential(multiplier=0.5, max=SLOWEST_RETRY_S)(state)


def _without_batches(failure: Failure, message: str) -> str:
    """Gateways that offer Messages alone are common: then it is the mode that is wrong, not the address."""
    if failure.trouble is not AccountTrouble.ADDRESS:
        return message
    return f"there are no Message Batches at this address; --mode live asks it row by row ({message})"


def _goes_again(told: object) -> bool:
    return isinstance(told, Failure) and told.kind not in (FailureKind.ROW, FailureKind.ACCOUNT)


def _last(state: RetryCallState) -> object:
    return None if state.outcome is None else state.outcome.result()


def is_missing(told: object) -> bool:
    """The service says that there is no such thing: it may be there all the same, a little later."""
    return isinstance(told, Failure) and told.status == 404
