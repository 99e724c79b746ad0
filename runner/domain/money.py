"""Money for people: pico-dollars to text. Only here are amounts rounded, and never to nothing."""

from __future__ import annotations

from runner.domain.pricing import PICO_PER_USD

PICO_DIGITS = 12
UNKNOWN = "unknown"


def dollars(pico: int | None) -> str:
    """`$1,204.50`, `$0.0123`, `$0.0000071`: cents from a dollar up, below that as many digits as it takes."""
    if pico is None:
        return UNKNOWN
    amount = abs(pico)
    sign = "-" if pico < 0 else ""
    rounded = _rounded(amount, _digits(amount))
    whole, _, part = rounded.partition(".")
    part = part.rstrip("0").ljust(2, "0")
    return f"{sign}${int(whole):,}.{part}"


def _digits(amount: int) -> int:
    """Two from a dollar up, four from a tenth of a cent, below that two that count."""
    if amount >= PICO_PER_USD:
        return 2
    if amount >= PICO_PER_USD // 1000 or amount == 0:
        return 4
    leading_zeros = PICO_DIGITS - len(str(amount))
    return min(leading_zeros + 2, PICO_DIGITS)


def _rounded(amount: int, digits: int) -> str:
    """`amount` with `digits` decimals; a half goes up, so that costs are not made smaller."""
    unit = int(10 ** (PICO_DIGITS - digits))
    units = (amount + unit // 2) // unit
    whole, part = divmod(units, 10**digits)
    return f"{whole}.{part:0{digits}d}"


def usd(pico: int | None) -> float | None:
    """Dollars for JSON: the float nearest to the exact amount."""
    return None if pico is None else pico / PICO_PER_USD
