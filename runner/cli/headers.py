"""Custom headers of all places that may name some, as one set; and what to say where two of them disagree.

The rule, as `check` prints it: the nearest place wins, header by header - flags, the job, the environment, `.env`,
the project's file, the user's file. Of `anthropic-beta` nothing is taken away: its names add up over all places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from runner.api.headers import BETA, check_custom_headers
from runner.domain.betas import warnings
from runner.domain.job import Job
from runner.errors import UsageInvalid
from runner.settings import HeaderSource, Settings, together

RULE = (
    "headers: --header goes before the job's, those before the environment's, .env, runner.toml and config.toml; "
    "anthropic-beta adds up"
)


class Overruled(Struct, frozen=True, kw_only=True):
    """A header that two places give different values."""

    name: str
    taken_from: str
    left_out: str

    @property
    def sentence(self) -> str:
        return f"the header {self.name} is sent as {self.taken_from} says; what {self.left_out} says is left out."


def job_headers(job: Job, given: Mapping[str, str]) -> dict[str, str]:
    """The job's own headers with those of flags before them. Betas among them are taken out: they are the job's."""
    sources = [HeaderSource(place="--header", headers=given), HeaderSource(place="the job", headers=job.headers)]
    return {name: value for name, value in together(sources).items() if name.lower() != BETA}


def all_headers(job: Job, settings: Settings) -> dict[str, str]:
    """What a connection sends beside its own headers. Raises JobInvalid for a header that may not be set."""
    return check_custom_headers(together(_sources(job, settings)))


def overruled(job: Job, settings: Settings, given: Mapping[str, str] | None = None) -> Iterator[Overruled]:
    """Every header whose value at one place is not what is sent, because a nearer one says otherwise."""
    sources = [HeaderSource(place="--header", headers=given or {}), *_sources(job, settings)]
    first: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, value in source.headers.items():
            place, taken = first.setdefault(name.lower(), (source.place, value))
            if taken != value and name.lower() != BETA:
                yield Overruled(name=name, taken_from=place, left_out=source.place)


def header_warnings(job: Job, settings: Settings, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """What is worth saying about betas and headers before anything is sent: a name and a sentence each."""
    of_betas = [(told.kind, told.sentence) for told in warnings(job.betas)]
    return of_betas + [("header-overruled", one.sentence) for one in overruled(job, settings, given)]


def parsed_headers(told: tuple[str, ...]) -> dict[str, str]:
    """`--header "Name: value"`, as often as there are headers."""
    found: dict[str, str] = {}
    for line in told:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageInvalid(f"--header {line!r} is not of the form 'Name: value'.")
        if name.strip().lower() in {known.lower() for known in found}:
            raise UsageInvalid(f"--header {name.strip()} is given twice.")
        found[name.strip()] = value.strip()
    check_custom_headers(found)
    return found


def with_headers(job: Job, given: Mapping[str, str]) -> Job:
    """The job with the headers of the command line in it: a run keeps what it was asked with."""
    betas = [part.strip() for name, value in given.items() if name.lower() == BETA for part in value.split(",")]
    return replace(
        job, headers=job_headers(job, given), betas=tuple(dict.fromkeys((*job.betas, *filter(None, betas))))
    )


def _sources(job: Job, settings: Settings) -> list[HeaderSource]:
    return [HeaderSource(place="the job", headers=job.headers), *settings.service.header_sources]
