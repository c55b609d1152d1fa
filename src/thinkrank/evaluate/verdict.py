"""One sentence on how a system compares with the best of others."""

from collections.abc import Sequence

from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.results import format_value


def verdict(figures: Figures, system: str, others: Sequence[str], metric: str = "ndcg@10") -> str:
    """Say by how much a system is above or below the best of others, how sure that is, and what could have been seen.

    The best is chosen by the same figures, which favours it: the test is on the safe side.

    Args:
        figures: of an evaluation.
        system: what is judged.
        others: what it is compared with, one at least.
        metric: by which.
    """
    means = {name: float(figures.values(name, metric).mean()) for name in (system, *others)}
    best = max(others, key=lambda name: means[name])
    test = figures.compare(system, best, metric)
    way = "above" if test.difference.value >= 0 else "below"
    share = f"{abs(test.difference.value) / means[best]:.0%} " if means[best] else ""
    label, cut = [*metric.split("@"), ""][:2]
    name = f"{label.upper()}@{cut}" if cut else label.upper()
    sentence = (
        f"{system}: {name} {format_value(means[system])}, {share}{way} {best} ({format_value(means[best])}), the best "
        f"of {len(others)} others; difference {_signed(test.difference.value)} "
        f"[{_signed(test.difference.low)}, {_signed(test.difference.high)}]"
    )
    if test.p_value is None:
        return f"{sentence}; too few users for a test."
    seen = (
        "" if test.visible is None else f"; with 80 % power a difference of {format_value(test.visible)} would be seen"
    )
    return f"{sentence}, {_p_value(test.p_value)}{seen}."


def _signed(value: float | None) -> str:
    return "" if value is None else ("-" if value < 0 else "+") + format_value(abs(value))


def _p_value(p_value: float) -> str:
    return "p < .001" if p_value < 0.001 else f"p {f'{p_value:.3f}'.lstrip('0')}"
