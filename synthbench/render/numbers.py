"""Numbers as text."""

from __future__ import annotations


def number(x: float) -> str:
    """Return a value with three significant digits, and with two where it is below 0.0001.

    >>> number(19.391), number(0.03614), number(-0.00012)
    ('19.4', '0.0361', '-0.00012')
    """
    if x == 0:
        return "0"
    return f"{x:.3g}" if abs(x) >= 1e-4 else f"{x:.2g}"


def p_text(p: float | None) -> str:
    """Return a p-value with three decimals; a dash where there is none.

    >>> p_text(0.0421), p_text(0.00002), p_text(None)
    ('0.042', '<0.001', '-')
    """
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes, hours or days, whichever is easiest to read.

    >>> duration(0.25), duration(42.4), duration(5400), duration(6834), duration(508_000_000)
    ('0.25 s', '42 s', '90 min', '1.9 h', '5879.6 days')
    """
    if seconds < 1:
        return f"{number(seconds)} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds <= 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
