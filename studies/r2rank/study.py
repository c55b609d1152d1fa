"""Run one arm of a study with one seed, or all that are missing, and write what came out as JSON.

    python studies/r2rank/study.py studies/r2rank/movielens-100k.toml --arm rl --seed 0

A study is a settings file of `thinkrank train rank` with two tables more. `[study]` says which seeds, how many test
samples, and how long their lists are; `[arms.NAME]` lays settings over the common ones, and without it the arms are
those of `arms.toml`. An arm with `after` goes on with the model of that arm by reinforcement: of the first seed, or
with `own_starts` of its own; one without is a cold start. The arms `baselines` and `zero_shot` are there for data that
was collected. With a table `[study.two_clues]` the data is that made world, its small language model is trained first,
and the answers after sampled thoughts are judged beside those after the likeliest. Trainings resume; an arm whose
result file is there is done.
"""

import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from two_clues import Language, TwoClues

from thinkrank.cli.train_rank import cold_start_lists, validation_sets
from thinkrank.data import Split
from thinkrank.data.candidates import CandidateSets, candidate_sets
from thinkrank.data.popularity import with_popularity
from thinkrank.data.synthetic import RelayOptions, RelayWorld
from thinkrank.evaluate import (
    CandidateScorer,
    candidate_ranks,
    from_catalogue,
    history_buckets,
    popularity_buckets,
    position_bias,
    random_scores,
)
from thinkrank.language import Backbone, load_backbone
from thinkrank.rank import R2Rank, train_cold_start, train_reinforce
from thinkrank.rank.r2rank.groups import TrainingGroup, TrainingGroups, with_traces
from thinkrank.rank.r2rank.model import PairAnswers
from thinkrank.rank.zero_shot import ListPrompt
from thinkrank.recipes.settings import Layers, RankSettings, rank_settings
from thinkrank.retrieve import EASE, ItemKNN, Popularity, SASRec, SasrecOptions
from thinkrank.training import Run, console_progress

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
ARMS = Path(__file__).parent / "arms.toml"
sys.path.append(str(ROOT / "studies"))  # what studies share


class Study:
    """A study's file, its data, and where its runs are."""

    def __init__(self, path: Path, runs: Path, data: str | None) -> None:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        if data is not None:
            tables["data"]["path"] = data
        self.name, self.folder = path.stem, runs / "r2rank" / path.stem
        self.options: dict[str, Any] = tables.pop("study")
        arms = tables.pop("arms", None)
        self.arms: dict[str, dict[str, Any]] = arms or tomllib.loads(ARMS.read_text(encoding="utf-8"))
        self.tables = tables
        self.always = () if "two_clues" in self.options else ("baselines", "zero_shot")
        self.world: TwoClues | None = None
        if "two_clues" in self.options:
            relay = RelayWorld(RelayOptions(**tables["data"]["options"]))
            self.world = TwoClues(relay, **self.options["two_clues"])
        self.split: Split = self.world.split() if self.world else self.settings({}).data.load_split()

    def settings(self, over: dict[str, Any]) -> RankSettings:
        """The common settings with an arm's laid over them."""
        return rank_settings(Layers(tables=[self.tables, over]))

    def arm(self, name: str, seed: int) -> RankSettings:
        """An arm's settings with a seed."""
        arm = self.arms[name]
        over = {key: dict(arm.get(key, {})) for key in ("model", "traces", "cold_start", "reinforce")}
        over["model"]["thinks"] = arm.get("thinks", True)
        over["reinforce" if "after" in arm else "cold_start"]["seed"] = seed
        return self.settings(over)

    def test_sets(self) -> CandidateSets:
        """The lists that every arm is judged on."""
        samples = self.split.test.subset(self.options["samples"], seed=0)
        return candidate_sets(samples, self.options["candidates"], seed=0)

    def backbone(self) -> Backbone | None:
        """The made world's own language model, trained if it is not there; None for data that was collected."""
        if self.world is None:
            return None
        world, folder = self.world, self.folder / "small"
        if not (folder / "config.json").is_file():
            from small_language_model import write_small_language_model

            histories, prompt = self.split.train.histories(), self.settings({}).model.prompt

            def texts(backbone: Backbone) -> Language:
                return Language(backbone, world, histories, prompt)

            catalogue, steps = self.split.dataset.catalogue, self.options["language_steps"]
            write_small_language_model(folder, catalogue, texts, console_progress, words=world.words, steps=steps)
        return load_backbone(str(folder), dtype="float32")

    def cold_start_lists(self, settings: RankSettings, model: R2Rank, traces: Path) -> Sequence[TrainingGroup]:
        """What a cold start learns from; in a made world the world itself writes the thoughts."""
        if self.world is None or not settings.model.thinks:
            return cold_start_lists(settings, model, self.split, traces)
        options = settings.cold_start
        drawn = self.split.train.subset(settings.traces.lists, options.seed)
        lists = TrainingGroups(drawn, negatives=options.negatives, seed=options.seed)[:]
        return with_traces(lists, self.world.traces(lists, options.seed), model.prompts)

    def model(self, name: str, seed: int) -> tuple[R2Rank, Run]:
        """Train an arm, or load what it left."""
        settings, folder = self.arm(name, seed), self.folder / f"{name}-{seed}"
        before = self.arms[name].get("after")
        options = settings.reinforce if before else settings.cold_start
        run = Run(folder, settings.model_dump(mode="json"), {"split": self.split.manifest()})
        if (folder / "model" / "config.json").is_file():
            return R2Rank.from_pretrained(folder / "model", backbone=self.backbone()), run
        sets = validation_sets(settings, self.split, options.validation_samples)
        if before:
            first = seed if self.options.get("own_starts") else self.options["seeds"][0]
            self.model(before, first)
            model = R2Rank.from_pretrained(self.folder / f"{before}-{first}" / "model", backbone=self.backbone())
            lists = TrainingGroups(self.split.train, negatives=options.negatives, seed=seed)
            train_reinforce(model, lists, sets, settings.reinforce, run, progress=console_progress)
        else:
            model = R2Rank.create(settings.model, with_popularity(self.split), backbone=self.backbone(), seed=seed)
            traces = self.cold_start_lists(settings, model, folder / "traces.jsonl")
            train_cold_start(model, traces, sets, settings.cold_start, run, progress=console_progress)
        model.save_pretrained(folder / "model")
        return model, run


