"""The section of thoughts before and after reinforcement learning: the same samples, the same page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.splits import Samples
from thinkrank.evidence.checking import TextChecker, summed
from thinkrank.language.options import FinishReason
from thinkrank.report.cases import PastItem, past_items
from thinkrank.report.html import Html, item_text, join, tag
from thinkrank.report.users import folded_past, past_title, thought_text
from thinkrank.stages.answers import Check

NUM_PAST = 20
READING = "{training} trains the reading of thoughts too, so a place can change under the same words."
CHOSEN = "The weights kept are those of the best validation, and these samples are a part of it: expect less of others."
UNCHANGED = "No later validation was better than the first: the weights kept are those that the training began with."


@dataclass(frozen=True)
class WrittenThought:
    """Hold a thought, and where it led.

    Attributes:
        text: of the thought.
        num_tokens: how many it took, its closing included.
        finish_reason: why it ended.
        rank: 1-based place of the true item in the whole catalogue; None if it could not be recommended (already seen).
        check: what came of checking it; None if nobody did.
    """

    text: str
    num_tokens: int
    finish_reason: FinishReason
    rank: int | None
    check: Check | None = None


@dataclass(frozen=True)
class ThoughtPair:
    """Hold what was thought of one history before and after.

    Attributes:
        user: the user's id.
        past: the newest interactions, oldest first.
        past_length: how many interactions the history has in all.
        target: title of what the user took next.
        before: the thought of the model that the training began with.
        after: the thought of the model that was kept.
        about: what the thoughts are about, where that is one candidate: its title, and whether the user took it.
    """

    user: str
    past: Sequence[PastItem]
    past_length: int
    target: str
    before: WrittenThought
    after: WrittenThought
    about: str | None = None


@dataclass(frozen=True)
class ThoughtChange:
    """Hold what a training made of the thoughts about some samples.

    Attributes:
        before_step: where the training began.
        after_step: where the weights were that it kept.
        is_best: the weights were chosen by their validations, not for being the last.
        pairs: the samples.
        training: what the training is called.
    """

    before_step: int
    after_step: int
    is_best: bool
    pairs: Sequence[ThoughtPair]
    training: str = "RecPO"


def thought_change(
    rows: Sequence[Mapping[str, Any]],
    dataset: Dataset,
    *,
    is_best: bool,
    best_by: str = "valid_thinking_ndcg@10",
    training: str = "RecPO",
    num_past: int = NUM_PAST,
    checker: TextChecker | None = None,
) -> ThoughtChange | None:
    """Compare the first and the kept thoughts that a training logged; None if it logged none.

    Args:
        rows: of its `metrics.jsonl`, in order.
        dataset: what it was trained on.
        is_best: it kept the weights of the best validation, the first of the best; else those of the last.
        best_by: key of the log that the best weights were chosen by.
        training: what to call it.
        num_past: how many of the newest interactions the model read; all of them are shown.
        checker: checks the thoughts; None leaves them unchecked.
    """
    logged = {
        row["step"]: {thought["position"]: thought for thought in row["thoughts"]} for row in rows if "thoughts" in row
    }
    if not logged:
        return None
    scores = {row["step"]: row[best_by] for row in rows if best_by in row and row["step"] in logged}
    first, kept = min(logged), max(logged)
    if is_best and scores:
        kept = max(scores, key=lambda step: (scores[step], -step))
    before, after = logged[first], logged[kept]
    samples = Samples(dataset, np.array([position for position in before if position in after], dtype=np.int64))
    pairs = [
        ThoughtPair(
            user=dataset.users[sample.user],
            past=past_items(sample.history, dataset.catalogue, num_past),
            past_length=len(sample.history),
            target=dataset.catalogue.titles[sample.target],
            before=_written(before[position], sample.history.last(num_past), dataset, checker),
            after=_written(after[position], sample.history.last(num_past), dataset, checker),
            about=_about(after[position], dataset),
        )
        for position, sample in zip(samples.positions.tolist(), samples, strict=True)
    ]
    return ThoughtChange(before_step=first, after_step=kept, is_best=is_best, pairs=pairs, training=training)


def _written(
    thought: Mapping[str, Any], read: History, dataset: Dataset, checker: TextChecker | None
) -> WrittenThought:
    rank = thought["rank"] if thought["rank"] <= len(dataset.catalogue) else None
    text, finish, check = thought["text"], thought["finish_reason"], None
    if checker is not None:
        check = checker.check(text, read, thought.get("item"), finish_reason=finish)
    return WrittenThought(text, thought["tokens"], finish, rank, check)


def _about(thought: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Name the candidate that a ranker thought about."""
    if "item" not in thought:
        return None
    return f"{dataset.catalogue.titles[thought['item']]}{'' if thought['label'] else ' (not taken)'}"


