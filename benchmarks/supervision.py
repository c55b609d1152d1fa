"""Training examples per second: every prefix in one pass against one prompt per example.

Both train the thinkrank model on MovieLens-100K with SmolLM2 under the same loss (full-catalogue softmax); they differ
in how many predictions a forward pass carries. Before anything is timed, the two are checked to compute the same: the
score of the last event of a stretch must not depend on whether the other prefixes were read out too.
"""

import tempfile
import time
from pathlib import Path

import torch

from _figures import parser, tell
from thinkrank.data import Split, load_dataset, split_dataset
from thinkrank.recipes.presets import Preset, preset
from thinkrank.retrieve import R2ec
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.examples import Stretch
from thinkrank.training import Run


def trainer_with(model: R2ec, split: Split, supervision: str, folder: Path) -> ContrastiveTrainer:
    options = preset(Preset.thinkrank)[1]
    changes = {"supervision": supervision, "validation_samples": 1, "batch_size": 4, "thought_share": 0.0}
    return ContrastiveTrainer(model, split, options.model_copy(update=changes), Run(folder / supervision, {}, {}))


def check_equal(one: ContrastiveTrainer, other: ContrastiveTrainer) -> float:
    """Largest difference of the closing's cosines between the two renderings of the same stretches."""
    stretches = [Stretch(i, 0, 12) for i in range(4) if len(one.histories[i]) >= 12]
    vectors = []
    for trainer in (one, other):
        batch = trainer.render(stretches)
        with torch.no_grad():
            _, states = trainer.states(batch)
            users = trainer.model.head.user_vectors(trainer.readouts(batch, states), batch.is_line_P)[~batch.is_line_P]
            vectors.append(users @ trainer.model.vectors.rows_ID.T)
    return float((vectors[0] - vectors[1]).abs().max())


def examples_per_second(trainer: ContrastiveTrainer, steps: int) -> float:
    trainer.step()  # warm-up
    examples, started = trainer.counters.examples, time.perf_counter()
    for _ in range(steps):
        trainer.step()
    return (trainer.counters.examples - examples) / (time.perf_counter() - started)


def main() -> None:
    arguments = parser(__doc__, quick="fewer updates").parse_args()
    split = split_dataset(load_dataset("movielens-100k"))
    model_config = preset(Preset.thinkrank, noun="movie")[0]
    model = R2ec.create(model_config, split.dataset.catalogue)
    with tempfile.TemporaryDirectory() as folder:
        every = trainer_with(model, split, "every_prefix", Path(folder))
        last = trainer_with(model, split, "last", Path(folder))
        every.prepare()
        difference = check_equal(every, last)
        assert difference < 0.02, f"the two compute different things: {difference}"
        steps = 4 if arguments.quick else 12
        rates = [(examples_per_second(every, steps), examples_per_second(last, steps)) for _ in range(2)]
    best_every, best_last = max(rate for rate, _ in rates), max(rate for _, rate in rates)
    figures = {
        "cosine_max_abs_difference": difference,
        "every_prefix_examples_per_second": best_every,
        "last_examples_per_second": best_last,
        "supervision_speedup": best_every / best_last,
    }
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
