"""Calendar parts (year, month, …) of dates and times in microseconds since 1970, local time."""

from __future__ import annotations

import numpy as np

DAY = 86_400_000_000
"""Number of microseconds in a day."""

ELAPSED, YEAR, MONTH, DAY_OF_MONTH, WEEKDAY, HOUR = (
    "elapsed",
    "year",
    "month",
    "day",
    "weekday",
    "hour",
)

CYCLES = (MONTH, DAY_OF_MONTH, WEEKDAY, HOUR)
"""Parts that are fractions of a cycle: a year, a month of 31 days, a week and a day."""

SIZES = {MONTH: 12, WEEKDAY: 7}
"""Number of steps in each short cycle; these are one-hot encoded, the others as sine and cosine.

Adjacent steps of a short cycle, such as Friday and Saturday, may differ as much as any two steps.
"""


def split_days(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert int64 days since 1970-01-01 to Gregorian year, month (1 to 12) and day (1 to 31).

    The method is ``civil_from_days`` from Howard Hinnant, "chrono-Compatible Low-Level Date
    Algorithms". It uses only integers, so that an exported model repeats it exactly.
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
    """Return the year of each time as int64, or a part from :data:`CYCLES` as a float64 fraction.

    ``times`` are int64 microseconds since 1970-01-01.
    """
    days = times // DAY
    if part == WEEKDAY:
        return ((days + 3) % 7) / 7.0  # 1970 began on a Thursday
    if part == HOUR:
        return (times - days * DAY) / float(DAY)
    year, month, day = split_days(days)
    if part == YEAR:
        return year
    return (month - 1) / 12.0 if part == MONTH else (day - 1) / 31.0
