"""What is said of batches while a run is worked on: warnings as such on stderr, everything else as progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.cli.context import Context
from runner.cli.messages import warning
from runner.domain.run import Run
from runner.engine.batch.events import BatchEvent, Tell
from runner.store.submissions import Submission
from runner.views.batch_words import retention_words
from runner.views.durations import time_of_day
from runner.views.progress_view import ProgressView

# By the event's name, what to know or to do. `{batch}` is the submission, `{run}` the run.
HINTS: Mapping[str, str] = {
    "batch_overdue": "nothing is sent again before it has ended.   runner batches show {batch}",
    "batch_missing": "nothing is sent again while that may heal.   runner batches show {batch}",
    "batch_results_odd": "a row whose line is missing ends as missing_result: it may have been billed",
    "batch_duplicate": "the run ends with exit 12.   runner show {run}   names what was paid twice",
}
SETTLING = "not sent again before that is known.   runner batches show {batch}"
UNDECIDED = "runner batches show {batch}   says what can be done"


def warn_of_results(submissions: Sequence[Submission], run: Run, now_us: int) -> None:
    """From day 20 of 29: results that nobody has fetched yet are soon gone."""
    for one in submissions:
        if words := retention_words(one, now_us):
            warning("batch-results-expire", f"{words}.", (f"runner collect {run.label}   fetches them",))


def teller(context: Context, run: Run, view: ProgressView) -> Tell:
    """Hears what happens to the batches of a run. With -q only what has cost money twice is said."""

    def tell(event: BatchEvent) -> None:
        view.batch(event)
        said_already = context.progress == "json"
        if event.warning and not said_already and (not context.quiet or event.name == "batch_duplicate"):
            sentence, hint = warning_words(event, run.label, context.clock.now_us())
            warning(event.name.replace("_", "-"), sentence, [hint] if hint else [])

    return tell


def warning_words(event: BatchEvent, run: str, now_us: int) -> tuple[str, str | None]:
    """The sentence and what to do about it."""
    until_us = event.facts.get("until_us")
    sentence, hint = event.text, HINTS.get(event.name)
    if event.name == "batch_unknown":
        hint = UNDECIDED
        if isinstance(until_us, int):
            hint = SETTLING
            if sentence.endswith("settling"):
                sentence += f" until {time_of_day(until_us, now_us)}"
    return f"{sentence}.", hint and hint.format(run=run, batch=event.facts.get("batch", run))
