"""Whether what a stage writes is true, and whether it decides what the stage answers.

A text that reads well may be false, and a true one may be ignored by the very model that wrote it. Four things are
measured, each with an interval that draws whole users:

- claims: share of what texts claim that holds, and share of texts that may be shown (`thinkrank.evidence`);
- dependence: how the answer changes when the text is removed, cut behind its first sentences, or replaced by another
  user's. Three measures: rank correlation (Spearman, over everything that is ranked), overlap of the first k, and the
  change of the target's log-probability under softmax of the scores, in nats. A stage that ignores its text shows 1, 1
  and 0 whatever is done to it;
- agreement: of the attributes that texts name, how many the recommended items have, beside the same with the items of
  another user's answer: only what is above that says something of this user.

Source: removing, cutting and replacing a chain of thought after Lanham et al. 2023, "Measuring Faithfulness in
Chain-of-Thought Reasoning"; applied to rankings by us.

Shape legend: B requests, V readings, N scored items, K places, C claims or texts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer

from thinkrank.evaluate.results import ResultRow
from thinkrank.evaluate.significance import bootstrap_intervals
from thinkrank.stages.answers import Check

Text = tuple[str, ...] | None
"""What was written for one request: one thought, or a reason for each candidate; None for nothing."""

Read = Callable[[Sequence[int], Sequence[Text]], Float[np.ndarray, "V N"]]
"""Scores of the items of some requests, by number, after given texts; -inf for what cannot be recommended. Readings of
one request follow each other, so that what they share can be read once."""

REMOVED, REPLACED = "removed", "another user's"
MEASURES = ("rank correlation", "overlap@{k}", "target's log-probability, change")
HOLD, SHOWN = "claims that hold", "texts that may be shown"
AGREE, SHUFFLED, ABOVE = "named attributes: agree", "named attributes: shuffled", "named attributes: above shuffled"
MOST_CUTS = 3
"""Sentences behind which a text is cut, at most."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Hold what was measured: per figure its values and whose they are.

    Attributes:
        values: per figure one value for each claim, text or request that it can be said of.
        users: the user of each of these.
    """

    values: Mapping[str, Float64[np.ndarray, "_"]]
    users: Mapping[str, Integer[np.ndarray, "_"]]

    def mean(self, figure: str) -> float:
        """Return the mean of a figure."""
        return float(self.values[figure].mean())

    def rows(self, *, dataset: str, split: str, system: str, seeds: Sequence[int] = ()) -> list[ResultRow]:
        """Return every figure that was measured as a result row, with a 95 % interval that resamples users."""
        rows = []
        for figure, values in self.values.items():
            if len(values):
                (interval,) = bootstrap_intervals(values[:, None], self.users[figure])
                row = ResultRow(
                    dataset=dataset,
                    split=split,
                    system=system,
                    metric=figure,
                    n=len(values),
                    seeds=tuple(seeds),
                    **vars(interval),
                )
                rows.append(row)
        return rows


def in_words(rows: Sequence[ResultRow]) -> str:
    """Say how much of what was claimed holds, and how much of the answer stays when the text is taken away.

    Args:
        rows: of one stage, as `Faithfulness.rows` gives them; empty if there are none.
    """
    by = {row.metric: row for row in rows}
    told = []
    if (hold := by.get(HOLD)) is not None:
        told.append(f"{hold.value:.1%} of {hold.n:,} claims in its texts hold [{hold.low:.1%}, {hold.high:.1%}]")
    if (shown := by.get(SHOWN)) is not None:
        told.append(f"{shown.value:.1%} of {shown.n:,} texts may be shown, in which no claim fails")
    stays = next((row for row in rows if row.metric.startswith(f"{REMOVED}: overlap")), None)
    if stays is not None:
        k = int(stays.metric.partition("@")[2])
        told.append(f"without its text {k * stays.value:.1f} of the first {k} stay")
    return f"{'; '.join(told)}." if told else ""


def measure_faithfulness(
    read: Read,
    texts: Sequence[tuple[str, ...]],
    targets_B: Integer[np.ndarray, "B"],
    users_B: Integer[np.ndarray, "B"],
    *,
    checks: Sequence[Sequence[Check]] = (),
    agreement: Mapping[str, Float64[np.ndarray, "_"]] | None = None,
    k: int = 10,
) -> Faithfulness:
    """Read requests again after their texts were removed, cut and replaced, and sum up what texts claim.

    Args:
        read: of the stage that wrote them.
        texts: per request, as the stage wrote them.
        targets_B: columns of the true items in what `read` returns; -1 where it is not among them.
        users_B: whose request each is.
        checks: of the texts, per request.
        agreement: as `attribute_agreement` gives it.
        k: cut-off of the overlap.

    Raises:
        ValueError: without texts, or if the numbers of texts, targets and users differ.
    """
    if not len(texts) or not len(texts) == len(targets_B) == len(users_B):
        raise ValueError(f"{len(texts)} texts, {len(targets_B)} targets and {len(users_B)} users: give one of each")
    changed = [_changes(texts, users_B, row) for row in range(len(texts))]
    rows = [row for row, variants in enumerate(changed) for _ in range(len(variants) + 1)]
    given: list[Text] = [text for row, variants in enumerate(changed) for text in (texts[row], *variants.values())]
    scores_VN = np.asarray(read(rows, given), dtype=np.float64)
    measures = [measure.format(k=k) for measure in MEASURES]
    values: dict[str, list[float]] = {}
    users: dict[str, list[int]] = {}
    place = 0
    for row, variants in enumerate(changed):
        whole_N = scores_VN[place]
        for number, way in enumerate(variants, start=1):
            found = _differences(whole_N, scores_VN[place + number], int(targets_B[row]), k)
            for measure, value in zip(measures, found, strict=True):
                if value is not None:
                    values.setdefault(f"{way}: {measure}", []).append(value)
                    users.setdefault(f"{way}: {measure}", []).append(int(users_B[row]))
        place += len(variants) + 1
    told = {name: np.array(found) for name, found in sorted(values.items(), key=lambda item: _order(item[0]))}
    of = {name: np.array(users[name]) for name in told}
    for name, (values_C, users_C) in _of_claims(checks, users_B).items():
        told[name], of[name] = values_C, users_C
    for name, agree_B in (agreement or {}).items():
        there_B = ~np.isnan(agree_B)
        told[name], of[name] = agree_B[there_B], np.asarray(users_B)[there_B]
    return Faithfulness(told, of)


def attribute_agreement(
    named: Sequence[set[str]], items_BK: Integer[np.ndarray, "B K"], values_I: Sequence[Sequence[str]]
) -> dict[str, Float64[np.ndarray, "B"]]:
    """Compute the share of named attributes that the answered items have, and the same with another request's items.

    Args:
        named: attributes that each request's text names.
        items_BK: catalogue rows of the answers; -1 for none.
        values_I: attributes of every item.

    Returns:
        three figures per request, NaN where nothing is named or answered: with the own items, with those of the request
        half the list further, and the difference.
    """
    own_B, other_B = np.full((2, len(named)), np.nan)
    for row, attributes in enumerate(named):
        other = (row + max(1, len(named) // 2)) % len(named)
        own_B[row] = _share(attributes, items_BK[row], values_I)
        other_B[row] = _share(attributes, items_BK[other], values_I)
    return {AGREE: own_B, SHUFFLED: other_B, ABOVE: own_B - other_B}


def sentences(text: str) -> list[str]:
    """Cut a text into its sentences."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def _changes(texts: Sequence[tuple[str, ...]], users_B: Integer[np.ndarray, "B"], row: int) -> dict[str, Text]:
    """Name the readings of one request beside its own: nothing, its first sentences, another user's texts."""
    own = texts[row]
    changes: dict[str, Text] = {REMOVED: None}
    longest = max((len(sentences(text)) for text in own), default=0)
    for kept in range(1, min(longest, MOST_CUTS + 1)):
        changes[f"cut after sentence {kept}"] = tuple(" ".join(sentences(text)[:kept]) for text in own)
    num = len(texts)
    others = ((row + num // 2 + step) % num for step in range(num))
    other = next((o for o in others if users_B[o] != users_B[row] and len(texts[o]) >= len(own)), None)
    if other is not None:
        changes[REPLACED] = texts[other][: len(own)]
    return changes


def _differences(
    whole_N: Float64[np.ndarray, "N"], changed_N: Float64[np.ndarray, "N"], target: int, k: int
) -> tuple[float, float, float | None]:
    there_N = np.isfinite(whole_N) & np.isfinite(changed_N)
    whole, changed = whole_N[there_N], changed_N[there_N]
    first, second = (set(np.argsort(-scores, kind="stable")[:k].tolist()) for scores in (whole, changed))
    overlap = len(first & second) / max(1, len(first))
    change = None
    if target >= 0 and there_N[target]:
        change = float(_log_softmax(changed_N, there_N)[target] - _log_softmax(whole_N, there_N)[target])
    return _spearman(whole, changed), overlap, change


def _spearman(one: Float64[np.ndarray, "N"], other: Float64[np.ndarray, "N"]) -> float:
    """Correlate ranks, equal scores sharing theirs; 1 between two lists of nothing but equal scores."""
    ranks = [_ranks(scores) for scores in (one, other)]
    spreads = [float(np.std(rank)) for rank in ranks]
    if min(spreads) == 0:
        return float(spreads[0] == spreads[1])
    return float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / (spreads[0] * spreads[1]))


def _ranks(scores_N: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    _, inverse_N, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse_N])


