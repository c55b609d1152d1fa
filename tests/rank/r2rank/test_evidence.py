"""A prompt that tells what the crowd did: what is read, what training users' own choices may not say, the disk."""

import numpy as np
import pytest

from thinkrank.data import History
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Crowd, PairLines
from thinkrank.rank import R2Rank, train_cold_start
from thinkrank.rank.r2rank.config import ColdStartOptions
from thinkrank.rank.r2rank.groups import TrainingGroups
from thinkrank.training import UnsavedRun

HISTORY, ROWS = History.of([0, 6, 12]), [18, 1, 3, 22]


@pytest.fixture
def told(config):
    prompt = config.prompt.model_copy(update={"evidence": True})
    return config.model_copy(update={"prompt": prompt, "thinks": False})


@pytest.fixture
def model(told, split, backbone):
    return R2Rank.create(told, split.dataset.catalogue, backbone=backbone, crowd=Crowd.of(split))


def decoded(model, ids):
    return model.backbone.tokenizer.decode(list(ids))


def test_each_candidate_is_followed_by_its_evidence(model, split):
    lines = PairLines(Crowd.of(split), split.dataset.catalogue).lines(HISTORY, ROWS)
    assert any("with red car" in line for line in lines)
    for row, line, ids in zip(ROWS, lines, model.prompts.candidates(HISTORY, ROWS), strict=True):
        assert ids == model.prompts.candidate(row, evidence=line)
        assert " ".join(line.split()[:4]) in " ".join(decoded(model, ids).split())
    few = model.config.prompt.model_copy(update={"evidence_tokens": 3})
    model.prompts.options = few
    assert len(model.prompts.candidates(HISTORY, ROWS)[0]) == len(model.prompts.candidate(ROWS[0])) + 3


def test_nothing_is_told_by_default(config, split, backbone):
    plain = R2Rank.create(config, split.dataset.catalogue, backbone=backbone, crowd=Crowd.of(split))
    assert plain.crowd is None
    assert plain.prompts.candidates(HISTORY, ROWS) == [plain.prompts.candidate(row) for row in ROWS]


def test_a_prompt_of_the_crowd_needs_one(told, split, backbone):
    with pytest.raises(ThinkrankError, match=r"give R2Rank\.create a crowd"):
        R2Rank.create(told, split.dataset.catalogue, backbone=backbone)


def test_training_reads_every_list_as_if_its_user_had_not_been_counted(model, split, monkeypatch):
    crowd, asked = Crowd.of(split), []
    written = model.prompts._evidence.lines

    def spied(history, rows, without=None):
        asked.append((history.items.tolist(), list(rows), without, written(history, rows, without)))
        return asked[-1][-1]

    monkeypatch.setattr(model.prompts._evidence, "lines", spied)
    groups = TrainingGroups(split.train, negatives=3, seed=0)
    options = ColdStartOptions(steps=2, users=3, warmup_steps=0, validate_every=2, checkpoint_every=2)
    train_cold_start(model, groups, None, options, UnsavedRun())
    assert asked
    owners = {(tuple(g.history.items.tolist()), g.rows): g.user for g in groups}
    for items, rows, without, lines in asked:
        assert without == owners[tuple(items), tuple(rows)]
        rest = [History.of([]) if user == without else h for user, h in enumerate(crowd.histories)]
        fresh = PairLines(Crowd(rest, crowd.num_items), split.dataset.catalogue)
        assert lines == fresh.lines(History.of(items), rows)


def test_a_saved_model_answers_as_before_and_without_order_or_names(model, tmp_path):
    candidates = np.array([ROWS], dtype=np.int32)
    before = model.rank([HISTORY], candidates)
    model.save_pretrained(tmp_path)
    after = R2Rank.from_pretrained(tmp_path).rank([HISTORY], candidates)
    np.testing.assert_array_equal(before.items_BK, after.items_BK)
    np.testing.assert_allclose(before.scores_BK, after.scores_BK, rtol=1e-6)
