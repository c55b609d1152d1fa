"""The section of single users."""

from collections.abc import Sequence

from thinkrank.evidence.checking import summed
from thinkrank.language.options import FinishReason
from thinkrank.report.cases import PastItem, RankedItem, UserCase
from thinkrank.report.html import Html, item_text, join, tag, text
from thinkrank.stages.answers import Check

FINISHES = {
    "closed": "closed its own thought",
    "end_of_turn": "ended its turn",
    "length": "was cut off by the token budget",
}

TOO_FEW = "The counts are too small to tell why."
NUM_OPEN = 10
"""Lines of a history that stand open; the older ones that the model read too are folded."""


def users_section(cases: Sequence[UserCase]) -> Html | None:
    """Write one card per user; None without users."""
    if not cases:
        return None
    found = sum(any(item.is_target for item in case.items) for case in cases)
    lead = [f"For {found} of these {len(cases)} users the list holds what they really took next."]
    if any(case.among for case in cases):
        firsts = sum(case.target_rank == 1 for case in cases)
        lead = [f"For {firsts} of these {len(cases)} users the candidate that they really took next stands first."]
    checks = [check for case in cases for check in case.checks]
    thoughts = [case.thought.check for case in cases if case.thought is not None and case.thought.check is not None]
    lead += [f"Of their reasons {summed(checks)}."] if checks else []
    lead += [f"Of their thoughts {summed(thoughts)}."] if thoughts else []
    return tag("section", tag("h2", "Users"), tag("p", " ".join(lead), class_="lead"), *map(_card, cases), id="users")


def _card(case: UserCase) -> Html:
    past = tag("div", tag("h4", past_title(len(case.past), case.past_length)), folded_past(case.past), class_="past")
    thought = tag("div", *_thought(case), class_="thought") if case.thought else None
    if case.unthought is None:
        lists = [tag("div", tag("h4", _headed(case)), _list(case, case.items, case.target_rank), class_="answer")]
    else:
        lists = [
            tag("div", tag("h4", name), _list(case, items, rank), class_="answer")
            for name, items, rank in (
                ("Without the thought", case.unthought, case.unthought_rank),
                ("With the thought", case.items, case.target_rank),
            )
        ]
    upper = [past, thought, *lists] if len(lists) == 1 and thought is None else [past, thought]
    lower = [] if len(upper) == 3 and lists[0] in upper else lists
    return tag(
        "article",
        tag("header", tag("h3", join("User ", tag("bdi", case.user))), _verdict(case)),
        tag("div", *upper, class_="columns two"),
        tag("div", *lower, class_="columns two below") if lower else None,
        class_="card user",
    )


def _headed(case: UserCase) -> str:
    if case.among is not None:
        return f"The whole list, {len(case.items)} candidates"
    return f"Recommended, best {len(case.items)}"


def _verdict(case: UserCase) -> Html:
    if case.target_rank is None:
        return tag("p", "took something seen before", class_="verdict missed")
    found = any(item.is_target for item in case.items) if case.among is None else case.target_rank == 1
    told = f"true item at place {case.target_rank:,}"
    if case.unthought_rank is not None and case.unthought_rank != case.target_rank:
        told += f", without the thought {case.unthought_rank:,}"
    return tag("p", told, class_="verdict found" if found else "verdict missed")


def past_title(shown: int, length: int) -> str:
    """Head a list of interactions: how many of a history it shows."""
    return f"What the model read, newest {shown} of {length:,}" if shown < length else f"History, {length:,} in all"


def folded_past(past: Sequence[PastItem]) -> Html:
    """List interactions, oldest first, the older ones folded away."""
    older, newer = past[:-NUM_OPEN], past[-NUM_OPEN:]
    if not older:
        return past_list(newer)
    return join(
        tag("details", tag("summary", f"{len(older)} older"), past_list(older), class_="more"), past_list(newer)
    )


def past_list(past: Sequence[PastItem]) -> Html:
    """List interactions, oldest first."""
    if not past:
        return tag("p", "Nothing yet.", class_="empty")
    return tag("ol", *(tag("li", item_text(item.title), _facts(item)) for item in past), class_="plain")


