"""What is the account's trouble pauses the run; no row pays for it, and the same run goes on when it is over."""

from __future__ import annotations

import pytest

from runner.domain.states import PauseReason
from runner.simulator import Fault
from tests.engine.house import Books, House, prompts, served

pytestmark = pytest.mark.anyio

TROUBLES = {
    "spend_limit": (Fault(kind="spend_limit"), PauseReason.SPEND_CAP),
    "customer_spend_limit": (Fault(kind="customer_spend_limit"), PauseReason.SPEND_CAP),
    "credit_low": (Fault(kind="credit_low"), PauseReason.BILLING),
    "billing": (Fault(kind="billing"), PauseReason.BILLING),
    "on_hold": (
        Fault(kind="error", status=403, error_type="permission_error", error_code="organization_on_hold"),
        PauseReason.BILLING,
    ),
    "authentication": (Fault(kind="authentication"), PauseReason.CREDENTIALS),
    "permission": (Fault(kind="permission"), PauseReason.CREDENTIALS),
    "model": (
        Fault(kind="error", status=404, error_type="not_found_error", message="model: claude-haiku-5-5"),
        PauseReason.MODEL,
    ),
}


@pytest.mark.parametrize("name", sorted(TROUBLES))
async def test_the_run_pauses_no_row_fails_and_the_same_run_ends_once_it_is_over(house: House, name: str) -> None:
    fault, reason = TROUBLES[name]
    run = house.new_run(prompts(60), limits={"concurrency": 8})
    async with served(house, faults=(Fault(**_fields(fault, after=20)),)) as api:
        end = await house.work(run, api)
        assert end.pause is not None
        assert end.pause.reason is reason
        assert end.run.state == "paused"
        assert house.statuses(run) == {"succeeded": 20}
        assert (house.table("attempts"), house.sends_left()) == ([], 0)
        assert api.calls <= 20 + 8, "nothing new is sent"
        api.simulator.set_faults(())
        end = await house.work(run, api)
        assert end.run.state == "done"
        assert house.statuses(run) == {"succeeded": 60}
        Books(house, api.simulator, run).check()


def _fields(fault: Fault, **changes: object) -> dict[str, object]:
    return {name: getattr(fault, name) for name in fault.__dataclass_fields__} | changes


async def test_the_organisations_own_cap_pauses_between_rows(house: House) -> None:
    run = house.new_run(prompts(60))
    async with served(house, spend_cap_usd="0.0002") as api:
        end = await house.work(run, api)
        assert end.pause is not None
        assert end.pause.reason is PauseReason.SPEND_CAP
        assert house.statuses(run) == {"succeeded": end.tally.done}
        assert 0 < end.tally.done < 60
        Books(house, api.simulator, run).check()
