"""The section of a re-ranker: whether its evaluator can be trusted, where it thinks, and some of its lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thinkrank.data.impressions import ImpressionDataset
from thinkrank.report.curves import panel_figure
from thinkrank.report.facts import facts_list
from thinkrank.report.html import Html, item_text, join, tag
from thinkrank.report.panels import Panel
from thinkrank.report.tables import table
from thinkrank.stages.answers import Ranking

ENTROPY = Panel(
    "entropy of the choice, nats, by place",
    {
        "entropy_at_start": "before reinforcement",
        "entropy_before": "after it, before thinking",
        "entropy_after": "after thinking",
    },
)
THINKS = Panel("places that think", {"trigger_rate": "places that think"}, is_share=True)
CALIBRATION = Panel(
    "clicked, by predicted chance", {"clicked": "was clicked", "predicted": "was predicted"}, is_share=True
)


@dataclass(frozen=True)
class WrittenItem:
    """Show one place of a list.

    Attributes:
        title: of the item.
        shown_at: its place in the displayed order, from 1.
        was_clicked: where it was displayed.
        entropy_before: of the choice before thinking, in nats; None if the re-ranker does not tell.
        entropy_after: the same after thinking.
        thoughts: how often was thought.
    """

    title: str
    shown_at: int
    was_clicked: bool
    entropy_before: float | None = None
    entropy_after: float | None = None
    thoughts: int = 0


@dataclass(frozen=True)
class ListWriting:
    """Hold what there is to show of a re-ranker.

    Attributes:
        summary: what it is and what it was trained on, one sentence.
        evaluator: facts about the evaluator that rewarded it.
        calibration: per bin of predictions, ``predicted`` and ``clicked``; a bin without places is left out.
        places: per place from 1, ``place`` and what `ENTROPY` and `THINKS` draw.
        lists: some lists, by whom they are for.
        about_state: what follows from the facts on the state, one sentence; empty for none.
        state: facts on whether the generator uses its state, and which weights were kept.
    """

    summary: str
    evaluator: Mapping[str, Any]
    calibration: Sequence[Mapping[str, float | int]] = ()
    places: Sequence[Mapping[str, float | int]] = ()
    lists: Sequence[tuple[str, Sequence[WrittenItem]]] = field(default_factory=tuple)
    about_state: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)


def written_lists(ranking: Ranking, lists: ImpressionDataset) -> list[tuple[str, list[WrittenItem]]]:
    """Show answered lists place by place, beside what the log says of the same items where they were displayed.

    The ranking answers `lists.requests` and `lists.candidates`.
    """
    feedback_LN = lists.feedback()
    places = ranking.table(lists.catalogue)
    return [
        (
            lists.users[user],
            [
                WrittenItem(
                    title=place["title"],
                    shown_at=place["shown_at"],
                    was_clicked=bool(feedback_LN[row, place["shown_at"] - 1] > 0),
                    entropy_before=place.get("entropy_before"),
                    entropy_after=place.get("entropy_after"),
                    thoughts=place.get("steps", 0),
                )
                for place in places.filter(request=row).iter_rows(named=True)
            ],
        )
        for row, user in enumerate(lists.users_L.tolist())
    ]


def writing_section(writing: ListWriting | None) -> Html | None:
    """Write the whole section; None without a re-ranker."""
    if writing is None:
        return None
    figures = [
        panel_figure(writing.places, ENTROPY, "place"),
        panel_figure(writing.places, THINKS, "place"),
        panel_figure(writing.calibration, CALIBRATION, "predicted"),
    ]
    return tag(
        "section",
        tag("h2", "Re-ranker"),
        tag("p", writing.summary, class_="lead", dir="auto"),
        tag("div", *(figure for figure in figures if figure is not None), class_="panels"),
        tag("h3", "The evaluator"),
        tag("div", facts_list(writing.evaluator), class_="card"),
        tag("h3", "The generator's state") if writing.state else None,
        tag("p", writing.about_state) if writing.about_state else None,
        tag("div", facts_list(writing.state), class_="card") if writing.state else None,
        tag("h3", "Lists") if writing.lists else None,
        *(_written(user, items) for user, items in writing.lists),
        id="lists",
    )


def _written(user: str, items: Sequence[WrittenItem]) -> Html:
    heads = ("item", "was shown at", "clicked there", "entropy before", "after thinking", "thoughts")
    lines = [
        (
            str(place),
            [
                item_text(item.title),
                str(item.shown_at),
                "yes" if item.was_clicked else "–",
                _nats(item.entropy_before),
                _nats(item.entropy_after),
                str(item.thoughts) if item.thoughts else "–",
            ],
        )
        for place, item in enumerate(items, start=1)
    ]
    caption = join("For ", tag("bdi", user))
    return table(caption, "place", heads, lines, label=f"List for {user}", class_="figures written")


def _nats(entropy: float | None) -> str:
    return "–" if entropy is None else f"{max(0.0, entropy):.2f}"
