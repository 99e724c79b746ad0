"""The Models API, the settings, and the simulator as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from runner.simulator import Request, Simulator, SimulatorConfig, config_from_json
from tests.simulator.calls import HEADERS, body, params
from tests.turned_clock import TurnedClock


def get(path: str, query: str = "") -> tuple[int, dict[str, object]]:
    simulator = Simulator(SimulatorConfig(), TurnedClock())
    reply = simulator.receive(Request(method="GET", path=path, query=query, headers=HEADERS))
    return reply.status, json.loads(reply.body)


def test_models_are_listed_newest_first_in_pages_that_miss_and_repeat_none() -> None:
    listed: list[dict[str, object]] = []
    after = ""
    while True:
        _, page = get("/v1/models", f"limit=5&after_id={after}")
        data = page["data"]
        assert isinstance(data, list)
        listed += data
        after = str(page["last_id"])
        if not page["has_more"]:
            break
    dates = [str(model["created_at"]) for model in listed]
    assert dates == sorted(dates, reverse=True)
    assert len({str(model["id"]) for model in listed}) == len(listed) == 18


def test_before_id_pages_backwards_and_lifecycle_filters() -> None:
    _, first = get("/v1/models", "limit=3")
    _, back = get("/v1/models", f"limit=2&before_id={first['last_id']}")
    data = first["data"]
    assert isinstance(data, list)
    assert back["data"] == data[:2]
    _, deprecated = get("/v1/models", "lifecycle[]=deprecated")
    assert deprecated["first_id"] == deprecated["last_id"] == "claude-sonnet-4-5-20250929"
    assert get("/v1/models", "limit=0")[0] == 400


def test_a_model_is_found_by_id_and_alias() -> None:
    assert get("/v1/models/claude-haiku-4-5")[1]["id"] == "claude-haiku-4-5-20251001"
    assert get("/v1/models/claude-9")[0] == 404


def test_settings_are_read_from_json_and_unknown_ones_refused() -> None:
    config = config_from_json('{"seed": 4, "tier": "build", "faults": [{"kind": "reset", "every": 9}]}')
    assert (config.seed, config.tier, config.faults[0].every) == (4, "build", 9)
    for wrong in ('{"sead": 4}', '{"tier": "gold"}', '{"burst_s": 0}', '{"rpm": 0}', "[]"):
        with pytest.raises((msgspec.ValidationError, ValueError)):
            config_from_json(wrong)


FAULTS = [{"kind": "executed_reset", "first": 1}, {"kind": "reset_half", "first": 2}]


@pytest.fixture
def process_url() -> Iterator[str]:
    command = [sys.executable, "-m", "runner.simulator", "--port", "0", "--seed", "5"]
    command += ["--config", '{"keep_ledger": "totals"}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.removeprefix("listening on ").strip()
        process.terminate()
        assert process.wait(10) == 0


def test_the_process_says_where_it_listens_and_stops_on_sigterm(process_url: str) -> None:
    with httpx.Client(base_url=process_url, headers=HEADERS, trust_env=False) as client:
        assert client.post("/v1/messages", content=body()).status_code == 200
        count = client.post("/v1/messages/count_tokens", json=params(max_tokens=None))
        assert count.json()["input_tokens"] >= 1


def test_the_process_breaks_connections_as_well(process_url: str) -> None:
    with httpx.Client(base_url=process_url, headers=HEADERS, trust_env=False) as client:
        client.post("/_simulator/faults", json=FAULTS)
        for _ in FAULTS:
            with pytest.raises(httpx.ReadError):
                client.post("/v1/messages", content=body())
        assert client.post("/v1/messages", content=body()).status_code == 200
        assert client.get("/_simulator/tallies").json()["wire"] == {"reset": 2, "delivered": 1}
