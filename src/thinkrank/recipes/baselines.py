"""Systems without a language model, as tables and studies set them beside one: their settings chosen on validation."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from thinkrank.data import Split
from thinkrank.metrics import ndcg, relevance_from_ranks
from thinkrank.retrieve import EASE, ItemKNN, Popularity, SASRec, SasrecOptions, train_sequential
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.training import Progress, no_progress

POPULARITY, ITEM_KNN, EASE_R, SASREC = "popularity", "item-kNN", "EASE", "SASRec"
REFERENCES = (POPULARITY, ITEM_KNN)
"""What every other system of a table is tested against."""

_COUNTED: dict[str, Any] = {POPULARITY: Popularity, ITEM_KNN: ItemKNN, EASE_R: EASE}
_TRIED: dict[str, dict[str, tuple[Any, ...]]] = {
    POPULARITY: {"half_life_days": (None, 7.0, 30.0, 90.0, 365.0)},
    ITEM_KNN: {"shrinkage": (10.0, 0.0, 50.0, 200.0), "neighbours": (200, 50), "decay": (0.7, 0.5, 0.9, 1.0)},
    EASE_R: {"ridge": (500.0, 100.0, 2000.0, 10_000.0), "decay": (0.8, 0.6, 1.0)},
}
"""Settings that are tried, one after the other; the default comes first, and stays where nothing is better."""

_VALIDATION_SAMPLES = 2000


def fitted_baselines(
    split: Split, names: Sequence[str], *, seed: int = 0, device: str = "auto", progress: Progress = no_progress
) -> dict[str, DenseRetriever[Any]]:
    """Fit systems on the train part, with settings chosen on the valid part; SASRec stops early on that.

    Args:
        split: the data.
        names: of the systems, in the order of the table.
        seed: of SASRec.
        device: where SASRec trains and answers.
        progress: how to show the choice of settings and SASRec's training.
    """
    systems: dict[str, DenseRetriever[Any]] = {}
    for name in names:
        if name == SASREC:
            systems[name] = model = SASRec(SasrecOptions(seed=seed), device=device)
            train_sequential(model, split, progress=progress)
        else:
            systems[name] = _chosen(name, split, progress)
    return systems


def chosen_settings(systems: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was chosen for each system of which settings were tried, ready for JSON."""
    return {
        name: {setting: getattr(systems[name].config, setting) for setting in tried}
        for name, tried in _TRIED.items()
        if name in systems
    }


def _chosen(name: str, split: Split, progress: Progress) -> DenseRetriever[Any]:
    """Fit a system with the settings of the best NDCG@10 on at most 2,000 validation samples, one after the other."""
    samples, kind, tried = split.valid.subset(_VALIDATION_SAMPLES, seed=0), _COUNTED[name], _TRIED[name]
    requests, best = samples.requests(), cast(DenseRetriever[Any], kind().fit(split))

    def value(model: Any) -> float:
        ranks_S = model.target_ranks(requests, samples.targets)
        return float(ndcg(relevance_from_ranks(ranks_S, 10), 10).mean())

    if not len(samples) or (name == POPULARITY and not split.dataset.has_times):
        return best
    highest = value(best)
    with progress(f"settings of {name}", sum(len(values) - 1 for values in tried.values())) as advance:
        for setting, values in tried.items():
            for other in values[1:]:
                model = kind(best.config.model_copy(update={setting: other}))
                if setting == "decay":  # counts in answers only
                    model.learn(best.catalogue, best.arrays)
                else:
                    model.fit(split)
                if (reached := value(model)) > highest:
                    best, highest = model, reached
                advance(note=f"best NDCG@10 {highest:.4f}")
    return best
