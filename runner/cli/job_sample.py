"""What the first rows and the job itself tell of a run: size, worst cost, columns used, what is worth a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from runner.domain.job import DEFAULT_MAX_TOKENS, Job
from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest
from runner.files.bad_row import BadRow
from runner.files.render import Renderer
from runner.files.request_tree import compiled_tree
from runner.files.sandbox import TemplateEnvironment
from runner.files.source import Input, records

SAMPLE_ROWS = 200
# Thinking is on by default in current models and counts against max_tokens; below this little is left to say.
LEAST_WITH_THINKING = 1_000


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Means over the first rows."""

    rows: int
    mean_bytes: float
    requests: list[MessagesRequest] = field(repr=False)


def sample_of(source: Input, renderer: Renderer, *, batch: bool = False) -> Sample:
    """Renders the first good rows, with `batch` as they would ride in one."""
    requests = list(islice(_requests(source, renderer, batch=batch), SAMPLE_ROWS))
    return Sample(
        rows=len(requests),
        requests=requests,
        mean_bytes=sum(len(request.body) for request in requests) / max(len(requests), 1),
    )


def _requests(source: Input, renderer: Renderer, *, batch: bool) -> Iterator[MessagesRequest]:
    for block in source.blocks():
        for _number, payload in records(block):
            try:
                yield renderer.request(renderer.parse(payload), batch=batch)
            except BadRow:
                continue


def used_columns(job: Job) -> list[str]:
    """The columns that the job's templates name; none where each row brings its request."""
    environment = TemplateEnvironment()
    parts = (job.prompt, job.system, job.request.get("messages"), job.request.get("system"))
    templates = [template for part in parts for template in compiled_tree(environment, part, "the job").templates]
    return sorted({column for template in templates for column in template.columns})


def job_warnings(job: Job, prices: PriceBook) -> list[tuple[str, str]]:
    """What is allowed but probably not meant: a name and a sentence each."""
    found = []
    max_tokens = job.request.get("max_tokens", DEFAULT_MAX_TOKENS)
    facts = prices.find(job.model) if job.model else None
    if facts is not None and facts.status == "deprecated":
        when = f" (it retires {facts.retires})" if facts.retires else ""
        found.append(("deprecated-model", f"{facts.id} is deprecated{when}."))
    if facts is not None and isinstance(max_tokens, int) and max_tokens > facts.max_output:
        sentence = f"max_tokens {max_tokens:,} is more than {facts.id} writes; it takes at most {facts.max_output:,}."
        found.append(("max-tokens", sentence))
    if _thinks(job) and isinstance(max_tokens, int) and max_tokens < LEAST_WITH_THINKING:
        sentence = (
            f"max_tokens {max_tokens:,} is little: thinking counts against it, and answers may be cut off before "
            "they begin."
        )
        found.append(("little-room", sentence))
    return found


def _thinks(job: Job) -> bool:
    """On, unless the job turns it off."""
    thinking = job.request.get("thinking")
    return not (isinstance(thinking, dict) and thinking.get("type") == "disabled")
