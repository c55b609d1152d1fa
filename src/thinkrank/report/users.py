"""The section of single users."""

from collections.abc import Sequence

from thinkrank.language.options import FinishReason
from thinkrank.report.cases import CheckedClaims, PastItem, RankedItem, UserCase
from thinkrank.report.html import Html, item_text, join, tag, text

FINISHES = {
    "closed": "closed its own thought",
    "end_of_turn": "ended its turn without closing the thought",
    "length": "was cut off by the token budget",
}

TOO_FEW = "The counts are too small to tell why."


def users_section(cases: Sequence[UserCase]) -> Html | None:
    """Write one card per user; None without users."""
    if not cases:
        return None
    found = sum(any(item.is_target for item in case.items) for case in cases)
    lead = f"For {found} of these {len(cases)} users the list holds what they really took next."
    return tag("section", tag("h2", "Users"), tag("p", lead, class_="lead"), *map(_card, cases), id="users")


def _card(case: UserCase) -> Html:
    return tag(
        "article",
        tag("header", tag("h3", join("User ", tag("bdi", case.user))), _verdict(case)),
        tag(
            "div",
            tag("div", tag("h4", past_title(len(case.past), case.past_length)), past_list(case.past), class_="past"),
            tag("div", *_thought(case), class_="thought") if case.thought else None,
            tag(
                "div",
                tag("h4", f"Recommended, best {len(case.items)}"),
                _items(case),
                _claims(case.reason_claims),
                class_="answer",
            ),
            class_="columns" if case.thought else "columns two",
        ),
        class_="card user",
    )


def _verdict(case: UserCase) -> Html:
    if case.target_rank is None:
        return tag("p", "took something seen before", class_="verdict missed")
    found = any(item.is_target for item in case.items)
    return tag("p", f"true item at place {case.target_rank:,}", class_="verdict found" if found else "verdict missed")


def past_title(shown: int, length: int) -> str:
    """Head a list of interactions: how many of a history it shows."""
    return f"History, newest {shown} of {length:,}" if shown < length else f"History, {length:,} in all"


def past_list(past: Sequence[PastItem]) -> Html:
    """List interactions, oldest first."""
    if not past:
        return tag("p", "Nothing yet.", class_="empty")
    return tag("ol", *(tag("li", item_text(item.title), _facts(item)) for item in past), class_="plain")


def _facts(item: PastItem) -> Html | None:
    facts = [] if item.rating is None else [f"rated {item.rating:g}"]
    facts += [] if item.when is None else [item.when]
    return tag("small", " · ".join(facts)) if facts else None


def thought_text(thought: str, num_tokens: int, finish_reason: FinishReason) -> list[Html]:
    """Quote what a model wrote, and below it how long it was and how it ended."""
    if thought.strip():
        words = tag("blockquote", text(thought.strip(), keep="\n\t"), dir="auto")
    else:
        words = tag("p", "The thought is empty.", class_="empty")
    facts = f"{num_tokens:,} {'token' if num_tokens == 1 else 'tokens'}; the model {FINISHES[finish_reason]}."
    return [words, tag("p", facts, class_="facts")]


def _thought(case: UserCase) -> list[Html | None]:
    if case.thought is None:
        return []
    told = thought_text(case.thought.text, len(case.thought.token_ids), case.thought.finish_reason)
    return [tag("h4", "Thought"), *told, _claims(case.thought_claims)]


def _claims(claims: CheckedClaims | None) -> Html | None:
    """Say how many claims were found and checked against the data."""
    if claims is None:
        return None
    return tag("p", f"claims: checked {claims.checked}, true {claims.true}", class_="facts")


def _items(case: UserCase) -> Html:
    largest = max((abs(item.score) for item in case.items), default=0.0)
    decimals = max(0, 3 - len(f"{largest:.0f}")) if largest >= 10 else 3
    rows = [_row(item, place, f"{item.score:.{decimals}f}") for place, item in enumerate(case.items, start=1)]
    if not any(item.is_target for item in case.items):
        place = "–" if case.target_rank is None else f"{case.target_rank:,}"
        below = [tag("span", place, class_="place"), tag("span", item_text(case.target), class_="name")]
        rows.append(tag("li", *below, tag("small", "what they took"), class_="target below"))
    return tag("ol", *rows, class_="plain ranked")


def _row(item: RankedItem, place: int, score: str) -> Html:
    return tag(
        "li",
        tag("span", str(place), class_="place"),
        tag("span", item_text(item.title), class_="name"),
        tag("span", score, class_="score"),
        tag("small", "what they took") if item.is_target else None,
        None if item.reason is None else tag("small", item.reason or TOO_FEW, dir="auto", class_="reason"),
        class_="target" if item.is_target else None,
    )
