"""Which records of an input are asked: `where`, `sample`, and those that nobody has answered yet.

A selection looks at records by themselves, so an input is read, hashed and numbered as if there were none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from runner.domain.job import Job, OnBadRow
from runner.domain.sampling import drawn, in_share
from runner.errors import InputInvalid
from runner.files.bad_row import BadLine, BadRow
from runner.files.expressions import Condition
from runner.files.row_key import key_of
from runner.files.sandbox import TemplateEnvironment
from runner.files.source import Input
from runner.files.sources.blocks import Block, records
from runner.files.strict_json import parse_object

Answered = Callable[[list[str]], set[str]]


class Selection:
    """Keeps some records of each block. `prepare` is called once, before the first block is kept."""

    def __init__(self, job: Job, answered: Answered | None) -> None:
        spec = job.input
        self._seed = spec.seed
        self._share = spec.sample_share
        self._size = spec.sample
        self._id = spec.id
        self._skips = spec.on_bad_row is OnBadRow.SKIP
        self._answered = answered if spec.unanswered else None
        names = {"params": dict(job.params), "job": {"name": job.name, "tags": dict(job.tags)}}
        self._names = names
        self._where = Condition(TemplateEnvironment(), spec.where, "input.where") if spec.where else None
        self._sample: frozenset[int] | None = None
        self._source: Input | None = None

    @staticmethod
    def of(job: Job, answered: Answered | None = None) -> Selection | None:
        """None where all records are asked."""
        spec = job.input
        wanted = (spec.where, spec.sample, spec.sample_share, spec.unanswered and answered)
        return Selection(job, answered) if any(one for one in wanted) else None

    def prepare(self, source: Input) -> None:
        """Draw the sample, which takes one pass over the input."""
        self._source = source
        if self._size is None:
            return
        if not source.checkable:
            raise InputInvalid(
                f"{source.place} is read once, and a sample of {self._size:,} rows needs to see all of them first.",
                hints=("fix: sample a share, such as sample: 1%",),
            )
        self._sample = drawn(self._seed, self._candidates(source), self._size)

    def _candidates(self, source: Input) -> Iterator[int]:
        for block in source.blocks():
            yield from (number for number, _ in self._kept(block))

    def kept(self, block: Block) -> Block:
        """The block with the records that are asked, under their own numbers."""
        pairs = self._kept(block)
        return replace(block, numbers=[number for number, _ in pairs], lines=[line for _, line in pairs])

    def _kept(self, block: Block) -> list[tuple[int, bytes]]:
        pairs = [(number, line) for number, line in records(block) if self._in_sample(number)]
        if self._where is not None:
            pairs = [(number, line) for number, line in pairs if self._fits(number, line, self._where)]
        return self._unanswered(pairs) if self._answered is not None else pairs

    def _in_sample(self, number: int) -> bool:
        if self._share is not None and not in_share(self._seed, number, self._share):
            return False
        return self._sample is None or number in self._sample

    def _fits(self, number: int, line: bytes, condition: Condition) -> bool:
        """A record that is no object is kept: the check says what is wrong with it."""
        try:
            row = parse_object(line)
        except BadRow:
            return True
        try:
            return condition.holds({**row, "row": row, **self._names})
        except BadRow as bad:
            if self._skips:
                return False
            where = self._source.where(number) if self._source else f"line {number}"
            found = BadLine.of(number, where, line, bad)
            raise InputInvalid(
                found.sentence(),
                name="bad-row",
                hints=(f"{number} | {found.excerpt}", "fix: row.x is defined and ..., or --on-bad-row skip"),
            ) from None

    def _unanswered(self, pairs: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        keys: dict[int, str] = {}
        for number, line in pairs:
            try:
                key = key_of(parse_object(line), self._id)
            except BadRow:
                continue
            if key is not None:
                keys[number] = key
        assert self._answered is not None  # noqa: S101 - the caller has just looked
        done = self._answered(list(keys.values()))
        return [(number, line) for number, line in pairs if keys.get(number) not in done]
