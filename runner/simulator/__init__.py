"""The Claude API offline: a real server with limits, faults and an exact bill, answering the same every time.

It stands apart from the rest of the program: it imports only `runner.clock`, so that its reading of limits and
prices is independent of the runner's.
"""

from runner.simulator.config import SimulatorConfig, config_from_json
from runner.simulator.exchange import Reply, Request
from runner.simulator.faults import Fault
from runner.simulator.process import run_forever
from runner.simulator.prompt import prompt_digest
from runner.simulator.server import RunningServer, serve
from runner.simulator.simulator import Simulator, expected_message

__all__ = [
    "Fault",
    "Reply",
    "Request",
    "RunningServer",
    "Simulator",
    "SimulatorConfig",
    "config_from_json",
    "expected_message",
    "prompt_digest",
    "run_forever",
    "serve",
]
