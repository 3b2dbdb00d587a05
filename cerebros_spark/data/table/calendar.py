"""Parts of dates and times, from microseconds since 1970 in the local calendar."""

from __future__ import annotations

import numpy as np

DAY = 86_400_000_000
"""Microseconds of a day."""

ELAPSED, YEAR, MONTH, DAY_OF_MONTH, WEEKDAY, HOUR = (
    "elapsed",
    "year",
    "month",
    "day",
    "weekday",
    "hour",
)

CYCLES = (MONTH, DAY_OF_MONTH, WEEKDAY, HOUR)
"""Parts that are fractions of a cycle: of the year, of a month of 31 days, of a week, of a day."""

SIZES = {MONTH: 12, WEEKDAY: 7}
"""Cycles of few steps, by their number: they are one-hot encoded, others as sine and cosine.

Neighbors in these cycles may differ as much as any two: Friday and Saturday, November and December.
"""


def split_days(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return year, month (1 to 12) and day (1 to 31) of int64 days since 1970, in Gregorian dates.

    The method is that of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
    ``civil_from_days``. It uses integers alone, so that an exported model repeats it exactly.
    """
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * from_march + 2) // 5 + 1
    month = (from_march + 2) % 12 + 1
    year = year_of_era + era * 400 + (month <= 2)
    return year, month, day


def compute_part(part: str, times: np.ndarray) -> np.ndarray:
    """Return a part of times: the year as int64, a fraction of a cycle as float64."""
    days = times // DAY
    if part == WEEKDAY:
        return ((days + 3) % 7) / 7.0  # 1970 began on a Thursday
    if part == HOUR:
        return (times - days * DAY) / float(DAY)
    year, month, day = split_days(days)
    if part == YEAR:
        return year
    return (month - 1) / 12.0 if part == MONTH else (day - 1) / 31.0
