"""On lists whose click chances are known, the whole way from logged lists to slates that users would click more."""

import numpy as np
import pytest

from thinkrank.data import ListWorld, ListWorldOptions
from thinkrank.rerank import (
    EGLR,
    EGLRConfig,
    EvaluatorOptions,
    EvaluatorTrainerOptions,
    GeneratorOptions,
    GrpoOptions,
    ReasoningOptions,
    WarmStartOptions,
    train_eglr,
)
from thinkrank.rerank.lists import ListEncoderOptions
from thinkrank.training import Run

PLACES = 3
SMALL = ListEncoderOptions(width=16, embedding_width=8, dropout=0.0)


@pytest.fixture(scope="module")
def world():
    return ListWorld(
        ListWorldOptions(
            lists=2500, users=40, candidates=8, items=40, styles=8, kinds=5, position_bias=0.5, saturation=0.2,
            score_noise=2.0, appeal=1.5, drift=0.1, temperature=0.5,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def split(world):
    return world.lists.split(0.2, 0.2)


@pytest.fixture(scope="module")
def judged(split, tmp_path_factory):
    """A folder with an untrained generator and an evaluator that learnt from the logged lists."""
    config = EGLRConfig(
        lists=SMALL,
        generator=GeneratorOptions(width=16, encoder_width=32, heads=2, pointer_width=16, dropout=0.0),
        evaluator=EvaluatorOptions(lists=SMALL.model_copy(update={"positions": False}), width=16, heads=2, dropout=0.0),
        reasoning=ReasoningOptions(threshold=0.5),
    )
    model = EGLR.create(config, split.train, device="cpu")
    folder = tmp_path_factory.mktemp("judged")
    options = EvaluatorTrainerOptions(
        steps=250, batch_size=128, learning_rate=1e-2, slate_length=PLACES, validation_lists=400
    )
    train_eglr(model, split, options, Run(folder / "run", {}, {}))
    model.save_pretrained(folder / "model")
    return folder / "model"


def test_the_evaluator_learns_what_users_click(judged):
    report = EGLR.from_pretrained(judged, device="cpu").report
    assert report.log_loss < 0.7 * report.base_log_loss
    assert report.auc > 0.85
    assert report.calibration_error < 0.04
    assert all(worth.passed for worth in report.worth.values())


def test_reinforcement_finds_slates_that_are_clicked_more_than_the_displayed_ones(world, split, judged, tmp_path):
    model = EGLR.from_pretrained(judged, device="cpu")

    def clicks():
        return world.expected_clicks(
            split.test, model.rerank(split.test.requests, split.test.candidates, PLACES).columns_BK
        )

    before = clicks()
    options = GrpoOptions(
        steps=100, batch_size=32, group_size=8, learning_rate=5e-3, length=PLACES, validate_every=50, keep="last",
        patience=None, reward="sum", validation_lists=400, kl_coefficient=0.01,
    )  # fmt: skip
    rows = train_eglr(model, split, options, Run(tmp_path, {}, {})).metrics()
    gain = clicks() - before
    assert gain.mean() > 10 * gain.std() / len(gain) ** 0.5
    displayed = world.expected_clicks(split.test, np.tile(np.arange(PLACES), (len(split.test), 1)))
    assert clicks().mean() > displayed.mean() + 0.03
    rewards = [row["reward"] for row in rows if "reward" in row]
    first, last = np.array(rewards[:10]), np.array(rewards[-10:])
    assert last.mean() - first.mean() > 5 * (first.std() + last.std())
    assert any(row["trigger_rate"] > 0.1 for row in rows if "trigger_rate" in row)  # it did think


def test_the_warm_start_puts_clicked_items_first(split, judged, tmp_path):
    model = EGLR.from_pretrained(judged, device="cpu")
    options = WarmStartOptions(steps=100, batch_size=64, learning_rate=5e-3, length=PLACES, validation_lists=400)
    rows = train_eglr(model, split, options, Run(tmp_path, {}, {})).metrics()
    ndcg = [row["valid_ndcg@3"] for row in rows if "valid_ndcg@3" in row]
    feedback = split.valid.feedback()
    shown = (feedback[:, :PLACES] @ (1 / np.log2(np.arange(PLACES) + 2))).mean()
    best = (-np.sort(-feedback, axis=1)[:, :PLACES] @ (1 / np.log2(np.arange(PLACES) + 2))).mean()
    assert max(ndcg) > ndcg[0] + 0.3
    assert max(ndcg) > 0.9 * shown / best
