"""The `schedule:` and `notify:` blocks of a job file: when it runs by itself, and who is told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from runner.domain.cron import parse, zone_of
from runner.domain.durations import up_to_a_year
from runner.domain.notify import NotifyRule, Occasion
from runner.domain.schedule import CatchUp, Overlap, ScheduleSpec
from runner.files.job_values import Section

Seconds = Annotated[int, BeforeValidator(up_to_a_year, json_schema_input_type=int | str)]


def _cron(text: str) -> str:
    parse(text)
    return text


def _zone(name: str) -> str:
    zone_of(name)
    return name


class ScheduleSection(Section):
    cron: Annotated[str, AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    overlap: Literal["skip", "queue", "replace", "allow"] = "skip"
    catch_up: Literal["latest", "none", "all"] = "latest"
    deadline: Seconds | None = None
    jitter: Seconds = 0

    def spec(self) -> ScheduleSpec:
        return ScheduleSpec(
            cron=self.cron,
            timezone=self.timezone,
            overlap=Overlap(self.overlap),
            catch_up=CatchUp(self.catch_up),
            deadline_s=self.deadline,
            jitter_s=self.jitter,
        )


def _webhook(url: str) -> str:
    if not url.startswith(("https://", "http://", "${")):
        raise ValueError("must be an address that begins with https://, or a variable such as ${SLACK_WEBHOOK_URL}")
    return url


class NotifySection(Section):
    on: Annotated[list[Literal["finished", "failed", "budget", "deadline", "retention"]], Field(min_length=1)]
    webhook: Annotated[str, AfterValidator(_webhook)] | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.webhook is None) == (self.command is None):
            raise ValueError("needs a webhook or a command, and not both")
        return self

    def rule(self) -> NotifyRule:
        return NotifyRule(
            on=tuple(Occasion(word) for word in self.on),
            webhook=self.webhook,
            command=None if self.command is None else tuple(self.command),
        )
