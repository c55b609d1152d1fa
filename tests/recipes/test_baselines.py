"""Systems that know ids only: their settings are those that do best on validation."""

import numpy as np
import pytest

from thinkrank import load
from thinkrank.data import World, WorldOptions, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval, read_results
from thinkrank.recipes.baseline_run import BaselineSettings, baseline_settings, read_tuning, run_baselines
from thinkrank.recipes.baselines import (
    EASE_R,
    GRU4REC,
    IALS,
    ITEM_KNN,
    POPULARITY,
    SYSTEMS,
    VALIDATION_SAMPLES,
    Search,
    chosen_settings,
    fitted_baselines,
    system_named,
    tuned_baselines,
)
from thinkrank.recipes.data import DataSettings
from thinkrank.recipes.layers import Layers
from thinkrank.retrieve import Fused, ItemKNN, ItemKNNConfig, Popularity, PopularityConfig
from thinkrank.training import no_progress


@pytest.fixture(scope="module")
def dataset():
    return World(WorldOptions(users=60, items=40, styles=8, kinds=8, events=10)).dataset()


def test_the_half_life_of_popularity_is_the_best_on_validation_by_recount(dataset):
    split = split_dataset(dataset)
    (model,) = fitted_baselines(split, [POPULARITY]).values()
    start, end = split.train_ranges.T
    events = np.concatenate([np.arange(a, b) for a, b in zip(start, end, strict=True)])
    ages = (dataset.times_E[events].max() - dataset.times_E[events]) / 86_400
    found = {}
    for days in (None, 7, 30, 90, 365):
        weights = np.ones(len(ages)) if days is None else 0.5 ** (ages / days)
        counts_I = np.bincount(dataset.items_E[events], weights, len(dataset.catalogue)).astype(np.float32)
        gains = []
        for sample in split.valid:
            free = np.setdiff1d(np.arange(len(counts_I)), sample.history.items)
            rank = np.count_nonzero(counts_I[free] >= counts_I[sample.target])
            gains.append(1 / np.log2(rank + 1) if rank <= 10 and sample.target in free else 0.0)
        found[days] = np.mean(gains)
    assert found[model.config.half_life_days] == max(found.values())
    assert len(set(found.values())) > 1
    wanted = Popularity(PopularityConfig(half_life_days=model.config.half_life_days)).fit(split)
    np.testing.assert_array_equal(model.arrays["counts_I"], wanted.arrays["counts_I"])


def test_every_counted_system_tells_what_was_chosen_and_without_validation_keeps_its_defaults(dataset):
    names = (POPULARITY, ITEM_KNN, EASE_R)
    told, defaults = (
        chosen_settings(fitted_baselines(split_dataset(dataset, fractions=fractions), names))
        for fractions in ((0.8, 0.1, 0.1), (0.8, 0.0, 0.2))
    )
    assert {name: set(settings) for name, settings in told.items()} == {
        POPULARITY: {"half_life_days"},
        ITEM_KNN: {"shrinkage", "neighbours", "decay", "window"},
        EASE_R: {"ridge", "decay", "window"},
    }
    assert told != defaults
    assert defaults[POPULARITY] == {"half_life_days": None}
    assert defaults[EASE_R] == {"ridge": 500.0, "decay": 0.8, "window": 20}


