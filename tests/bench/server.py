"""The other side: the simulator in a process of its own, which notes when it was first asked and what it costs.

It is asked for its notes at a door of its own, so that a client's time to the first request is seen from outside.
"""

from __future__ import annotations

import asyncio
import sys
import time

from runner.clock import SystemClock
from runner.simulator import Reply, Request, Simulator, SimulatorConfig, config_from_json, serve
from runner.simulator.exchange import json_reply

NOTES = "/_simulator/notes"
MESSAGES = "/v1/messages"


class NotingSimulator(Simulator):
    """`first_s` is on the clock that all processes of a machine share."""

    def reset(self) -> None:
        super().reset()
        self.first_s: float | None = None

    def receive(self, request: Request) -> Reply:
        if request.path == NOTES:
            accepted = self.ledger.counts["accepted"]
            return json_reply({"first_s": self.first_s, "accepted": accepted, "cpu_s": time.process_time()})
        if self.first_s is None and request.path == MESSAGES:
            self.first_s = time.monotonic()
        return super().receive(request)


async def serve_until_killed(config: SimulatorConfig) -> None:
    server = await serve(NotingSimulator(config, SystemClock()))
    print(server.url, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    config = config_from_json(sys.argv[1])
    if sys.platform == "win32":
        asyncio.run(serve_until_killed(config))
    else:
        import uvloop

        uvloop.run(serve_until_killed(config))


if __name__ == "__main__":
    main()
