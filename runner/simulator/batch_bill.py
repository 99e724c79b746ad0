"""The bill of one ended batch: half price, only for what succeeded, written line by line when somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from runner.simulator.batch import Batch
from runner.simulator.batch_work import Outcome
from runner.simulator.billing import cost_usd
from runner.simulator.ledger import Charge


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchBill:
    """What the ledger keeps of an ended batch; the batch itself may be deleted meanwhile."""

    batch_id: str
    ended_us: int
    ordinal: int
    request_id: str
    workspace_id: str
    outcome: Outcome

    @property
    def billed(self) -> int:
        return self.outcome.billed

    @property
    def tokens(self) -> dict[str, int]:
        return self.outcome.tokens

    @property
    def cost_usd(self) -> Fraction:
        return self.outcome.cost_usd

    def charges(self) -> Iterator[Charge]:
        """One for each request that succeeded."""
        for custom_id, message, digest in self.outcome.billed_lines():
            yield Charge(
                ordinal=self.ordinal,
                at_us=self.ended_us,
                body_sha256=digest,
                model=message["model"],
                usage=message["usage"],
                cost_usd=cost_usd(message["model"], message["usage"], batch=True),
                request_id=self.request_id,
                stream=False,
                wire="batch",
                batch_id=self.batch_id,
                custom_id=custom_id,
                workspace_id=self.workspace_id,
            )


def bill_of(batch: Batch, outcome: Outcome) -> BatchBill:
    """The bill, dated when the batch ended by its own clock."""
    return BatchBill(
        batch_id=batch.id,
        ended_us=batch.ends_us,
        ordinal=batch.ordinal,
        request_id=batch.request_id,
        workspace_id=batch.workspace_id,
        outcome=outcome,
    )
