"""How a system compares with others, in sentences: in words first, in figures behind."""

from collections.abc import Sequence

from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.results import format_value
from thinkrank.evaluate.significance import holm

SURE = 0.05
"""Corrected p-value below which a difference is called one."""


def in_words(figures: Figures, system: str, others: Sequence[str], metric: str = "ndcg@10", *, does: str) -> str:
    """Say than which others a system is surely better or worse, by paired tests corrected for their number.

    Args:
        figures: of an evaluation.
        system: what is judged.
        others: what it is compared with, one at least.
        metric: by which.
        does: what it does, as in "finds the next film".
    """
    tests = [figures.compare(system, other, metric) for other in others]
    corrected = holm([test.p_value for test in tests])
    if all(p_value is None for p_value in corrected):
        users = "1 user is" if tests[0].num_clusters == 1 else f"{tests[0].num_clusters} users are"
        return f"{users} too few to tell whether it {does} better or worse than {listed(others)}."
    better: list[str] = []
    worse: list[str] = []
    unsure: list[str] = []
    for other, test, p_value in zip(others, tests, corrected, strict=True):
        is_sure = p_value is not None and p_value < SURE
        (unsure if not is_sure else better if test.difference.value > 0 else worse).append(other)
    told = [f"{way} than {listed(names)}" for way, names in (("better", better), ("worse", worse)) if names]
    if told:
        behind = f"; no sure difference from {listed(unsure)}" if unsure else ""
        return begun(f"{does} {', '.join(told)}{behind}.")
    return begun(f"{does} neither surely better nor surely worse than {listed(unsure)}.")


def of_thinking(figures: Figures, thinking: str, plain: str, metric: str = "ndcg@10") -> str:
    """Say what a thought before the answer does to it, and how it is better asked.

    Args:
        figures: of an evaluation that holds both.
        thinking: name of the system that thinks first.
        plain: name of the same one without a thought.
        metric: by which.
    """
    test = figures.compare(thinking, plain, metric)
    means = [format_value(float(figures.values(name, metric).mean())) for name in (thinking, plain)]
    shown = f"{metric_name(metric)} {means[0]} with a thought, {means[1]} without"
    if test.p_value is None:
        return f"Whether thinking first pays cannot be told from so few users ({shown})."
    shown = f"{shown}, {p_words(test.p_value)}"
    if test.p_value >= SURE:
        return f"Thinking first makes no sure difference ({shown}), so answers should come without one: it costs less."
    if test.difference.value > 0:
        return f"Thinking first makes it better ({shown}), so answers should come with a thought."
    return f"Thinking first makes it worse ({shown}), so answers should come without one."


def metric_name(metric: str) -> str:
    """Write a metric as people do: NDCG@10, hit@10, MRR."""
    name, _, cut = metric.partition("@")
    name = name.upper() if name in ("ndcg", "mrr", "map", "auc") else name
    return f"{name}@{cut}" if cut else name


def verdict(figures: Figures, system: str, others: Sequence[str], metric: str = "ndcg@10") -> str:
    """Say by how much a system is above or below the best of others, how sure that is, and what could have been seen.

    The best is chosen by the same figures, which favours it. Above it, the test is on the safe side; below it, the
    p-value is corrected by Holm for the number of others, each of which could have been the best.

    Args:
        figures: of an evaluation.
        system: what is judged.
        others: what it is compared with, one at least.
        metric: by which.
    """
    means = {name: float(figures.values(name, metric).mean()) for name in (system, *others)}
    best = max(others, key=lambda name: means[name])
    test = figures.compare(system, best, metric)
    way, p_value = "above" if test.difference.value >= 0 else "below", test.p_value
    if way == "below" and len(others) > 1:
        p_value = holm([figures.compare(system, other, metric).p_value for other in others])[others.index(best)]
    share = f"{abs(test.difference.value) / means[best]:.0%} " if means[best] else ""
    ours, theirs = (format_value(means[name]) for name in (system, best))
    sentence = (
        f"{system}: {metric_name(metric)} {ours}, {share}{way} {best} ({theirs}), the best of {len(others)} others; "
        f"difference {signed(test.difference.value)} "
        f"[{signed(test.difference.low)}, {signed(test.difference.high)}]"
    )
    if p_value is None:
        return f"{sentence}; too few users for a test."
    corrected = f" corrected for {len(others)} others" if p_value is not test.p_value else ""
    seen = (
        "" if test.visible is None else f"; with 80 % power a difference of {format_value(test.visible)} would be seen"
    )
    return f"{sentence}, {p_words(p_value)}{corrected}{seen}."


def signed(value: float | None) -> str:
    """Write a difference with its sign; nothing where there is none."""
    return "" if value is None else ("-" if value < 0 else "+") + format_value(abs(value))


def p_words(p_value: float) -> str:
    """Write a p-value."""
    return "p < .001" if p_value < 0.001 else f"p {f'{p_value:.3f}'.lstrip('0')}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Join names with commas, the last one with a word."""
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def begun(sentence: str) -> str:
    """Begin a sentence with a capital letter."""
    return sentence[:1].upper() + sentence[1:]
