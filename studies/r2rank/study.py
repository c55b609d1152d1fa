"""Run one arm of a study with one seed, or all that are missing, and write what came out as JSON.

    python studies/r2rank/study.py studies/r2rank/movielens-100k.toml --arm rl --seed 0

A study is a settings file of `thinkrank train rank` with two tables more. `[study]` says which seeds, how many test
samples, and how long their lists are; `[arms.NAME]` lays settings over the common ones, and without it the arms are
those of `arms.toml`. An arm with `after` goes on with the model of that arm by reinforcement: of the first seed, or
with `own_starts` of its own; one without is a cold start, or, with `ranker.class`, trains that class. The arms
`baselines`, `tool` (the evidence alone) and `zero_shot` are there for data that was collected. With
`fuse`, a number of validation lists, each arm of R2Rank is judged as a part of a sum with the tool's scores, too. With
a table `[study.two_clues]` the data is that made world, its small language model is trained first, and the answers
after sampled thoughts are judged beside those after the likeliest. Trainings resume; an arm whose result file is there
is done.
"""

import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from two_clues import Language, TwoClues

from thinkrank.data import Split
from thinkrank.data.candidates import CandidateSets, candidate_sets
from thinkrank.data.popularity import with_popularity
from thinkrank.data.synthetic import RelayOptions, RelayWorld
from thinkrank.evaluate import (
    candidate_ranks,
    candidate_ties,
    history_buckets,
    popularity_buckets,
    position_bias,
    random_scores,
)
from thinkrank.evidence import Crowd, EvidenceFeatures
from thinkrank.language import Backbone, load_backbone
from thinkrank.language.adapters import lowest_adapted
from thinkrank.language.lower import LowerStates
from thinkrank.rank import ListPrompt, R2Rank, train_cold_start, train_reinforce
from thinkrank.rank.r2rank.groups import TrainingGroup, TrainingGroups, with_traces
from thinkrank.recipes import ranking
from thinkrank.recipes.baselines import EASE_R, ITEM_KNN, POPULARITY, SASREC, fitted_baselines
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.ranking import RankSettings, cold_start_lists, rank_settings, validation_sets
from thinkrank.recipes.running import train
from thinkrank.recipes.small_language_model import write_small_language_model
from thinkrank.recipes.studies import Study, kept_of, logged, shown_thoughts
from thinkrank.recipes.tool import WeighedSum, evidence_columns
from thinkrank.stages.answers import Ranking
from thinkrank.stages.protocols import Ranker
from thinkrank.training import Run

RESULTS = Path(__file__).parent / "results"
sys.path.append(str(Path(__file__).parents[1]))  # what studies share
BATCH = 16
TOOL, WITH_TOOL = "tool", "with the tool"
TOOL_SAMPLES = 2000
"""Validation lists that the evidence is weighed by, at most."""
Standing = tuple[list[int], dict[str, list[tuple[int, int]]]]
"""The place of each positive, and by sample the places that it shares with equal scores."""


