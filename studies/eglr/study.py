"""Run one arm of a re-ranking study with one seed, or all that are missing, and write what came out as JSON.

    python studies/eglr/study.py studies/eglr/trivago.toml --path FOLDER --arm gru_entropy --seed 0

A study is a settings file of `thinkrank train rerank` with a table more: `[study]` says which seeds, and which of the
arms in `arms.toml`, all by default. An arm lays its settings over those of the study. All arms of a seed share one
evaluator, and those with the same generator one warm start, so they differ in reinforcement and thinking alone; an arm
with `reranker.class` trains that class. The arm `baselines`, re-rankers from the literature, is always there. Trainings
resume; an arm whose result file is there is done.

A result keeps, for every test list, whose it is, the places on which clicked items came to stand, and in a made world
the clicks to expect of the first places; of a list writer also which weights its reinforcement kept, and, before and
after it, whether the generator uses its state and what the evaluator's reward leaves to gain.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank.data import ImpressionSplit, ListWorld, ListWorldOptions
from thinkrank.evaluate import evaluate_reranking
from thinkrank.recipes import reranking
from thinkrank.recipes.kept import kept_step
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.reranking import RerankSettings, best_of_several, rerank_settings
from thinkrank.recipes.running import train
from thinkrank.recipes.studies import Study, logged, tied_groups
from thinkrank.recipes.writers import kept_weights, state_facts
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
    train_eglr,
    train_network,
)
from thinkrank.rerank.eglr.oracle import oracle_ranking
from thinkrank.rerank.network import NetworkReranker
from thinkrank.stages.answers import Ranking
from thinkrank.stages.order import order_candidates
from thinkrank.stages.protocols import Reranker

RESULTS = Path(__file__).parent / "results"
sys.path.append(str(Path(__file__).parents[1]))  # what studies share
PASS_AT = (4, 16)
WARM_THOUGHTS = 3
"""Most thoughts before a place in the warm start that all arms of a generator share, where it has thoughts."""


class RerankingStudy(Study):
    """A study of list writers."""

    group = "eglr"
    split: ImpressionSplit

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        data = self.settings({}).data
        self.world = ListWorld(ListWorldOptions(**data.options)) if data.source == "synthetic" else None

    def settings(self, over: dict[str, Any]) -> RerankSettings:
        """Lay others over the common settings."""
        return rerank_settings(Layers(tables=[self.tables, over]))

    def users(self) -> list[int]:
        """Tell whose each test list is."""
        return self.split.test.users_L.tolist()

    def arm(self, name: str, seed: int) -> RerankSettings:
        """Return an arm's settings with a seed; one that matches another thinks as often as that did in validation."""
        arm = self.arms[name]
        seeds = {phase: {"seed": seed} for phase in reranking.PHASES}
        rate = {}
        if "match" in arm:
            other = json.loads((RESULTS / self.name / f"{arm['match']}-{seed}.json").read_text(encoding="utf-8"))
            rate = {"model": {"reasoning": {"random_rate": other["valid_trigger_rate"]}}}
        over = {key: arm[key] for key in ("model", "expert", "grpo", "reranker") if key in arm}
        return rerank_settings(Layers(tables=[self.tables, over, seeds, rate]))

    def judged(self, seed: int) -> EGLR:
        """Return a model whose evaluator is trained."""
        settings = self.settings({"evaluator": {"seed": seed}})
        return self._trained(f"evaluator-{seed}", settings, "evaluator", seed)

    def warm(self, settings: RerankSettings, seed: int) -> EGLR:
        """Return a model with the seed's evaluator and a generator after its warm start, set up as an arm is."""
        judged = self.judged(seed)
        kind = settings.model.generator.kind
        reasoning = {"mode": "fixed", "max_steps": WARM_THOUGHTS}
        plain = self.settings(
            {"model": {"generator": {"kind": kind}, "reasoning": reasoning}, "warm_start": {"seed": seed}}
        )
        warm = self._trained(f"warm-{kind}-{seed}", plain, "warm_start", seed, judged)
        model = EGLR.create(settings.model, self.split.train, seed=seed)
        model.writer.encoder.load_state_dict(warm.writer.encoder.state_dict())
        model.writer.generator.load_state_dict(warm.writer.generator.state_dict())
        if settings.model.reasoning.step_codes:
            codes_SD = model.writer.reasoner.codes_SD
            codes_SD.data.copy_(warm.writer.reasoner.codes_SD[: len(codes_SD)])
        if settings.model.reasoning.predicts_gain:
            model.writer.reasoner.gain.load_state_dict(warm.writer.reasoner.gain.state_dict())
        model.evaluator, model.report = judged.evaluator, judged.report
        return model

    def _trained(
        self, folder: str, settings: RerankSettings, phase: str, seed: int, judged: EGLR | None = None
    ) -> EGLR:
        def create() -> EGLR:
            model = EGLR.create(settings.model, self.split.train, seed=seed)
            if judged is not None:
                model.evaluator, model.report = judged.evaluator, judged.report
            return model

        def learn(model: EGLR, run: Any) -> None:
            train_eglr(model, self.split, getattr(settings, phase), run, progress=self.progress)

        model, _ = self.trained(folder, settings, create=create, learn=learn, load=EGLR.from_pretrained)
        return model

    def judge(self, systems: dict[str, Reranker | Ranking]) -> dict[str, Any]:
        """Tell where the clicked items of every test list came to stand, from 1, and in a made world the clicks due."""
        test, places = self.split.test, self.settings({}).grpo.length
        evaluation = evaluate_reranking(systems, test)
        ranks, ties, values = {}, {}, {}
        for name in systems:
            relevance_LN = evaluation.relevance(name)
            ranks[name] = [(np.flatnonzero(row) + 1).tolist() for row in relevance_LN]
            ties[name] = tied_groups(relevance_LN > 0, evaluation.tied_LN[name])
            if self.world is not None:
                slots_LK = evaluation.columns_LN[name][:, :places]
                values[name] = {"clicks": self.world.expected_clicks(test, slots_LK).round(4).tolist()}
        return {"ranks": ranks, "ties": ties, "values": values}

    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm."""
        started = time.perf_counter()
        if name == "baselines":
            result = {"about": "re-rankers from the literature, and orders that learn nothing"}
            systems = self.baselines(seed)
            result |= {"seedless": [name for name, one in systems.items() if not isinstance(one, NetworkReranker)]}
            result |= self.judge(systems)
        elif self.arm(name, seed).reranker is not None:
            settings, folder = self.arm(name, seed), self.folder / f"{name}-{seed}"
            _, model = train(reranking.RECIPE, settings, folder, split=self.split, progress=self.progress)
            result = {"about": self.arms[name]["about"], **self.judge({"answer": model})}
        else:
            result = self.run_eglr(name, seed)
        return {**result, "seconds": time.perf_counter() - started}

    def run_eglr(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm of EGLR: how well it orders, where it thinks, and what that costs."""
        settings, test, grpo = self.arm(name, seed), self.split.test, self.arm(name, seed).grpo
        model = self.warm(settings, seed)
        run = self.run(f"{name}-{seed}", settings)
        before = state_facts(model, test, grpo.length, grpo.reward)
        if settings.expert.steps:
            taught = self.run(f"{name}-{seed}-expert", settings) if grpo.steps else run
            train_eglr(model, self.split, settings.expert, taught, progress=self.progress)
        if grpo.steps:
            train_eglr(model, self.split, grpo, run, progress=self.progress)
        systems: dict[str, Reranker | Ranking] = {"greedy": model}
        if self.arms[name].get("pass_at"):
            systems |= {f"pass@{samples}": best_of_several(model, settings, samples) for samples in PASS_AT}
            systems[f"oracle@{PASS_AT[-1]}"] = oracle_ranking(model, test, test.items_LN.shape[1], PASS_AT[-1])
        result = {"about": self.arms[name]["about"], **self.judge(systems)}
        answers = [model.rerank(test.requests, test.candidates, grpo.length) for _ in range(3)]
        result |= by_place(answers[0])
        result["answer_seconds"] = min(answer.cost.seconds for answer in answers if answer.cost)
        key, rows = f"valid_ndcg@{grpo.length}", run.metrics()
        result["curve"] = logged(rows, "valid_reward", ("step", "valid_reward", key, "valid_trigger_rate"))
        keep = grpo.keep if grpo.steps else settings.expert.keep
        step = kept_step(result["curve"], key, keep) or 0
        result |= {"kept_step": step, "kept": kept_weights(step), "before": before}
        result["after"] = state_facts(model, test, grpo.length, grpo.reward)
        kept = [row for row in result["curve"] if row["step"] == step]
        result["valid_trigger_rate"] = kept[0]["valid_trigger_rate"] if kept else 0.0
        result["evaluator"] = model.report.model_dump(mode="json", exclude={"bins"}) if model.report else None
        result["threshold"] = model.config.reasoning.threshold
        return result

    def baselines(self, seed: int) -> dict[str, Reranker | Ranking]:
        """Return everything that a generative re-ranker has to beat."""
        systems: dict[str, Reranker | Ranking] = {"displayed order": InitialOrder()}
        if self.world is not None:
            systems["best order"] = self.best_order(self.world)
        for feature in self.options.get("orders", ()):
            systems[f"by {feature}"] = FeatureOrder(feature)
        lists, epochs = self.settings({}).model.lists, self.options.get("baseline_epochs")
        common: Any = {"seed": seed, "lists": lists, "patience": 2, **({"max_epochs": epochs} if epochs else {})}
        networks = {
            "pointwise": Pointwise(PointwiseOptions(**common)),
            "DLCM": DLCM(DLCMOptions(**common)),
            "PRM": PRM(PRMOptions(**common)),
            "SetRank": SetRank(SetRankOptions(**common)),
            "Seq2Slate": Seq2Slate(Seq2SlateOptions(**common)),
        }
        for network in networks.values():
            train_network(network, self.split, progress=self.progress)
        return {**systems, **networks}

    def best_order(self, world: ListWorld) -> Ranking:
        """Return the order with the most expected clicks, which only the maker of a world knows."""
        test = self.split.test
        order_LN = world.best_slots(test)
        scores_LN = np.zeros(test.items_LN.shape, dtype=np.float32)
        np.put_along_axis(scores_LN, order_LN, -np.arange(order_LN.shape[1], dtype=np.float32)[None], axis=1)
        return order_candidates(test.candidates, scores_LN, order_LN.shape[1])


def by_place(ranking: Ranking) -> dict[str, Any]:
    """Average over the lists that reach each place."""
    there_BK, latent = ranking.items_BK >= 0, ranking.latent
    reach_K = np.maximum(there_BK.sum(axis=0), 1)

    def means(values_BK: np.ndarray) -> list[float]:
        return [round(float(x), 5) for x in np.where(there_BK, values_BK, 0).sum(axis=0) / reach_K]

    thought_BK = latent.steps_BK > 0
    return {
        "trigger_rate": float((thought_BK & there_BK).sum() / there_BK.sum()),
        "trigger_rate_by_place": means(thought_BK),
        "mean_thoughts": float(latent.steps_BK[there_BK].mean()),
        "thoughts_by_place": means(latent.steps_BK),
        "entropy_before_by_place": means(latent.entropies_before_BK),
        "entropy_after_by_place": means(latent.entropies_after_BK),
    }


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, RerankingStudy)
