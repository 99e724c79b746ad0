"""What a run is worked with, made by the command line, a worker or a test; and how it left the engine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from runner.clock import Clock
from runner.domain.job import Job
from runner.domain.limits import KnownLimits
from runner.domain.pace import Pace
from runner.domain.pricing import PriceBook
from runner.domain.progress import Progress
from runner.domain.run import Run, Tally
from runner.domain.seen import Saw
from runner.domain.submission import Timing
from runner.engine.batch.events import Tell, silence
from runner.engine.file_desk import FileDesk
from runner.engine.interrupts import Interrupts
from runner.engine.live import Service
from runner.engine.stop import Pause
from runner.files.check import InputReport
from runner.files.render import Renderer
from runner.files.source import Input
from runner.store.store import Store

if TYPE_CHECKING:
    from runner.engine.batch.calls import BatchService

# What supervisors give a process to end is 30 s or more; stay below it.
GRACE_S = 25.0


class RunEnd(Struct, frozen=True, kw_only=True):
    """How a run left the engine: its state now, its rows, and the pause if it has not reached its end."""

    run: Run
    tally: Tally
    pause: Pause | None


class Batching(Struct, frozen=True, kw_only=True):
    """What batches are made with. `spool` is a folder for bodies and results; `fingerprint` tells one key from
    another without showing it. Without `waits` everything is done that can be done at once, and batches are left
    to themselves."""

    service: BatchService
    timing: Timing
    spool: Path
    fingerprint: str
    waits: bool = True
    tell: Tell = silence
    files: FileDesk | None = None


class Parts(Struct, frozen=True, kw_only=True):
    """What a run is worked with; made by the command line or a test.

    `job` brings what may change on resume; `retry` opens a new round of a finished run's failed rows. `known` are
    limits by model class, of a tier or from the Admin API; `own_from` says where a limit of the run's own was set, by
    name; `saw` hears of each call that has ended; `pace` is given by whoever wants to change it meanwhile, which what
    runs `beside` the work may do. With `only` these rows are asked live, whatever the mode, and the run pauses. Where
    `signals` are given they are this run's to obey.
    """

    store: Store
    source: Input
    report: InputReport | None
    service: Service
    renderer: Renderer
    prices: PriceBook
    clock: Clock
    batches: Batching | None = None
    on_progress: Callable[[Progress], None] | None = None
    job: Job | None = None
    retry: bool = False
    known: Mapping[str, KnownLimits] = field(default_factory=dict)
    own_from: Mapping[str, str] = field(default_factory=dict)
    pace: Pace | None = None
    saw: Saw | None = None
    beside: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
    only: frozenset[int] | None = None
    grace_s: float = GRACE_S
    signals: Interrupts | None = None
