"""How many digits of a measured number are kept: four, in binary, so that a packed column of them is small."""

import math


def kept(value: float | None, bits: int = 14) -> float | None:
    """The nearest number of so many binary digits, off by at most 2^−bits of itself; None of what is not finite.

    Whole numbers up to 2^bits stay as they are.
    """
    if value is None or not math.isfinite(value):
        return None
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(fraction, bits)), exponent - bits)
