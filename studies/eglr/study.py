"""Run one arm of a re-ranking study with one seed, or all that are missing, and write what came out as JSON.

    python studies/eglr/study.py studies/eglr/trivago.toml --path FOLDER --arm gru_entropy --seed 0

A study is a settings file of `thinkrank train rerank` with a table more: `[study]` says which seeds, and which of the
arms in `arms.toml`, all by default. An arm lays its settings over those of the study. All arms of a seed share one
evaluator, and those with the same generator one warm start, so they differ in reinforcement and thinking alone. The arm
`baselines`, re-rankers from the literature, is always there. Trainings resume; an arm whose result file is there is
done.

A result keeps, for every test list, the places on which clicked items came to stand, and in a made world the clicks to
expect of the first places.
"""

import json
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank.data import ImpressionDataset, ImpressionSplit, ListWorld, ListWorldOptions
from thinkrank.evaluate import evaluate_lists
from thinkrank.recipes.settings import Layers, RerankSettings, rerank_settings
from thinkrank.rerank import (
    DLCM,
    EGLR,
    PRM,
    DLCMOptions,
    FeatureOrder,
    InitialOrder,
    Pointwise,
    PointwiseOptions,
    PRMOptions,
    Seq2Slate,
    Seq2SlateOptions,
    SetRank,
    SetRankOptions,
)
from thinkrank.rerank.eglr.config import GrpoOptions
from thinkrank.rerank.eglr.model import Pick
from thinkrank.stages.answers import Slate
from thinkrank.stages.order import slate_from_scores
from thinkrank.stages.protocols import Reranker
from thinkrank.training import Run, console_progress

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
ARMS = Path(__file__).parent / "arms.toml"
sys.path.append(str(ROOT / "studies"))  # what studies share
PASS_AT = (4, 16)


class Study:
    """A study's file, its lists, and where its runs are."""

    always = ("baselines",)

    def __init__(self, path: Path, runs: Path, lists: str | None) -> None:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        if lists is not None:
            tables["data"]["path"] = lists
        self.name, self.folder = path.stem, runs / "eglr" / path.stem
        self.options: dict[str, Any] = tables.pop("study")
        arms: dict[str, dict[str, Any]] = tomllib.loads(ARMS.read_text(encoding="utf-8"))
        self.arms = {name: arms[name] for name in self.options.get("arms", arms)}
        self.tables = tables
        data = self.settings({}).data
        self.split: ImpressionSplit = data.load_split()
        self.world = ListWorld(ListWorldOptions(**data.options)) if data.source == "synthetic" else None

    def settings(self, over: dict[str, Any]) -> RerankSettings:
        """The common settings with others laid over them."""
        return rerank_settings(Layers(tables=[self.tables, over]))

    def arm(self, name: str, seed: int) -> RerankSettings:
        """An arm's settings with a seed; one that matches another thinks as often as that one did."""
        arm = self.arms[name]
        seeds = {phase: {"seed": seed} for phase in ("evaluator", "warm_start", "grpo")}
        rate = {}
        if "match" in arm:
            other = json.loads((RESULTS / self.name / f"{arm['match']}-{seed}.json").read_text(encoding="utf-8"))
            rate = {"model": {"reasoning": {"random_rate": other["trigger_rate"]}}}
        tables = [self.tables, {key: arm[key] for key in ("model", "grpo") if key in arm}, seeds, rate]
        return rerank_settings(Layers(tables=tables))

    def run(self, folder: str, settings: RerankSettings) -> Run:
        """A folder of this study."""
        config = settings.model_dump(mode="json")
        return Run(self.folder / folder, config, {"split": self.split.manifest()})

    def judged(self, seed: int) -> EGLR:
        """A model whose evaluator is trained."""
        folder = self.folder / f"evaluator-{seed}" / "model"
        if not (folder / "config.json").is_file():
            settings = self.settings({"evaluator": {"seed": seed}})
            model = EGLR.create(settings.model, self.split.train, seed=seed)
            run = self.run(f"evaluator-{seed}", settings)
            model.fit(self.split, settings.evaluator, run, progress=console_progress)
            model.save_pretrained(folder)
        return EGLR.from_pretrained(folder)

    def warm(self, settings: RerankSettings, seed: int) -> EGLR:
        """A model with the seed's evaluator and a generator after its warm start, set up as an arm is."""
        judged = self.judged(seed)
        kind = settings.model.generator.kind
        folder = self.folder / f"warm-{kind}-{seed}" / "model"
        if not (folder / "config.json").is_file():
            plain = self.settings({"model": {"generator": {"kind": kind}}, "warm_start": {"seed": seed}})
            model = EGLR.create(plain.model, self.split.train, seed=seed)
            model.evaluator, model.report = judged.evaluator, judged.report
            run = self.run(f"warm-{kind}-{seed}", plain)
            model.fit(self.split, plain.warm_start, run, progress=console_progress)
            model.save_pretrained(folder)
        warm = EGLR.from_pretrained(folder)
        model = EGLR.create(settings.model, self.split.train, seed=seed)
        model.writer.encoder.load_state_dict(warm.writer.encoder.state_dict())
        model.writer.generator.load_state_dict(warm.writer.generator.state_dict())
        model.evaluator, model.report = judged.evaluator, judged.report
        return model


