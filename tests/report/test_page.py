"""The report holds what was found, and nothing that data says can act."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from thinkrank.data import Samples, split_dataset
from thinkrank.evaluate import Comparison, ResultRow, evaluate_retrieval
from thinkrank.evidence import Reasons, TextChecker
from thinkrank.report import (
    ListWriting,
    PastItem,
    RankedItem,
    Report,
    ThoughtChange,
    ThoughtPair,
    UserCase,
    WrittenItem,
    WrittenThought,
    render_report,
    thought_change,
    user_cases,
    write_report,
    written_lists,
)
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.stages import Check, Latent, Thought, answer_with_ranks, order_candidates
from thinkrank.testing import random_lists, two_tribes

ELEMENTS = (
    "html head meta title style body header main nav a section article figure figcaption div span p h1 h2 h3 h4 bdi b "
    "small code blockquote ol ul li dl dt dd details summary table caption thead tbody tr th td svg path"
)
HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\" onload='x' \u202e\x00"


class Page(HTMLParser):
    """What a browser would make of the page: its elements, attributes, and the text inside each kind of element."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name != "meta":
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name, f"{name} closes out of order"

    def handle_data(self, data):
        for name in self.open:
            self.text[name] = self.text.get(name, "") + data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == name]


def thought(text: str, finish_reason: str = "closed") -> Thought:
    size = len(text.split())
    zeros = np.zeros(size, dtype=np.float32)
    return Thought(text, np.zeros(size, dtype=np.int32), zeros, zeros, finish_reason, 0.1)


def change(samples: Samples) -> ThoughtChange | None:
    told = {"text": "cooks", "tokens": 2, "finish_reason": "closed", "rank": 1}
    row = {"step": 0, "thoughts": [{"position": position, **told} for position in samples.positions.tolist()]}
    return thought_change([row], samples.dataset, is_best=False)


def writing(words: str) -> ListWriting:
    return ListWriting(
        summary=words,
        evaluator={words: words, "auc": 0.75},
        calibration=[{"predicted": 0.1, "clicked": 0.2}, {"predicted": 0.6, "clicked": 0.5}],
        places=[
            {"place": 1, "entropy_at_start": 2.0, "entropy_before": 1.5, "entropy_after": 1.0, "trigger_rate": 0.5},
            {"place": 2, "entropy_at_start": 1.0, "entropy_before": 0.5, "entropy_after": 0.5, "trigger_rate": 0.0},
        ],
        about_state=f"does not use {words}",
        state={"unchanged_lists": 0.98},
        lists=[(words, [WrittenItem(words, 3, True, 1.5, 1.0, 2), WrittenItem("lamp", 1, False, -1e-9, -1e-9, 0)])],
    )


def full_report() -> Report:
    dataset = two_tribes()
    split = split_dataset(dataset)
    systems = {"popularity": Popularity().fit(split), "item-knn": ItemKNN().fit(split)}
    evaluation = evaluate_retrieval(systems, split.test)
    few = split.test.subset(3, seed=0)
    ranking, ranks = answer_with_ranks(systems["item-knn"], few.requests(), 10, few.targets, filter_seen=True)
    return Report(
        title="Two tribes",
        subtitle="A test",
        data_card=dataset.describe(),
        manifest=split.manifest(),
        rows=evaluation.rows(dataset="two-tribes", split="test", counts_I=np.bincount(dataset.items_E, minlength=11)),
        comparisons=evaluation.comparisons("popularity", dataset="two-tribes", split="test"),
        policy=evaluation.policy,
        curves={
            "Warm start": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "valid_ndcg@10": 0.5}],
            "RecPO": [{"step": 1, "reward": 0.25, "tied_share": 0.5}],
        },
        thoughts=change(few),
        users=user_cases(few, ranking, ranks),
        writing=writing("writes lists"),
        notes=["Mind the gap."],
    )


def hostile_report() -> Report:
    row = ResultRow(
        dataset=HOSTILE, split=HOSTILE, system=HOSTILE, metric=HOSTILE, value=1.0, low=0.0, high=1.0, n=1, seeds=()
    )
    case = UserCase(
        user=HOSTILE,
        past=[PastItem(HOSTILE, HOSTILE, 5.0)],
        past_length=1,
        items=[RankedItem(HOSTILE, 1.0)],
        target=HOSTILE,
        target_rank=3,
        thought=thought(HOSTILE),
    )
    written = WrittenThought(HOSTILE, 3, "length", 4)
    pair = ThoughtPair(HOSTILE, [PastItem(HOSTILE, HOSTILE, 5.0)], 1, HOSTILE, written, written)
    return Report(
        title=HOSTILE,
        subtitle=HOSTILE,
        data_card={HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}},
        manifest={"parts": {HOSTILE: {"samples": 1, "dates": {"first": HOSTILE, "last": HOSTILE}}}, "x": HOSTILE},
        rows=[row],
        policy={HOSTILE: HOSTILE},
        curves={HOSTILE: [{HOSTILE: 1}]},
        thoughts=ThoughtChange(0, 5, True, [pair]),
        users=[case],
        writing=writing(HOSTILE),
        notes=[HOSTILE],
    )


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(full_report()))


