"""Which betas a job's requests go with, and why; what to say about names that somebody wrote."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from runner.domain.betas import beta_facts, needs
from runner.domain.job import Job, Mode
from runner.views.safe_text import safe_line


class SentBeta(Struct, frozen=True, kw_only=True):
    """One name of the `anthropic-beta` header. `added` is false for a name that somebody set."""

    name: str
    why: str | None
    added: bool


def sent_betas(job: Job) -> Iterator[SentBeta]:
    """The betas of every request of the job; what single rows bring or need comes on top."""
    facts = beta_facts()
    for name in job.betas:
        yield SentBeta(name=name, why=facts.feature(name), added=False)
    body = {**job.request, "model": job.model}
    for need in needs(body, batch=job.mode is Mode.BATCH, named=job.betas):
        yield SentBeta(name=need.beta, why=need.feature, added=True)


def beta_lines(job: Job) -> str:
    """A line for each beta, with its reason; nothing where the job goes with none."""
    return "\n".join(f"{safe_line(beta.name)}   {_reason(beta)}" for beta in sent_betas(job))


def _reason(beta: SentBeta) -> str:
    if beta.added:
        return f"added: {beta.why} needs it"
    return "set by you" if beta.why is None else f"set by you, for {beta.why}"
