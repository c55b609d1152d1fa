"""Learning curves of a report: which figures share a plot, and what is said of them."""

import math

from report.test_page import Page
from thinkrank.report import Report, render_report


def curves(*rows: dict) -> Page:
    return Page(render_report(Report("t", curves={"Training": rows})))


def labels(page: Page) -> list[str]:
    return [str(plot["aria-label"]).split(":")[0] for plot in page.all("svg")]


def test_each_logged_figure_gets_a_curve_over_the_steps_it_was_logged_at():
    page = curves({"step": 5, "seconds": 1.0, "loss": 3.0}, {"step": 10, "seconds": 2.0, "loss": 2.0, "new_one": 0.1})
    assert labels(page) == ["loss over step 5 to 10", "new one over step 10 to 10"]


def test_each_training_has_its_own_curves_in_the_words_of_people():
    warm = [{"step": 1, "loss": 2.0, "valid_ndcg@10": 0.1}]
    recpo = [{"step": 1, "tied_share": 0.25, "reward_ndcg": 0.1, "thought_tokens": 9.5, "token_kl": 0.0, "sth": 1}]
    page = Page(render_report(Report("t", curves={"Warm start": warm, "RecPO": recpo, "Never begun": []})))
    assert page.text["h3"] == "Warm startRecPO"
    assert page.text["h4"] == "ValidationUpdatesRewardThoughtsOther"
    assert [label.split(" over ")[0] for label in labels(page)] == [
        *("NDCG@10", "loss"),
        *("NDCG part", "tied groups", "tokens per thought", "KL to the start, nats", "sth"),
    ]
    assert "25 %" in page.text["figure"]


def test_answers_with_and_without_a_thought_share_a_plot():
    page = curves({"step": 3, "valid_ndcg@10": 0.25, "valid_thinking_ndcg@10": 0.5})
    assert labels(page) == ["NDCG@10 over step 3 to 3"]
    assert "no thought from 0.25 to 0.25" in str(page.all("svg")[0]["aria-label"])
    assert [line["class"] for line in page.all("li")] == ["line-0", "line-1"]
    assert "thought first 0.5" in page.text["li"]
    alone = curves({"step": 3, "valid_thinking_ndcg@10": 0.5})
    assert [line["class"] for line in alone.all("li")] == ["line-1"]


def test_the_shares_of_time_are_one_plot_in_per_cent():
    page = curves({"step": 1, "share_sampling": 0.5, "share_scoring": 0.2, "share_update": 0.3})
    assert labels(page) == ["share of a step's time over step 1 to 1"]
    assert page.text["li"] == "sampling 50 %scoring 20 %update 30 %"


def test_curves_for_the_curious_are_folded_away():
    page = curves({"step": 1, "reward": 1.0, "learning_rate": 0.1})
    assert page.text["summary"] == "More curves"
    assert "learning rate" in page.text["details"]
    assert "reward" not in page.text["details"]


def test_faint_lines_are_explained_where_there_are_any():
    assert "A faint" not in curves({"step": 1, "loss": 1.0}).text["section"]
    noisy = curves(*({"step": step, "loss": float(step % 2)} for step in range(100)))
    assert "A faint" in noisy.text["section"]


def test_values_that_are_no_number_are_left_out_and_lost_ones_counted():
    page = curves({"step": 1, "loss": math.nan, "note": "hi", "done": True}, {"step": 2, "loss": 1.0})
    assert len(page.all("svg")) == 1
    assert "1 not finite, left out" in page.text["figure"]


def test_nothing_to_draw_is_no_section():
    assert "section" not in curves({"step": 1, "note": "hi", "thoughts": [{"rank": 1}]}).text