@pytest.mark.parametrize("report", [full_report(), hostile_report(), Report("Nothing yet")])
def test_only_expected_elements_and_attributes_arise(report):
    page = Page(render_report(report))
    assert {name for name, _ in page.elements} <= set(ELEMENTS.split())
    attributes = {key for _, attributes in page.elements for key in attributes}
    assert not any(key.startswith("on") for key in attributes)
    assert page.open == []


def test_a_hostile_title_is_shown_as_it_is_written():
    page = Page(render_report(hostile_report()))
    shown = HOSTILE.replace("\u202e", "‹U+202E›").replace("\x00", "␀")
    for element in ("title", "h1", "h3", "bdi", "blockquote", "small", "dt", "dd", "th", "figcaption"):
        assert shown in page.text[element], element


def test_nothing_is_loaded_and_nothing_can_run():
    markup = render_report(full_report())
    page = Page(markup)
    assert not any(key in attributes for _, attributes in page.elements for key in ("src", "srcset", "data", "action"))
    assert all(str(link["href"]).startswith("#") for link in page.all("a"))
    assert "url(" not in page.text["style"]
    assert "@import" not in page.text["style"]
    assert any("default-src 'none'" in str(meta.get("content")) for meta in page.all("meta"))


def test_links_lead_to_the_sections_there_are(page):
    assert [link["href"] for link in page.all("a")] == [f"#{section['id']}" for section in page.all("section")]
    assert [section["id"] for section in page.all("section")] == [
        "results",
        "users",
        "thoughts",
        "curves",
        "lists",
        "data",
        "notes",
    ]


def test_an_empty_report_has_a_title_and_no_sections():
    page = Page(render_report(Report("Nothing yet")))
    assert page.text["h1"] == "Nothing yet"
    assert page.all("section") == page.all("nav") == []


def test_every_header_cell_says_what_it_heads_and_every_plot_what_it_shows(page):
    assert {cell.get("scope") for cell in page.all("th")} == {"col", "row"}
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in page.all("svg"))
    labels = [str(plot["aria-label"]) for plot in page.all("svg")]
    assert any(label.startswith("item-knn: NDCG@10 .") and "interval" in label for label in labels)
    assert "loss over step 1 to 2: from 2 to 1, lowest 1, highest 2" in labels


def test_a_list_shows_where_its_items_stood_and_what_it_thought(page):
    labels = [str(plot["aria-label"]) for plot in page.all("svg")]
    assert any(
        "before reinforcement from 2 to 1" in label and "after thinking from 1 to 0.5" in label for label in labels
    )
    assert any(label.startswith("places that think over place 1 to 2: from 50 % to 0 %") for label in labels)
    markup = render_report(full_report())
    bare = re.sub(r' data-label="[^"]*"', "", markup)
    assert "writes lists</bdi></td><td>3</td><td>yes</td><td>1.50</td><td>1.00</td><td>2</td></tr>" in bare
    assert "<td>1</td><td>–</td><td>0.00</td><td>0.00</td><td>–</td>" in bare


def test_written_lists_stand_beside_what_users_did_with_the_displayed_ones():
    lists = random_lists()
    ranking = order_candidates(lists.candidates, np.random.default_rng(0).random(lists.items_LN.shape)).first(4)
    before = np.random.default_rng(1).random(ranking.items_BK.shape).astype(np.float32)
    steps = (ranking.items_BK % 3).astype(np.int32)
    shown = written_lists(replace(ranking, latent=Latent(before, before / 2, steps)), lists)
    assert [user for user, _ in shown] == [lists.users[user] for user in lists.users_L]
    for row, (_, items) in enumerate(shown):
        assert len(items) == min(4, lists.lengths_L[row])
        for place, item in enumerate(items):
            column = ranking.columns_BK[row, place]
            assert item.title == lists.catalogue.titles[lists.items_LN[row, column]]
            assert (item.shown_at, item.was_clicked) == (column + 1, lists.feedback()[row, column] > 0)
            assert (item.entropy_before, item.entropy_after) == (before[row, place], before[row, place] / 2)
            assert item.thoughts == steps[row, place]


def test_a_list_of_a_system_that_tells_no_entropies_can_be_shown():
    lists = random_lists()
    ((user, items), *_) = written_lists(order_candidates(lists.candidates, lists.items_LN.astype(np.float32)), lists)
    markup = render_report(Report("t", writing=ListWriting("sorts", {}, lists=[(user, items)])))
    bare = re.sub(r' data-label="[^"]*"', "", markup)
    assert f"<td>{items[0].shown_at}</td><td>" in bare
    assert "<td>–</td><td>–</td><td>–</td></tr>" in bare


