"""Trainings on tiny models, with every setting given.

Each `*_fit` function makes a training that has not begun; `run` brings it to its end.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from golden import world
from golden.settings import SETS
from thinkrank.data.candidates import candidate_sets
from thinkrank.data.popularity import with_popularity
from thinkrank.language import tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.rank import ColdStartOptions, R2Rank, R2RankConfig, ReinforceOptions
from thinkrank.rank.r2rank.cold_start import ColdStartTrainer
from thinkrank.rank.r2rank.groups import TrainingGroups, with_traces
from thinkrank.rank.r2rank.reinforce import ReinforceTrainer
from thinkrank.rerank import (
    DLCM,
    EGLR,
    PRM,
    DLCMOptions,
    EGLRConfig,
    EvaluatorTrainerOptions,
    GrpoOptions,
    Pointwise,
    PointwiseOptions,
    PRMOptions,
    Seq2Slate,
    Seq2SlateOptions,
    SetRank,
    SetRankOptions,
    WarmStartOptions,
)
from thinkrank.rerank.eglr.grpo import GrpoTrainer
from thinkrank.rerank.eglr.supervised import EvaluatorTrainer, WarmStartTrainer
from thinkrank.rerank.network_trainer import train_network
from thinkrank.retrieve import (
    EASE,
    ContrastiveOptions,
    EASEConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
    R2ec,
    R2ecConfig,
    RecpoOptions,
    SASRec,
    SasrecOptions,
    train_sequential,
)
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.training import Run, train

LIST_BASELINES = {
    "pointwise": (Pointwise, PointwiseOptions),
    "dlcm": (DLCM, DLCMOptions),
    "prm": (PRM, PRMOptions),
    "setrank": (SetRank, SetRankOptions),
    "seq2slate": (Seq2Slate, Seq2SlateOptions),
}


def explicit(kind: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """Settings of which none is left to a default."""
    made = kind.model_validate(values)
    check_explicit(made)
    return made


def check_explicit(made: BaseModel, where: str = "") -> None:
    """Refuse settings that a default decides."""
    for name in type(made).model_fields:
        assert name in made.model_fields_set, f"{type(made).__name__}: {where}{name} is left to its default"
        if isinstance(value := getattr(made, name), BaseModel):
            check_explicit(value, f"{where}{name}.")


def shaken(model: Any, scale: float, seed: int = 7) -> Any:
    """Add noise to the adapter: one without effect would hide which weights act."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adapter_state(model.backbone).values():
            tensor.add_(scale * torch.randn(tensor.shape, generator=random))
    return model


def run_in(folder: Path) -> Run:
    """A run's folder."""
    return Run(folder, {}, {})


def bring_to_end(fit: Any) -> list[dict[str, Any]]:
    """Train to the end; the rows of the log."""
    return train(fit).metrics()


def r2ec(config: Mapping[str, Any], scale: float = 0.1) -> R2ec:
    catalogue = world.things()
    made = explicit(R2ecConfig, config)
    return shaken(R2ec.create(made, catalogue, backbone=tiny_backbone(catalogue.titles), seed=0, device="cpu"), scale)


def contrastive_fit(model: R2ec, options: Mapping[str, Any], folder: Path) -> ContrastiveTrainer:
    return ContrastiveTrainer(model, world.walks_split(), explicit(ContrastiveOptions, options), run_in(folder))


def recpo_fit(model: R2ec, options: Mapping[str, Any], folder: Path) -> RecpoTrainer:
    return RecpoTrainer(model, world.walks_split(), explicit(RecpoOptions, options), run_in(folder))


def r2rank(config: Mapping[str, Any], scale: float = 0.1) -> R2Rank:
    catalogue = with_popularity(world.kinds_split())
    made = explicit(R2RankConfig, config)
    return shaken(R2Rank.create(made, catalogue, backbone=tiny_backbone(catalogue.titles), seed=0, device="cpu"), scale)


def ranked_sets(split: Any) -> Any:
    drawn = split.valid.subset(SETS["samples"], SETS["subset_seed"])
    return candidate_sets(drawn, SETS["size"], negatives=SETS["negatives"], seed=SETS["seed"])


def cold_start_fit(model: R2Rank, options: Mapping[str, Any], folder: Path) -> ColdStartTrainer:
    made, split = explicit(ColdStartOptions, options), world.kinds_split()
    lists = TrainingGroups(split.train, negatives=made.negatives, seed=made.seed)[:12]
    if model.config.thinks:
        reasonings = {
            (one.position, row): f"{model.catalogue.titles[row]} {'fits' if row == one.rows[0] else 'is no match'}"
            for one in lists
            for row in one.rows
        }
        lists = with_traces(lists, reasonings, model.prompts)
    return ColdStartTrainer(model, lists, ranked_sets(split), made, run_in(folder))


def reinforce_fit(model: R2Rank, options: Mapping[str, Any], folder: Path) -> ReinforceTrainer:
    made, split = explicit(ReinforceOptions, options), world.kinds_split()
    lists = TrainingGroups(split.train, negatives=made.negatives, seed=made.seed)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():  # an untrained head gives every candidate the same score
        for parameter in model.head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return ReinforceTrainer(model, lists, ranked_sets(split), made, run_in(folder))


def eglr(config: Mapping[str, Any]) -> EGLR:
    return EGLR.create(explicit(EGLRConfig, config), world.displayed_split().train, seed=0, device="cpu")


def evaluator_fit(model: EGLR, options: Mapping[str, Any], folder: Path) -> EvaluatorTrainer:
    return EvaluatorTrainer(model, world.displayed_split(), explicit(EvaluatorTrainerOptions, options), run_in(folder))


def warm_start(model: EGLR, options: Mapping[str, Any], folder: Path) -> WarmStartTrainer:
    return WarmStartTrainer(model, world.displayed_split(), explicit(WarmStartOptions, options), run_in(folder))


def grpo_fit(model: EGLR, options: Mapping[str, Any], folder: Path) -> GrpoTrainer:
    return GrpoTrainer(model, world.displayed_split(), explicit(GrpoOptions, options), run_in(folder))


def sasrec(options: Mapping[str, Any]) -> tuple[SASRec, list[float]]:
    """Trained, and its validations."""
    model = SASRec(explicit(SasrecOptions, options), device="cpu")
    return model, validations(train_sequential(model, world.walks_split()))


def item_knn(options: Mapping[str, Any]) -> ItemKNN:
    """Trained."""
    return ItemKNN(explicit(ItemKNNConfig, options)).fit(world.walks_split())


def ease(options: Mapping[str, Any]) -> EASE:
    """Trained."""
    return EASE(explicit(EASEConfig, options)).fit(world.walks_split())


def popularity(options: Mapping[str, Any]) -> Popularity:
    """Trained."""
    return Popularity(explicit(PopularityConfig, options)).fit(world.walks_split())


def list_baseline(kind: str, options: Mapping[str, Any]) -> tuple[Any, list[float]]:
    """Trained, and its validations."""
    kind_of_model, settings = LIST_BASELINES[kind]
    model = kind_of_model(explicit(settings, options), device="cpu")
    return model, validations(train_network(model, world.displayed_split()))


def validations(run: Run) -> list[float]:
    """NDCG@10 after each epoch."""
    return [row["valid_ndcg@10"] for row in run.metrics() if "valid_ndcg@10" in row]


def weights_of(kind: str, model: Any) -> dict[str, torch.Tensor]:
    """What a trained baseline has learnt, by name."""
    if kind in LIST_BASELINES:
        return model.network.state_dict()
    return {name: torch.from_numpy(array) for name, array in model.arrays.items()}