def _log_softmax(scores_N: Float64[np.ndarray, "N"], there_N: Bool[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
    top = scores_N[there_N].max()
    return np.asarray(scores_N - top - np.log(np.exp(scores_N[there_N] - top).sum()))


def _of_claims(
    checks: Sequence[Sequence[Check]], users_B: Integer[np.ndarray, "B"]
) -> dict[str, tuple[Float64[np.ndarray, "_"], Integer[np.ndarray, "_"]]]:
    """Return one value per claim and one per text, each with its user."""
    holds: list[tuple[float, int]] = []
    shown: list[tuple[float, int]] = []
    for user, many in zip(users_B.tolist() if checks else [], checks, strict=True):
        for check in many:
            shown.append((float(check.may_be_shown), user))
            holds += [(float(number < check.true), user) for number in range(check.checked)]
    found = {HOLD: holds, SHOWN: shown}
    return {
        name: (np.array([value for value, _ in pairs]), np.array([user for _, user in pairs], dtype=np.int64))
        for name, pairs in found.items()
    }


def _share(attributes: set[str], items_K: Integer[np.ndarray, "K"], values_I: Sequence[Sequence[str]]) -> float:
    rows = items_K[items_K >= 0].tolist()
    if not attributes or not rows:
        return float("nan")
    return float(np.mean([value in values_I[row] for row in rows for value in sorted(attributes)]))


def _order(name: str) -> tuple[int, str]:
    return (0 if name.startswith(REMOVED) else 2 if name.startswith(REPLACED) else 1, name)