def test_tables_that_scroll_can_be_reached_by_keyboard(page):
    scrolling = [box for box in page.all("div") if "scroll" in str(box.get("class"))]
    assert scrolling
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in scrolling)


def test_results_show_values_intervals_tests_and_policy(page):
    report = full_report()
    row = next(row for row in report.rows if (row.system, row.metric) == ("item-knn", "hit@10"))
    assert f"{row.value:.4f}".replace("0.", ".", 1) in page.text["table"] or "1.000" in page.text["table"]
    assert re.search(r"[+−]\.\d{4}, 4 users: too few to test", page.text["table"])
    assert "reference" in page.text["th"]
    assert "coverage@10" in page.text["table"]
    assert "pessimistic" in page.text["dl"]
    assert "Ties: pessimistic" in page.text["p"]


def test_a_test_tells_the_corrected_p_and_what_it_could_have_seen():
    row = next(row for row in full_report().rows if (row.system, row.metric) == ("item-knn", "hit@10"))
    told = {
        "reference": "popularity",
        "difference": -0.25,
        "low": -0.3,
        "high": -0.1,
        "p_value": 0.01,
        "num_clusters": 9,
    }
    names = row.model_dump(include={"dataset", "split", "system", "metric"})
    test = Comparison(**names, **told, corrected=0.04, visible=0.125)
    text = Page(render_report(Report("t", rows=[row], comparisons=[test]))).text
    assert "−.2500 (± .1250), p = .040" in text["table"]
    assert "corrected by Holm" in text["p"]


def test_the_data_card_shows_counts_parts_and_the_whole_fingerprint(page):
    assert two_tribes().fingerprint in page.text["code"]
    assert "Parts of the split" in page.text["caption"]


def case(**changes) -> UserCase:
    fields = {
        "user": "u",
        "past": [],
        "past_length": 0,
        "items": [RankedItem("A", 2.0), RankedItem("B", 1.0)],
        "target": "C",
        "target_rank": 1_234,
        "thought": None,
    }
    return UserCase(**fields | changes)


def text_of(*cases: UserCase, element: str = "section") -> str:
    return Page(render_report(Report("t", users=cases))).text[element]


def test_a_true_item_in_the_list_is_marked_in_its_place():
    page = Page(render_report(Report("t", users=[case(items=[RankedItem("A", 2.0, True)], target_rank=1)])))
    assert [item["class"] for item in page.all("li") if "class" in item] == ["target"]
    assert "For 1 of these 1 users" in page.text["section"]


def test_a_true_item_beyond_the_list_is_added_below_it_with_its_place():
    assert "1,234C" in text_of(case(), element="ol")
    assert "true item at place 1,234" in text_of(case())


def test_a_true_item_that_was_already_seen_is_said_to_be_so():
    assert "took something seen before" in text_of(case(target_rank=None))


def test_a_thought_is_told_with_its_length_and_its_end():
    told = text_of(case(thought=thought("likes\nspace films", "length")))
    assert "likes\nspace films" in told
    assert "3 tokens; the model was cut off by the token budget." in told
    assert "The thought is empty." in text_of(case(thought=thought("")))


def test_an_empty_history_and_an_empty_list_can_be_shown():
    assert "Nothing yet." in text_of(case(items=[]))


def test_cases_are_told_from_the_samples():
    report = full_report()
    split = split_dataset(two_tribes())
    for told, sample in zip(report.users, split.test.subset(3, seed=0), strict=True):
        assert told.user == split.dataset.users[sample.user]
        assert told.target == split.dataset.catalogue.titles[sample.target]
        assert [item.title for item in told.past] == [split.dataset.catalogue.titles[i] for i in sample.history.items]
        assert told.past_length == len(sample.history)
        assert told.past[0].when == "1970-01-01" or told.past[0].when.startswith("1970")
        places = [place for place, item in enumerate(told.items, start=1) if item.is_target]
        # Ties stand before the target in its rank, but in row order in the list.
        assert all(place <= told.target_rank for place in places)


def test_reasons_stand_under_the_first_items_with_their_checked_claims():
    split = split_dataset(two_tribes())
    some = split.test.subset(3, seed=0)
    ranking, ranks = answer_with_ranks(ItemKNN().fit(split), some.requests(), 4, some.targets, filter_seen=True)
    cases = user_cases(some, ranking, ranks, checker=TextChecker(Reasons.of(split, "thing")), num_reasons=2)
    for one in cases:
        reasons = [item.reason for item in one.items]
        assert reasons[2:] == [None, None]
        assert one.checks == [Check(1, 1)] * sum(map(bool, reasons[:2]))
    assert any(item.reason and "people who chose" in item.reason for one in cases for item in one.items)
    without = user_cases(some, ranking, ranks)
    assert all(item.reason is None for one in without for item in one.items)
    assert "claims" not in text_of(*without)


