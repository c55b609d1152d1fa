"""Where people take things again, one setting lets items of the history compete everywhere."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.data.candidates import candidate_sets, sets_of
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_ranking, evaluate_retrieval
from thinkrank.language.options import LoraOptions
from thinkrank.rank.r2rank.groups import TrainingGroups
from thinkrank.recipes.data import DataSettings
from thinkrank.recipes.opening import Opened
from thinkrank.retrieve import (
    Fused,
    ItemKNN,
    Popularity,
    R2ec,
    R2ecConfig,
    SASRec,
    train_sequential,
)
from thinkrank.retrieve.r2ec.trainer import sample_ranks


@pytest.fixture
def again():
    """Everybody takes a, b, a, b, ..., so that every target but two stands in its history."""
    rows = [(f"u{user}", "ab"[turn % 2], 100 * turn + user) for user in range(30) for turn in range(10)]
    events = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    return Dataset("again", events, Catalogue(pl.DataFrame({"item": ["a", "b", "c"], "title": ["A", "B", "C"]})))


@pytest.mark.parametrize(("repeats", "unreachable"), [(False, True), (True, False)])
def test_evaluation_reads_the_setting_of_the_data(again, repeats, unreachable):
    split = split_dataset(replace(again, repeats=repeats))
    found = evaluate_retrieval({"popularity": Popularity().fit(split)}, split.test)
    assert found.unreachable_S.all() == unreachable
    assert found.filter_seen == (not repeats)


def test_it_is_saved_with_the_data_and_is_not_what_the_data_says(again, tmp_path):
    other = replace(again, repeats=True)
    assert other.fingerprint == again.fingerprint
    other.save(tmp_path)
    assert Dataset.load(tmp_path).repeats


def test_who_does_not_set_it_is_told(again, tmp_path):
    again.save(tmp_path)
    told = DataSettings(source=str(tmp_path)).load()
    assert [notice for notice in told.notices if "99% of all choices" in notice or "89% of all choices" in notice]
    asked = DataSettings(source=str(tmp_path), repeats=True).load()
    assert asked.repeats
    run = Opened(tmp_path, tmp_path, "retrieve", "popularity", {"data": {"source": str(tmp_path)}})
    assert run.filters(None)
    asked.save(tmp_path)  # who has prepared it so is answered so, whether training was told or not
    assert not run.filters(None)
    assert run.filters(True)
    tmp_path.rename(tmp_path.parent / "moved")
    assert run.filters(None)  # where it was it is no more
    assert not run.filters(None, str(tmp_path.parent / "moved"))
    assert not [notice for notice in asked.notices if "of all choices" in notice]


def test_a_prepared_folder_says_again_what_training_may_set_and_not_what_reading_found(again, tmp_path, caplog):
    replace(again, notices=("dropped 3 rows",)).save(tmp_path)
    split = DataSettings(source=str(tmp_path), split="leave-last-out").load_split()
    assert [record.message.split(";")[-1] for record in caplog.records] == [
        " train with repeats=True where it should be, in answers and figures"
    ]
    assert split.dataset.notices[0] == "dropped 3 rows"  # a manifest still has it
    DataSettings(source=str(tmp_path), repeats=True).load().save(tmp_path / "told")
    caplog.clear()
    DataSettings(source=str(tmp_path / "told"), split="leave-last-out").load_split()
    assert not caplog.records


def test_a_fused_retriever_learns_from_what_is_taken_again(again):
    def parts(split):
        return Fused({"popularity": Popularity().fit(split), "kNN": ItemKNN().fit(split)})

    split = split_dataset(again)
    with pytest.raises(ThinkrankError, match="all targets were seen"):
        parts(split).fit(split)
    split = split_dataset(replace(again, repeats=True))
    assert parts(split).fit(split).weights


def test_training_and_validation_let_it_compete(again):
    """R²ec's validation places the targets, all taken before: behind everything, or among all."""
    model = R2ec.create(R2ecConfig(backbone="tiny", dtype="float32", lora=LoraOptions(rank=2)), again.catalogue)
    ranks = [sample_ranks(model, split_dataset(replace(again, repeats=told)).valid) for told in (False, True)]
    assert (ranks[0] == len(again.catalogue) + 1).all()
    assert (ranks[1] <= len(again.catalogue)).all()


def test_a_candidate_is_not_known_by_standing_in_the_history(again):
    """Each target stands in its history: nothing else of it is drawn, unless people take things again."""
    once, often = (split_dataset(replace(again, repeats=told)) for told in (False, True))
    for samples in (once.train, once.valid, once.test):
        seen = [sample.target in sample.history.items for sample in samples]
        assert samples.seen_S.tolist() == seen
    sets = candidate_sets(once.test, size=2)
    assert sets.items_BN[~sets.mask_BN].size == 0
    assert sets.unreachable_B.all()
    assert not sets.missed_B.any()
    judged = evaluate_ranking({"popularity": Popularity().fit(once)}, sets)
    assert judged.values("popularity", "ndcg@10").max() == 0
    assert judged.filter_seen
    offered = sets_of(
        once.test, [np.setdiff1d([0, 1, 2], target) for target in once.test.targets], 3, negatives="a file", seed=0
    )
    assert not offered.unreachable_B.any()  # a list of one's own may hold what stands in the history
    groups = TrainingGroups(once.train, negatives=2, seed=0)
    assert len(groups) == (~once.train.seen_S).sum() < len(once.train)
    with pytest.raises(ThinkrankError, match=r"stands in its own history.*set data.repeats"):
        TrainingGroups(once.test, negatives=2, seed=0)
    sets = candidate_sets(often.test, size=3)
    offered = [set(row[row >= 0].tolist()) for row in sets.items_BN]
    assert not sets.unreachable_B.any()
    assert any(offered[n] >= {0, 1} for n in range(len(sets)))  # the target and what was taken before
    judged = evaluate_ranking({"popularity": Popularity().fit(often)}, sets)
    assert judged.values("popularity", "ndcg@10").min() > 0
    groups = TrainingGroups(often.train, negatives=2, seed=0)
    assert len(groups) == len(often.train)
    assert any({0, 1} <= set(group.rows) for group in groups)


@pytest.mark.parametrize("told", [False, True])
def test_a_network_of_orders_is_chosen_by_what_it_is_judged_by(again, told):
    split = split_dataset(replace(again, repeats=told))
    model = SASRec(SASRec.config_class(width=8, blocks=1, heads=1, max_epochs=1), device="cpu")
    best = train_sequential(model, split).metrics()[-1]["valid_ndcg@10"]
    judged = evaluate_retrieval({"SASRec": model}, split.valid)
    assert best == pytest.approx(judged.values("SASRec", "ndcg@10").mean(), abs=1e-6)
    assert (best > 0) == told