class RankingStudy(Study):
    """A study of rankers."""

    group = "r2rank"
    split: Split
    world: TwoClues | None

    @property
    def always(self) -> tuple[str, ...]:
        """What is compared with where data was collected."""
        return () if "two_clues" in self.options else ("baselines", "tool", "zero_shot")

    def load_split(self) -> Split:
        """Load the data, or make the world of two clues."""
        self.world = None
        if "two_clues" not in self.options:
            return self.settings({}).data.load_split()
        relay = RelayWorld(RelayOptions(**self.tables["data"]["options"]))
        self.world = TwoClues(relay, **self.options["two_clues"])
        return self.world.split()

    def settings(self, over: dict[str, Any]) -> RankSettings:
        """Lay others over the common settings."""
        return rank_settings(Layers(tables=[self.tables, over]))

    def arm(self, name: str, seed: int) -> RankSettings:
        """Return an arm's settings with a seed."""
        arm = self.arms[name]
        over = {key: dict(arm.get(key, {})) for key in ("model", "traces", "cold_start", "reinforce")}
        over["model"]["thinks"] = arm.get("thinks", True)
        over["reinforce" if "after" in arm else "cold_start"]["seed"] = seed
        return self.settings(over | ({"ranker": arm["ranker"]} if "ranker" in arm else {}))

    def test_sets(self) -> CandidateSets:
        """Draw the lists that every arm is judged on: of all test samples, or of as many as the study says."""
        test, samples = self.split.test, self.options.get("samples")
        chosen = test if samples is None else test.subset(samples, seed=0)
        return candidate_sets(chosen, self.options["candidates"], seed=0)

    def users(self) -> list[int]:
        """Tell whose each list is."""
        return self.test_sets().samples.users.tolist()

    def shared(self, name: str) -> str:
        """Name the cold start, if all seeds of an arm go on with one."""
        return "cold start" if self.arms.get(name, {}).get("after") and not self.options.get("own_starts") else ""

    def backbone(self) -> Backbone | None:
        """Load the made world's own language model, trained if it is not there; None for data that was collected."""
        if self.world is None:
            return None
        world, folder = self.world, self.folder / "small"
        if not (folder / "config.json").is_file():
            histories, prompt = self.split.train.histories(), self.settings({}).model.prompt

            def texts(backbone: Backbone) -> Language:
                return Language(backbone, world, histories, prompt)

            catalogue, steps = self.split.dataset.catalogue, self.options["language_steps"]
            write_small_language_model(folder, catalogue, texts, self.progress, words=world.words, steps=steps)
        return load_backbone(str(folder), dtype="float32")

    def cold_start_lists(self, settings: RankSettings, model: R2Rank, traces: Path) -> Sequence[TrainingGroup]:
        """Make what a cold start learns from; in a made world the world itself writes the thoughts."""
        if self.world is None or not settings.model.thinks:
            return cold_start_lists(settings, model, self.split, traces, progress=self.progress)
        options = settings.cold_start
        drawn = self.split.train.subset(settings.traces.lists, options.seed)
        lists = TrainingGroups(drawn, negatives=options.negatives, seed=options.seed)[:]
        return with_traces(lists, self.world.traces(lists, options.seed), model.prompts)

    def model(self, name: str, seed: int) -> tuple[R2Rank, Run]:
        """Train an arm, or load what it left."""
        settings, before = self.arm(name, seed), self.arms[name].get("after")
        options = settings.reinforce if before else settings.cold_start

        def create() -> R2Rank:
            if not before:
                catalogue = with_popularity(self.split)
                crowd = Crowd.of(self.split) if settings.model.prompt.evidence else None
                return R2Rank.create(settings.model, catalogue, backbone=self.backbone(), crowd=crowd, seed=seed)
            model, _ = self.model(before, seed if self.options.get("own_starts") else self.options["seeds"][0])
            return model

        def learn(model: R2Rank, run: Run) -> None:
            sets = validation_sets(settings, self.split, options.validation_samples)
            if before:
                lists = TrainingGroups(self.split.train, negatives=options.negatives, seed=seed)
                train_reinforce(model, lists, sets, settings.reinforce, run, progress=self.progress)
            else:
                traces = self.cold_start_lists(settings, model, run.folder / "traces.jsonl")
                train_cold_start(model, traces, sets, settings.cold_start, run, progress=self.progress)

        return self.trained(
            f"{name}-{seed}",
            settings,
            create=create,
            learn=learn,
            load=lambda folder: R2Rank.from_pretrained(folder, backbone=self.backbone()),
        )

    def judge(self, ranker: Ranker, sets: CandidateSets) -> tuple[Standing, list[Ranking]]:
        """Return where each positive stands in its list, and the answers."""
        answers = []
        with self.progress("judging", len(sets)) as advance:
            for part, requests in sets.requests.batches(BATCH):
                answers.append(ranker.rank(requests, sets.candidates[part]))
                advance(len(requests))
        return standing(scores_of(answers, sets), sets), answers

    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm."""
        sets, started = self.test_sets(), time.perf_counter()
        if name == "baselines":
            found = self.baselines(sets, seed)
            counts_I = self.split.train_counts
            buckets = history_buckets(sets.histories) | popularity_buckets(sets.samples.targets, counts_I)
            result: dict[str, Any] = {"about": "systems without a language model"}
            result["seedless"] = [POPULARITY, ITEM_KNN, EASE_R]
            result["buckets"] = {bucket: np.flatnonzero(chosen_S).tolist() for bucket, chosen_S in buckets.items()}
        elif name == "tool":
            found = {TOOL: standing(self.tool_scores(sets), sets)}
            result = {"about": "weighed evidence, no language model", "seedless": [TOOL]}
            result["weights"] = self.weighed_evidence.weights
        elif name == "zero_shot":
            found, rows = self.zero_shot(sets)
            result = {"about": "the language model as it is", "position_bias": rows, "seedless": list(found)}
        elif self.arm(name, seed).ranker is not None:
            settings, folder = self.arm(name, seed), self.folder / f"{name}-{seed}"
            _, model = train(ranking.RECIPE, settings, folder, split=self.split, progress=self.progress)
            found, result = {"test": self.judge(model, sets)[0]}, {"about": self.arms[name]["about"]}
        else:
            return self.run_r2rank(name, seed, sets)
        return {**result, "seconds": time.perf_counter() - started, **places_and_ties(found)}

    def run_r2rank(self, name: str, seed: int, sets: CandidateSets) -> dict[str, Any]:
        """Train and judge an arm of R2Rank: how well it ranks, and what its thoughts cost."""
        model, run = self.model(name, seed)
        settings, rows, started = self.arm(name, seed), run.metrics(), time.perf_counter()
        last = settings.reinforce if "after" in self.arms[name] else settings.cold_start
        if lowest_adapted(model.backbone):
            model.lower = self.lower
        ranks, answers = self.judge(model, sets)
        found, spent = {"test": ranks}, time.perf_counter() - started
        result: dict[str, Any] = {}
        if self.world and model.config.thinks:
            sampled = model.config.thought.model_copy(update={"temperature": 1.0})
            model.config = model.config.model_copy(update={"thought": sampled})
            found["sampled"], answers = self.judge(model, sets)
            thoughts = [dict(zip(items, reasons, strict=False)) for items, reasons in reasons_of(answers)]
            result["clues"] = self.world.shares(sets.histories, thoughts)
        if self.options.get("fuse"):
            fused, result["weights"] = self.fused(model, scores_of(answers, sets), sets, self.options["fuse"])
            found[WITH_TOOL] = fused
        written = [len(thought.token_ids) for _, reasons in reasons_of(answers) for thought in reasons]
        rewards = ("step", "reward", "thought_tokens", "thought_deviation")
        return {
            **result,
            "about": self.arms[name]["about"],
            "seconds": rows[-1]["seconds"],
            "pairs_per_second": sets.items_BN.size / spent,
            "tokens_per_pair": sum(written) / sets.items_BN.size,
            "rewards": logged(rows, "reward", rewards),
            "validations": logged(rows, "valid_ndcg@10", ("step",), prefix="valid"),
            "thoughts": shown_thoughts(rows) if self.options.get("keep_thoughts", True) else {},
            "kept_step": kept_of(rows, last.keep),
            **places_and_ties(found),
        }

    def baselines(self, sets: CandidateSets, seed: int) -> dict[str, Standing]:
        """Judge a random order, and what knows ids only."""
        found = {"random": standing(random_scores(sets, seed), sets)}
        fitted = fitted_baselines(self.split, (POPULARITY, ITEM_KNN, EASE_R, SASREC), seed=seed, progress=self.progress)
        answers = {name: self.judge(model, sets) for name, model in fitted.items()}
        scores_BN = scores_of(answers[SASREC][1], sets)
        found[f"{SASREC} {WITH_TOOL}"], _ = self.fused(fitted[SASREC], scores_BN, sets, TOOL_SAMPLES)
        return found | {name: answer[0] for name, answer in answers.items()}

    @cached_property
    def lower(self) -> LowerStates:
        """Keep what all seeds and arms read of the judged lists below their adapters."""
        return LowerStates()

    @cached_property
    def evidence(self) -> EvidenceFeatures:
        """Count the train part."""
        return EvidenceFeatures(Crowd.of(self.split), self.split.dataset.catalogue)

    @cached_property
    def weighed_evidence(self) -> WeighedSum:
        """Weigh the evidence by validation lists."""
        sets = self.valid_sets(TOOL_SAMPLES)
        return WeighedSum.fit(evidence_columns(self.evidence, sets, self.progress), sets)

    def valid_sets(self, samples: int) -> CandidateSets:
        """Draw lists of the validation part, as those of the test part are drawn."""
        return candidate_sets(self.split.valid.subset(samples, seed=0), self.options["candidates"], seed=0)

    def tool_scores(self, sets: CandidateSets) -> np.ndarray:
        """Score candidates by the evidence alone."""
        columns = evidence_columns(self.evidence, sets, self.progress)
        return self.weighed_evidence.scores(columns).astype(np.float32)

    def fused(
        self, model: Ranker, scores_BN: np.ndarray, sets: CandidateSets, samples: int
    ) -> tuple[Standing, dict[str, float]]:
        """Judge the sum of a model's scores and the tool's, weighed by some validation lists; return the weights."""
        valid = self.valid_sets(samples)
        total = WeighedSum.fit(
            {TOOL: self.tool_scores(valid), "model": scores_of(self.judge(model, valid)[1], valid)}, valid
        )
        both_BN = total.scores({TOOL: self.tool_scores(sets), "model": scores_BN})
        return standing(both_BN.astype(np.float32), sets), total.weights

    def zero_shot(self, sets: CandidateSets) -> tuple[dict[str, Standing], list[dict[str, Any]]]:
        """Judge the yes or no of each pair, the list prompt in the order given, and both in five other orders."""
        config = self.settings({"model": {"thinks": False, "readout": "yes_no"}}).model
        base = load_backbone(config.backbone, dtype=config.dtype)
        catalogue = with_popularity(self.split)
        listed = ListPrompt(base, catalogue, config.prompt)
        systems: dict[str, Ranker] = {
            "list prompt": listed,
            "yes or no": R2Rank.create(config, catalogue, backbone=base),
        }
        found = {name: self.judge(systems[name], sets)[0] for name in ("yes or no", "list prompt")}
        shown = [sets.shuffled(seed) for seed in range(5)]
        rows = []
        for name, ranker in systems.items():
            scores = [scores_of(self.judge(ranker, one)[1], one) for one in shown]
            bias = position_bias(scores, shown)
            rows += bias.rows(sets.samples.users, dataset=self.split.dataset.name, split="test", system=name)
        return found, [row.model_dump(mode="json") for row in rows]


def standing(scores_BN: np.ndarray, sets: CandidateSets) -> Standing:
    """Return the place of each positive behind all that have its score, and which places these share."""
    ranks_B, ties_B = candidate_ranks(scores_BN, sets), candidate_ties(scores_BN, sets)
    tied = {str(row): [(int(ranks_B[row] - ties_B[row]), int(ranks_B[row]))] for row in np.flatnonzero(ties_B)}
    return ranks_B.tolist(), tied


def places_and_ties(found: dict[str, Standing]) -> dict[str, Any]:
    """Return `ranks` and `ties` of a result, by mode."""
    ranks, ties = ({mode: pair[at] for mode, pair in found.items()} for at in (0, 1))
    return {"ranks": ranks, "ties": ties}


def scores_of(answers: Sequence[Ranking], sets: CandidateSets) -> np.ndarray:
    """Return the score of every candidate in the order it came in."""
    return np.concatenate([answer.scores_given(sets.items_BN.shape[1]) for answer in answers])


def reasons_of(answers: Sequence[Ranking]) -> list[tuple[list[int], Sequence[Any]]]:
    """Return the items that each request was answered with, and what was thought about them; nothing without."""
    return [
        (items, reasons)
        for answer in answers
        if answer.reasons is not None
        for items, reasons in zip(answer.items_BK.tolist(), answer.reasons, strict=True)
    ]


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, RankingStudy)