def judge(scorer: CandidateScorer, sets: CandidateSets, batch: int = 16) -> list[int]:
    """Place of each positive in its list."""
    parts = []
    with console_progress("judging", len(sets)) as advance:
        for start in range(0, len(sets), batch):
            parts.append(scorer(sets.histories[start : start + batch], sets.items_BN[start : start + batch]))
            advance(len(parts[-1]))
    return candidate_ranks(np.concatenate(parts), sets).tolist()


def run_arm(study: Study, arm: str, seed: int) -> dict[str, Any]:
    sets, started = study.test_sets(), time.perf_counter()
    result: dict[str, Any] = {}
    if arm == "baselines":
        found = baselines(study, sets, seed)
        result |= {"about": "systems without a language model", "seconds": time.perf_counter() - started}
        counts_I = study.split.train_counts
        buckets = history_buckets(sets.histories) | popularity_buckets(sets.samples.targets, counts_I)
        result["buckets"] = {name: np.flatnonzero(chosen_S).tolist() for name, chosen_S in buckets.items()}
    elif arm == "zero_shot":
        found, rows = zero_shot(study, sets)
        about = "the language model as it is"
        result |= {"about": about, "seconds": time.perf_counter() - started, "position_bias": rows}
    else:
        model, run = study.model(arm, seed)
        rows = run.metrics()
        shown = [row for row in rows if "thoughts" in row] if study.options.get("keep_thoughts", True) else []
        started = time.perf_counter()
        answers: list[PairAnswers] = []

        def scorer(histories: Any, items_BN: np.ndarray) -> np.ndarray:
            answers.append(model.answer(histories, items_BN))
            return answers[-1].scores_BN

        found = {"test": judge(scorer, sets)}
        spent = time.perf_counter() - started
        if study.world and model.config.thinks:
            answers.clear()
            sampled = model.config.thought.model_copy(update={"temperature": 1.0})
            model.config = model.config.model_copy(update={"thought": sampled})
            found["sampled"] = judge(scorer, sets)
            result["clues"] = study.world.shares(sets.histories, [own for a in answers for own in a.thoughts or []])
        written = [t for answer in answers for own in answer.thoughts or [] for t in own.values()]
        result |= {
            "about": study.arms[arm]["about"],
            "seconds": rows[-1]["seconds"],
            "pairs_per_second": sets.items_BN.size / spent,
            "tokens_per_pair": sum(len(thought.ids) for thought in written) / sets.items_BN.size,
            "rewards": [
                {key: row[key] for key in ("step", "reward", "thought_tokens", "thought_deviation") if key in row}
                for row in rows
                if "reward" in row
            ],
            "validations": [
                {key: row[key] for key in row if key == "step" or key.startswith("valid")}
                for row in rows
                if "valid_ndcg@10" in row
            ],
            "thoughts": {"before": shown[0]["thoughts"], "after": shown[-1]["thoughts"]} if len(shown) > 1 else {},
        }
    return {**result, "ranks": found}


def baselines(study: Study, sets: CandidateSets, seed: int) -> dict[str, list[int]]:
    """Random order, and what knows ids only."""
    fitted = {
        "popularity": Popularity().fit(study.split),
        "item-kNN": ItemKNN().fit(study.split),
        "EASE": EASE().fit(study.split),
        "SASRec": SASRec(SasrecOptions(seed=seed)).fit(study.split, progress=console_progress),
    }
    found = {"random": candidate_ranks(random_scores(sets, seed), sets).tolist()}
    return found | {name: judge(from_catalogue(model.scores), sets) for name, model in fitted.items()}


def zero_shot(study: Study, sets: CandidateSets) -> tuple[dict[str, list[int]], list[dict[str, Any]]]:
    """The yes or no of each pair, the list prompt in the order given, and what five other orders make of it."""
    config = study.settings({"model": {"thinks": False, "readout": "yes_no"}}).model
    base = load_backbone(config.backbone, dtype=config.dtype)
    catalogue = with_popularity(study.split)
    asked, pairs = ListPrompt(base, catalogue, config.prompt), R2Rank.create(config, catalogue, backbone=base)
    found = {"yes or no": judge(pairs.candidate_scores, sets), "list prompt": judge(asked.candidate_scores, sets)}
    shown = [sets.shuffled(seed) for seed in range(5)]
    rows = []
    for system, scorer in (("list prompt", asked.candidate_scores), ("yes or no", pairs.candidate_scores)):
        scores = [scorer(own.histories, own.items_BN) for own in shown]
        bias = position_bias(scores, shown)
        rows += bias.rows(sets.samples.users, dataset=study.split.dataset.name, split="test", system=system)
    return found, [row.model_dump(mode="json") for row in rows]


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, Study, run_arm)
