"""Numbers and names as the page writes them."""

import re
from collections.abc import Callable

from markupsafe import Markup, escape

DASH, MINUS, NO_BREAK = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is no number."""
    if value is None:
        return DASH
    return f"{value:#.4g}".rstrip(".").replace("-", MINUS)


def signed(value: float) -> str:
    """Four digits after the point, and always a sign."""
    return f"{value:+.4f}".replace("-", MINUS)


def size(many: float | None) -> str:
    """Bytes in powers of 1000: 12.3 MB."""
    if many is None:
        return DASH
    value, unit = float(many), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}".replace(".0 ", " ")


def count(value: float | None) -> str:
    """How often: whole, or a mean with one digit after the point."""
    if value is None:
        return DASH
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def change(value: float | None, show: Callable[[float | None], str]) -> str:
    """A difference with its sign, shown as its measure is."""
    if not value:
        return show(value)
    return (MINUS if value < 0 else "+") + show(abs(value))


def seconds(value: float | None) -> str:
    """Seconds with three digits below a hundred, whole above."""
    if value is None:
        return DASH
    return f"{value:#.3g} s" if value < 99.95 else f"{value:,.0f} s"


def short(name: str, length: int = 18) -> str:
    """A name cut to `length` characters with an ellipsis in its middle."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[: length - 1 - half]}…{name[-half:]}"


def breakable(name: str) -> Markup:
    """A name that a narrow column may break behind its marks of punctuation, and not inside a number."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/:,])(?=.)|(?<=[-.])(?=\D)", name))


def listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
