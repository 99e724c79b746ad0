"""What a request holds back in the budgets before it is sent: the most that it can cost. Pure."""

from __future__ import annotations

from runner.domain.pricing import PriceBook
from runner.domain.request import MessagesRequest


def worst_pico(
    prices: PriceBook, request: MessagesRequest, *, row_pico: int | None = None, batch: bool = False
) -> int | None:
    """Bound of the input at its dearest, and `max_tokens` of output. Where nothing bounds that, what the job's author
    says (`limits.row_usd`); None where he says nothing either."""
    bound = prices.worst_pico(request, batch=batch)
    return row_pico if bound is None else bound


UNBOUNDED = "server tools or MCP servers leave its cost without a bound"
# How a budget can be kept all the same.
DECLARE_BOUND = "say in limits.row_usd what such a call costs at most"