def test_texts_are_marked_and_what_may_not_be_shown_is_folded_away():
    false = Check(2, 1, ("not true, title: Fargo",))
    items = [
        RankedItem("A", 1.0, reason="Good.", check=Check(1, 1)),
        RankedItem("B", 0.5, reason="Bad.", check=false),
        RankedItem("C", 0.4, reason=""),
    ]
    told = thought("a b")
    page = Page(render_report(Report("t", users=[case(items=items, thought=replace(told, check=false))])))
    assert "✓ Good. 1 of 1 claims hold" in page.text["small"]
    assert "✗ not to be shown: not true, title: Fargo" in page.text["summary"]
    assert "Bad." in page.text["details"]
    assert "Good." not in page.text["details"]
    assert "The counts are too small to tell why." in page.text["li"]
    assert "Of their reasons 1 of 2 texts may be shown; claims: checked 3, true 2." in page.text["p"]
    assert "✗ not to be shown" in page.text["b"]
    assert "not true, title: Fargo" in page.text["ul"]
    hostile = RankedItem("A", 1.0, reason=HOSTILE, check=Check(1, 0, (HOSTILE,)))
    assert "<script>" not in render_report(Report("t", users=[case(items=[hostile])]))


def test_the_list_without_the_thought_stands_beside_the_one_with_it():
    split = split_dataset(two_tribes())
    some = split.test.subset(2, seed=0)
    asked = some.requests(), 4, some.targets
    with_it = answer_with_ranks(ItemKNN().fit(split), *asked, filter_seen=True)
    without = answer_with_ranks(Popularity().fit(split), *asked, filter_seen=True)
    cases = user_cases(some, *with_it, unthought=without)
    for row, one in enumerate(cases):
        before = without[0].items_BK[row].tolist()
        for item, shown in zip(with_it[0].items_BK[row].tolist(), one.items, strict=True):
            assert shown.came_from == (before.index(item) + 1 if item in before else 0)
    page = Page(render_report(Report("t", users=[replace(one, thought=thought("a")) for one in cases])))
    assert "Without the thought" in page.text["h4"]
    assert "With the thought" in page.text["h4"]


def test_all_lines_that_the_model_read_are_there_and_older_ones_folded():
    past = [PastItem(f"film {number}") for number in range(14)]
    page = Page(render_report(Report("t", users=[case(past=past, past_length=30)])))
    assert "What the model read, newest 14 of 30" in page.text["h4"]
    assert "4 older" in page.text["summary"]
    assert all(f"film {number}" in page.text["li"] for number in range(14))
    assert "film 3" in page.text["details"]
    assert "film 4" not in page.text["details"]


def test_a_whole_list_of_candidates_is_called_one():
    page = Page(render_report(Report("t", users=[case(among=2, items=[RankedItem("A", 1.0, True)], target_rank=1)])))
    assert "The whole list, 1 candidates" in page.text["h4"]
    assert "For 1 of these 1 users the candidate that they really took next stands first." in page.text["p"]


def test_the_verdict_and_what_the_page_is_about_stand_on_top():
    report = Report("t", verdict="Finds it better.\nNDCG@10 .5", about={"command": "thinkrank train", "data": "own"})
    markup = render_report(replace(report, notes=["n"]))
    assert markup.index("Finds it better.") < markup.index("NDCG@10 .5") < markup.index("thinkrank train")
    assert markup.index("thinkrank train") < markup.index("<main>")


def test_metrics_are_named_and_explained_and_kinds_of_samples_share_one_table(page):
    assert "NDCG@10: 1 if the true item stands first" in page.text["p"]
    assert "ndcg@" not in page.text["th"]
    rows = list(full_report().rows)
    parts = [row.model_copy(update={"split": f"test, history {name}", "n": 7}) for row in rows for name in "12"]
    shown = Page(render_report(Report("t", rows=[*rows, *parts])))
    assert shown.text["h3"] == f"two-tribes, test: {rows[0].n} samples"
    assert "history 17 samples" in shown.text["th"]
    cells = [cell for cell in shown.all("td") if cell.get("data-label") in ("item-knn", "popularity")]
    assert len(cells) == 4


def test_the_file_is_the_page(tmp_path):
    write_report(tmp_path / "deep" / "report.html", full_report())
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == render_report(full_report())


def test_the_report_says_in_a_sentence_whether_a_generator_uses_its_state():
    markup = render_report(Report("t", writing=writing("its state: no thought can matter")))
    assert "<p>does not use its state: no thought can matter</p>" in markup
    assert "unchanged lists" in markup.replace("_", " ")
