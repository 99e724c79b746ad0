"""How many of something, for people: one of it is not several."""

from __future__ import annotations


def quantity(number: int, one: str, many: str) -> str:
    """`1 row is`, `1,204 rows are`."""
    return f"1 {one}" if number == 1 else f"{number:,} {many}"


def of_rows(number: int) -> str:
    """`1 row`, `12 rows`."""
    return quantity(number, "row", "rows")


def of_batches(number: int) -> str:
    """`1 batch`, `12 batches`."""
    return quantity(number, "batch", "batches")


def of_calls(number: int) -> str:
    """`1 call`, `12 calls`."""
    return quantity(number, "call", "calls")