def thoughts_section(change: ThoughtChange | None) -> Html | None:
    """Write one card per sample; None without samples."""
    if change is None or not change.pairs:
        return None
    facts = [READING.format(training=change.training)] if change.after_step > change.before_step else []
    if change.is_best:
        facts.append(CHOSEN if change.after_step > change.before_step else UNCHANGED)
    return tag(
        "section",
        tag("h2", "Thoughts"),
        tag("p", _summary(change), class_="lead"),
        tag("p", " ".join(facts), class_="facts") if facts else None,
        *(_card(pair, change) for pair in change.pairs),
        id="thoughts",
    )


def _summary(change: ThoughtChange) -> str:
    """Sum up what the cards come to."""
    pairs = change.pairs
    tokens = [sum(thought.num_tokens for thought in side) / len(pairs) for side in _sides(pairs)]
    sentences = [
        f"What was thought of the same {len(pairs)} validation samples before and after {change.training}.",
        f"Thoughts took {_short(tokens[0])} tokens on average before, {_short(tokens[1])} after; "
        f"{sum(map(_is_same, pairs))} are the same word for word.",
    ]
    checks = [[thought.check for thought in side if thought.check is not None] for side in _sides(pairs)]
    if all(checks):
        sentences.append(f"Before, {summed(checks[0])}; after, {summed(checks[1])}.")
    ranked = [pair for pair in pairs if pair.before.rank is not None and pair.after.rank is not None]
    moves = [_move(pair) for pair in ranked]
    if ranked:
        places = [median(thought.rank or 0 for thought in side) for side in _sides(ranked)]
        sentences += [
            f"The true item rose for {sum(move > 0 for move in moves)} of them, "
            f"fell for {sum(move < 0 for move in moves)} and stayed for {sum(move == 0 for move in moves)}; "
            f"its median place was {_short(places[0])} and became {_short(places[1])}."
        ]
    return " ".join(sentences)


def _sides(pairs: Sequence[ThoughtPair]) -> tuple[list[WrittenThought], list[WrittenThought]]:
    return [pair.before for pair in pairs], [pair.after for pair in pairs]


def _short(value: int | float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _is_same(pair: ThoughtPair) -> bool:
    return pair.before.text == pair.after.text


def _move(pair: ThoughtPair) -> int:
    """Count the places that the true item rose by."""
    return (pair.before.rank or 0) - (pair.after.rank or 0)


def _card(pair: ThoughtPair, change: ThoughtChange) -> Html:
    return tag(
        "article",
        tag("header", tag("h3", join("User ", tag("bdi", pair.user))), _verdict(pair)),
        tag(
            "div",
            tag(
                "div",
                tag("h4", past_title(len(pair.past), pair.past_length)),
                folded_past(pair.past),
                tag("h4", "Took next"),
                tag("p", item_text(pair.target), class_="next"),
                tag("h4", "Thought about") if pair.about else None,
                tag("p", item_text(pair.about), class_="next") if pair.about else None,
                class_="past",
            ),
            _column(f"Before, step {change.before_step:,}", pair.before),
            _column(f"After, step {change.after_step:,}{', the same words' if _is_same(pair) else ''}", pair.after),
            class_="columns",
        ),
        class_="card user",
    )


def _verdict(pair: ThoughtPair) -> Html:
    if pair.before.rank is None or pair.after.rank is None:
        return tag("p", "took something seen before", class_="verdict missed")
    move = _move(pair)
    if not move:
        return tag("p", f"true item stays at place {pair.after.rank:,}", class_="verdict")
    moved = f"true item from place {pair.before.rank:,} to {pair.after.rank:,}"
    return tag("p", moved, class_="verdict found" if move > 0 else "verdict missed")


def _column(title: str, thought: WrittenThought) -> Html:
    place = None
    if thought.rank is not None:
        place = tag("p", "True item at place ", tag("b", f"{thought.rank:,}"), ".", class_="facts")
    words = thought_text(thought.text, thought.num_tokens, thought.finish_reason, thought.check)
    return tag("div", tag("h4", title), *words, place, class_="thought")
