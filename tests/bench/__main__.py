"""`python -m tests.bench`: measure, and print tables as they are ready."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.bench.fleet import fleet
from tests.bench.measures import MEASURES, Wish
from tests.bench.processes import cores
from tests.bench.tables import surroundings

SIZE, FULL_SIZE = 100_000, 1_000_000
# Only when they are asked for: they need more than this program.
APART = {"fleet": fleet}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="prompts of a live measurement (%(default)s)")
    parser.add_argument("--slots", type=_numbers, default=[64, 256, 1024], metavar="N,N", help="default 64,256,1024")
    parser.add_argument("--rounds", type=int, default=1, help="passes of each client, of which the median is shown")
    parser.add_argument("--only", choices=[*MEASURES, *APART], action="append", help="may be given several times")
    parser.add_argument("--size", type=int, default=SIZE, help="rows of all but the live measurement (%(default)s)")
    parser.add_argument("--full", action="store_true", help=f"these with {FULL_SIZE:,} rows too: about an hour")
    told = parser.parse_args()
    wish = Wish(
        cores=cores(),
        rows=told.rows,
        slots=told.slots,
        rounds=told.rounds,
        sizes=[told.size, FULL_SIZE] if told.full else [told.size],
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no process is left behind
    print(surroundings(wish.cores), flush=True)
    for name in told.only or MEASURES:
        for text in (MEASURES | APART)[name](wish):
            print(text, flush=True)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
