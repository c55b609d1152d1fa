"""Run one arm of the study of latent positions with one seed, or all that are missing, and write the outcome as JSON.

    python studies/latent/study.py studies/latent/movielens-100k.toml --arm "latent 2" --seed 0

A study is a settings file of `thinkrank train retrieve` with a table `[study]`, which says which seeds and how many
test samples (all without a number); its arms stand in arms.toml. R²ec is trained from scratch, alone, and judged in
several modes: `answer` as it is configured; `at the item`, where the latent positions of the same weights are not read;
`mean of steps`; and, where states are fed back, `another's states`, those of another user. The log-likelihood of each
target is kept too, in nats, over the items that the history does not hold. A result file that is there is left alone.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data import Samples, Split
from thinkrank.language.latent import answered
from thinkrank.recipes import retrieval
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.retrieval import RetrieveSettings, retrieve_settings
from thinkrank.recipes.running import train
from thinkrank.recipes.studies import Study, kept_of
from thinkrank.retrieve import R2ec

RESULTS = Path(__file__).parent / "results"
BATCH = 64
sys.path.append(str(Path(__file__).parents[1]))  # what studies share


class LatentStudy(Study):
    """A study of latent positions behind the late reader."""

    group = "latent"
    split: Split

    @property
    def always(self) -> tuple[str, ...]:
        """Name no arm without settings."""
        return ()

    def settings(self, over: dict[str, Any]) -> RetrieveSettings:
        """Lay others over the common settings; the reader is trained alone."""
        return retrieve_settings(Preset.thinkrank, Layers(tables=[self.tables, over, {"crowd": []}]))

    def arm(self, name: str, seed: int) -> RetrieveSettings:
        """Return the settings with a seed, fitted to the data's size."""
        over = {key: self.arms[name][key] for key in ("model", "training") if key in self.arms[name]}
        over["training"] = {**over.get("training", {}), "seed": seed}
        return retrieval.RECIPE.sized(self.settings(over), self.split)

    def samples(self) -> Samples:
        """Return what every arm is judged on: all test samples, or as many as the study says."""
        test, samples = self.split.test, self.options.get("samples")
        return test if samples is None else test.subset(samples, seed=0)

    def users(self) -> list[int]:
        """Tell whose each sample is."""
        return self.samples().users.tolist()

    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm."""
        settings = self.arm(name, seed)
        folder = self.folder / f"{name.replace(' ', '-')}-{seed}"
        run, reader = train(retrieval.RECIPE, settings, folder, split=self.split, progress=self.progress)
        rows = run.metrics()
        judged = self.judged(reader)
        return {
            "about": self.arms[name]["about"],
            "seconds": rows[-1]["seconds"],
            "predictions": rows[-1]["examples"],
            "positions": rows[-1]["tokens"] + settings.model.latent.steps * rows[-1]["examples"],
            "kept_step": kept_of(rows, settings.training.keep),
            "ranks": {mode: ranks for mode, (ranks, _) in judged.items()},
            "values": {mode: {"log-likelihood": values} for mode, (_, values) in judged.items()},
        }

    def judged(self, reader: R2ec) -> dict[str, tuple[list[int], list[float]]]:
        """Return the places and log-likelihoods of the test targets in each mode."""
        samples = self.samples()
        found: dict[str, tuple[list[int], list[float]]] = {}
        for part, requests in samples.requests().batches(BATCH):
            targets_B = torch.from_numpy(samples.targets[part]).long().to(reader.backbone.device)
            seen = None if samples.dataset.repeats else [history.items for history in requests.histories]
            for mode, users_BD in modes(reader, requests.histories):
                ranks, values = found.setdefault(mode, ([], []))
                ranks += reader.vectors.target_ranks(users_BD, targets_B, exclude=seen).tolist()
                scores_B = reader.vectors.scores_of(users_BD, targets_B[:, None])[:, 0]
                values += (scores_B - reader.vectors.log_normaliser(users_BD, exclude=seen)).tolist()
        return found


@torch.no_grad()
def modes(reader: R2ec, histories: Any) -> Iterator[tuple[str, Float[Tensor, "B D"]]]:
    """Read users in each mode; `answer` is what the model answers from."""
    yield "answer", reader.users_after(histories, None)
    if reader.latents is None:
        return
    users_BSD = reader.user_steps(histories)
    yield "at the item", users_BSD[:, 0]
    yield "mean of steps", answered(users_BSD, "mean")
    if reader.latents.feedback == "state":
        others_BSD = reader.user_steps(histories, exchanged=len(histories) > 1)
        yield "another's states", answered(others_BSD, reader.config.latent.answer)


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, LatentStudy)