@dataclass(frozen=True)
class PassAt:
    """Several lists for each request, of which one is picked."""

    model: EGLR
    samples: int
    pick: Pick
    grpo: GrpoOptions

    def rerank(self, lists: ImpressionDataset, k: int) -> Slate:
        judged = {"reward": self.grpo.reward, "places": self.grpo.length}
        return self.model.rerank(lists, k, samples=self.samples, pick=self.pick, **judged)


def judge(study: Study, systems: dict[str, Reranker]) -> dict[str, Any]:
    """Where the clicked items of every test list came to stand, from 1, and, in a made world, the clicks to expect."""
    test, places = study.split.test, study.settings({}).grpo.length
    evaluation = evaluate_lists(systems, test)
    ranks, values = {}, {}
    for name in systems:
        relevance_LN = evaluation.relevance(name)
        ranks[name] = [(np.flatnonzero(row) + 1).tolist() for row in relevance_LN]
        if study.world is not None:
            slots_LK = evaluation.columns_LN[name][:, :places]
            values[name] = {"clicks": study.world.expected_clicks(test, slots_LK).round(4).tolist()}
    return {"ranks": ranks, "values": values}


@dataclass(frozen=True)
class BestOrder:
    """The order with the most expected clicks, which only the maker of a world knows."""

    world: ListWorld

    def rerank(self, lists: ImpressionDataset, k: int) -> Slate:
        scores_LN = np.zeros(lists.items_LN.shape, dtype=np.float32)
        order_LN = self.world.best_slots(lists)
        np.put_along_axis(scores_LN, order_LN, -np.arange(order_LN.shape[1], dtype=np.float32)[None], axis=1)
        return slate_from_scores(lists, scores_LN, k)


def answer_seconds(model: EGLR, test: ImpressionDataset, places: int) -> float:
    """Wall time of one pass over the test lists, the fastest of three."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        model.rerank(test, places)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def by_place(slate: Slate) -> dict[str, Any]:
    """Means over the lists that reach each place."""
    there_BK = slate.items_BK >= 0
    reach_K = np.maximum(there_BK.sum(axis=0), 1)

    def means(values_BK: np.ndarray) -> list[float]:
        return [round(float(x), 5) for x in np.where(there_BK, values_BK, 0).sum(axis=0) / reach_K]

    thought_BK = slate.steps_BK > 0
    return {
        "trigger_rate": float((thought_BK & there_BK).sum() / there_BK.sum()),
        "trigger_rate_by_place": means(thought_BK),
        "mean_thoughts": float(slate.steps_BK[there_BK].mean()),
        "thoughts_by_place": means(slate.steps_BK),
        "entropy_before_by_place": means(slate.entropies_before_BK),
        "entropy_after_by_place": means(slate.entropies_after_BK),
    }


def run_arm(study: Study, arm: str, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    if arm == "baselines":
        result = {"about": "re-rankers from the literature, and orders that learn nothing"}
        result |= judge(study, baselines(study, seed))
    else:
        settings = study.arm(arm, seed)
        model = study.warm(settings, seed)
        run = study.run(f"{arm}-{seed}", settings)
        if settings.grpo.steps:
            model.fit(study.split, settings.grpo, run, progress=console_progress)
        systems: dict[str, Reranker] = {"greedy": model}
        if study.arms[arm].get("pass_at"):
            grpo = settings.grpo
            systems |= {f"pass@{samples}": PassAt(model, samples, "evaluator", grpo) for samples in PASS_AT}
            systems[f"oracle@{PASS_AT[-1]}"] = PassAt(model, PASS_AT[-1], "oracle", grpo)
        result = {"about": study.arms[arm]["about"], **judge(study, systems)}
        result |= by_place(model.rerank(study.split.test, settings.grpo.length))
        result["answer_seconds"] = answer_seconds(model, study.split.test, settings.grpo.length)
        shown = ("step", "valid_reward", f"valid_ndcg@{settings.grpo.length}", "valid_trigger_rate")
        result["curve"] = [{key: row[key] for key in shown} for row in run.metrics() if "valid_reward" in row]
        result["evaluator"] = model.report.model_dump(mode="json", exclude={"bins"}) if model.report else None
        result["threshold"] = model.config.reasoning.threshold
    return {**result, "seconds": time.perf_counter() - started}


def baselines(study: Study, seed: int) -> dict[str, Reranker]:
    """Everything that a generative re-ranker has to beat."""
    systems: dict[str, Reranker] = {"displayed order": InitialOrder()}
    if study.world is not None:
        systems["best order"] = BestOrder(study.world)
    for feature in study.options.get("orders", ()):
        systems[f"by {feature}"] = FeatureOrder(feature)
    common = {"seed": seed, "lists": study.settings({}).model.lists, "patience": 2}
    systems["pointwise"] = Pointwise(PointwiseOptions(**common)).fit(study.split)
    systems["DLCM"] = DLCM(DLCMOptions(**common)).fit(study.split)
    systems["PRM"] = PRM(PRMOptions(**common)).fit(study.split)
    systems["SetRank"] = SetRank(SetRankOptions(**common)).fit(study.split)
    systems["Seq2Slate"] = Seq2Slate(Seq2SlateOptions(**common)).fit(study.split)
    return systems


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, Study, run_arm)