class Clock:
    """A clock by which each fit takes so many seconds, and nothing else any time."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.fits = 0.0, 0
        monkeypatch.setattr("thinkrank.recipes.baselines.time.perf_counter", lambda: self.now)
        fit = Search._fit

        def slow(search, model, progress):
            self.now, self.fits = self.now + seconds, self.fits + 1
            return fit(search, model, progress)

        monkeypatch.setattr(Search, "_fit", slow)


@pytest.mark.parametrize(("minutes", "fits"), [(0.1, 1), (1.0, 6)])
def test_a_search_begins_nothing_that_would_exceed_its_budget(dataset, monkeypatch, minutes, fits):
    clock = Clock(monkeypatch, 10)
    _, record = Search(system_named(IALS), split_dataset(dataset), minutes=minutes).run()
    assert clock.fits == fits
    assert record.seconds == 10 * clock.fits <= max(10, 60 * minutes)
    assert max(trial.ndcg for trial in record.trials) == record.ndcg


def test_with_time_enough_no_change_of_one_setting_is_better(dataset):
    split = split_dataset(dataset)
    model, record = Search(system_named(ITEM_KNN), split, minutes=1.0).run()
    best = evaluate_retrieval({"best": model}, split.valid).values("best", "ndcg@10").mean()
    assert record.ndcg == pytest.approx(best)
    assert (record.samples, record.seconds < 60) == (len(split.valid), True)
    for setting, values in SYSTEMS[ITEM_KNN].tried.items():
        for value in values:
            other = ItemKNN(ItemKNNConfig(**{**model.config.model_dump(), setting: value})).fit(split)
            found = evaluate_retrieval({"other": other}, split.valid).values("other", "ndcg@10").mean()
            assert found <= best + 1e-12, (setting, value)
    settings = [tuple(trial.settings.items()) for trial in record.trials]
    assert len(settings) == len(set(settings))


def test_what_a_system_leaves_of_its_share_goes_to_the_others(dataset, monkeypatch):
    Clock(monkeypatch, 1)
    split = split_dataset(dataset)
    shares = {
        record.system: (record.minutes, record.seconds)
        for _, record in tuned_baselines(split, [EASE_R, POPULARITY], minutes=10.0)
    }
    assert list(shares) == [POPULARITY, EASE_R]
    assert shares[POPULARITY] == (5, 5)  # five half-lives
    assert shares[EASE_R][0] == pytest.approx(10 - 5 / 60)


def test_a_network_is_trained_for_a_part_of_its_share_and_in_the_files_order_only_where_days_are_strict(dataset):
    small = {"max_epochs": 1, "width": 4}
    for ties, is_tried in (("strict", True), ("before", False)):
        search = Search(system_named("gru4rec"), split_dataset(dataset, ties=ties), minutes=0.3, seed=3)
        search._fixed |= small
        search._try({}, no_progress)
        assert ("train_in_file_order" in search.tried) is is_tried
        assert search.best.config.max_minutes == pytest.approx(0.1)
        assert (search.best.config.seed, search.best.config.width) == (3, 4)


@pytest.mark.parametrize(("stopped", "second"), [("", "train_in_file_order"), ("0.1 minutes were over", "width")])
def test_a_network_that_the_clock_stopped_is_tried_narrower_first(dataset, monkeypatch, stopped, second):
    def fit(search, model, progress):
        encoder = model.new_encoder(len(dataset.catalogue))
        model.install(encoder, dataset.catalogue, np.ones(len(dataset.catalogue), np.float32))
        return stopped

    monkeypatch.setattr(Search, "_fit", fit)
    search = Search(system_named("gru4rec"), split_dataset(dataset, ties="strict"), device="cpu")
    search.run()
    first, next_one = (trial.settings for trial in search.trials[:2])
    assert [name for name in first if first[name] != next_one[name]] == [second]


@pytest.fixture(scope="module")
def settings():
    data = DataSettings(source="synthetic", options={"users": 60, "items": 40, "styles": 8, "kinds": 8, "events": 10})
    return BaselineSettings(data=data, samples=50)


def test_a_run_goes_on_where_it_was_and_judges_every_test_sample(settings, dataset, tmp_path, monkeypatch, shown):
    split = settings.data.load_split()
    run_baselines(settings, tmp_path, [ITEM_KNN], minutes=1.0, progress=shown)
    assert shown[0] == "reading the data"
    first = (tmp_path / "item-knn" / "model.safetensors").stat().st_mtime_ns
    clock = Clock(monkeypatch, 0)
    rows = run_baselines(settings, tmp_path, ["item-knn", "popularity"], minutes=1.0, split=split)
    assert (tmp_path / "item-knn" / "model.safetensors").stat().st_mtime_ns == first
    assert clock.fits == 5
    assert rows == read_results(tmp_path / "results.json")
    assert {(row.system, row.n) for row in rows} == {(name, len(split.test)) for name in (POPULARITY, ITEM_KNN)}
    records = {record.system: record for record in read_tuning(tmp_path)}
    assert {record.samples for record in records.values()} == {50}
    models = {name: load(tmp_path / SYSTEMS[name].slug) for name in records}
    for name, record in records.items():
        assert {key: getattr(models[name].config, key) for key in record.chosen} == record.chosen
    again = evaluate_retrieval(models, split.test).rows(
        dataset=split.dataset.name, split="test", counts_I=split.train_counts
    )
    assert {(row.system, row.metric): row.value for row in again} == {
        (row.system, row.metric): row.value for row in rows
    }
    assert len(Fused(models).fit(split).retrieve([[0, 1]], 3).items_BK) == 1


@pytest.mark.parametrize(
    ("names", "minutes", "fault"),
    [(["kNN"], 1.0, "no system is called 'kNN'; there are popularity, item-knn"), ([], 0.0, "minutes must be above 0")],
)
def test_what_cannot_be_tuned_is_refused_before_there_is_a_folder(settings, tmp_path, names, minutes, fault):
    with pytest.raises(ThinkrankError, match=fault):
        run_baselines(settings, tmp_path / "new", names, minutes=minutes)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_settings_and_a_damaged_record_are_refused(settings, tmp_path):
    split = settings.data.load_split()
    run_baselines(settings, tmp_path, [POPULARITY], minutes=1.0, split=split)
    with pytest.raises(ThinkrankError, match="its samples is 50, not 60"):
        run_baselines(settings.model_copy(update={"samples": 60}), tmp_path, [POPULARITY], minutes=1.0, split=split)
    (tmp_path / "tuning.json").write_text("[]")
    with pytest.raises(ThinkrankError, match=r"tuning\.json: damaged"):
        run_baselines(settings, tmp_path, [POPULARITY], minutes=1.0, split=split)
    with pytest.raises(ThinkrankError, match="valid part holds no sample"):
        list(tuned_baselines(split_dataset(split.dataset, fractions=(0.8, 0.0, 0.2)), [GRU4REC], minutes=1.0))
    assert baseline_settings(Layers(source="synthetic")).samples == VALIDATION_SAMPLES
