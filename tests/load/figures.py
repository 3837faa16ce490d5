"""Medians, spreads and percentiles."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; `ordered` is sorted, not empty."""
    # Rounded, for 0.999 * 1000 is a little more than 999.
    rank = -int(-round(share * len(ordered), 6) // 1)
    return ordered[min(len(ordered), max(1, rank)) - 1]


@dataclass(frozen=True)
class Figure:
    """One number of the report: the median of its rounds, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure":
        values = list(values)
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.least)}-{short(self.greatest)})"


def short(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