def _facts(item: PastItem) -> Html | None:
    facts = [] if item.rating is None else [f"rated {item.rating:g}"]
    facts += [] if item.when is None else [item.when]
    return tag("small", " · ".join(facts)) if facts else None


def thought_text(
    thought: str, num_tokens: int, finish_reason: FinishReason, check: Check | None = None
) -> list[Html | None]:
    """Quote what a model wrote, and below it how long it was, how it ended and what of it holds."""
    if thought.strip():
        words = tag("blockquote", text(thought.strip(), keep="\n\t"), dir="auto")
    else:
        words = tag("p", "The thought is empty.", class_="empty")
    facts = f"{num_tokens:,} {'token' if num_tokens == 1 else 'tokens'}; the model {FINISHES[finish_reason]}."
    return [words, tag("p", facts, class_="facts"), mark(check)]


def mark(check: Check | None) -> Html | None:
    """Say whether a text may be shown to people: what of it was checked, and its faults."""
    if check is None:
        return None
    counted = tag("span", f"claims: checked {check.checked}, true {check.true}", class_="holds")
    if check.may_be_shown:
        return tag("p", tag("b", "✓ may be shown"), counted, class_="mark")
    faults = [tag("li", fault, dir="auto") for fault in check.faults]
    return tag("div", tag("b", "✗ not to be shown"), counted, tag("ul", *faults), class_="mark withheld")


def _thought(case: UserCase) -> list[Html | None]:
    if case.thought is None:
        return []
    thought = case.thought
    told = thought_text(thought.text, len(thought.token_ids), thought.finish_reason, thought.check)
    return [tag("h4", "Thought"), *told]


def _list(case: UserCase, items: Sequence[RankedItem], rank: int | None) -> Html:
    largest = max((abs(item.score) for item in items), default=0.0)
    decimals = max(0, 3 - len(f"{largest:.0f}")) if largest >= 10 else 3
    rows = [_row(item, place, f"{item.score:.{decimals}f}") for place, item in enumerate(items, start=1)]
    if not any(item.is_target for item in items):
        place = "–" if rank is None else f"{rank:,}"
        below = [tag("span", place, class_="place"), tag("span", item_text(case.target), class_="name")]
        rows.append(tag("li", *below, tag("small", "what they took"), class_="target below"))
    checks = [item.check for item in items if item.check is not None]
    total = tag("p", f"{summed(checks)}.", class_="facts") if checks else None
    return join(tag("ol", *rows, class_="plain ranked"), total)


def _row(item: RankedItem, place: int, score: str) -> Html:
    return tag(
        "li",
        tag("span", str(place), class_="place"),
        tag("span", item_text(item.title), _moved(item, place), class_="name"),
        tag("span", score, class_="score"),
        tag("small", "what they took") if item.is_target else None,
        _reason(item),
        class_="target" if item.is_target else None,
    )


def _moved(item: RankedItem, place: int) -> Html | None:
    """Say how an item moved against the list beside."""
    if item.came_from is None or item.came_from == place:
        return None
    if not item.came_from:
        return tag("span", "new", class_="moved")
    way = "↑" if item.came_from > place else "↓"
    label = f"{'up' if way == '↑' else 'down'} by {abs(item.came_from - place)}"
    return tag("span", f"{way}{abs(item.came_from - place)}", class_="moved", title=label)


def _reason(item: RankedItem) -> Html | None:
    """Write the reason for an item; one that may not be shown is folded away under what is wrong with it."""
    if item.reason is None:
        return None
    if item.check is None:
        return tag("small", item.reason or TOO_FEW, dir="auto", class_="reason")
    counts = tag("span", f"{item.check.true} of {item.check.checked} claims hold", class_="holds")
    if item.check.may_be_shown:
        return tag("small", "✓ ", tag("bdi", item.reason, dir="auto"), " ", counts, class_="reason")
    told = tag("summary", "✗ not to be shown: ", tag("bdi", "; ".join(item.check.faults), dir="auto"))
    return tag("details", told, tag("small", tag("bdi", item.reason, dir="auto"), " ", counts), class_="withheld")
