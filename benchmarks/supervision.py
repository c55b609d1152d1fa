"""Training examples per second: one prompt per example, every prefix of a prompt, and one position per item.

All train R²ec on MovieLens-100K, or with `--path` on a shop, with SmolLM2 under the same loss (full-catalogue softmax).
With one prompt per example and with every prefix the model is the same, and they are checked to compute the same before
anything is timed: what is read at a closing must not depend on whether the other prefixes were read out too. The late
reader is another model: the layers below its adapter read each title once, and a history is one position per item. What
its predictions are worth beside those of the prompts of titles after equally long training stands beside its speed.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from _figures import parser, tell
from thinkrank.data import Split, load_dataset, split_dataset
from thinkrank.prompts.options import PromptOptions
from thinkrank.recipes.presets import Preset, preset
from thinkrank.retrieve import ContrastiveOptions, R2ec, R2ecConfig
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.examples import Batch, Stretch
from thinkrank.training import Run, UnsavedRun, train

LATE = {"prompt": PromptOptions(noun="movie", history_window=32)}
REFRESHED = 0.85
"""Share of the time that is left for updates beside what they have not when they are timed: refreshes of the table."""
LATE_TRAINING = {"batch_size": 8, "learning_rate": 1e-3, "head_learning_rate": 5e-3, "refresh_every": 300}


def trainer_with(model: R2ec, split: Split, supervision: str, folder: Path) -> ContrastiveTrainer:
    changes = {"supervision": supervision, "validation_samples": 1, "batch_size": 4, "thought_share": 0.0}
    return ContrastiveTrainer(model, split, options_of(**changes), Run(folder / supervision, {}, {}))


def options_of(**changes: Any) -> ContrastiveOptions:
    return preset(Preset.thoughts)[1].model_copy(update=changes)


def check_equal(one: ContrastiveTrainer, other: ContrastiveTrainer) -> float:
    """Largest difference of the closing's cosines between the two renderings of the same history."""
    differences = []
    for number in range(4):
        batch = one.render([Stretch(number, 0, min(12, len(one.histories[number])))])
        (closing,) = [readout for readout in batch.readouts if not readout.is_line]
        alone = other.render([Stretch(number, 0, closing.target + 1)])
        pair = zip((one, other), (batch, alone), (batch.readouts.index(closing), 0), strict=True)
        one_I, other_I = (cosines(trainer, which)[place] for trainer, which, place in pair)
        differences.append(float((one_I - other_I).abs().max()))
    return max(differences)


@torch.no_grad()
def cosines(trainer: ContrastiveTrainer, batch: Batch) -> torch.Tensor:
    """Compare every readout with the whole catalogue."""
    with trainer.model.backbone.exact():  # bf16 states depend on what is read beside them
        states_PD = trainer.readouts(batch, *trainer.states(batch))
    users_PD = trainer.model.head.user_vectors(states_PD, batch.is_line_P)
    return users_PD @ trainer.model.vectors.rows_ID.T


def quality(config: R2ecConfig, split: Split, minutes: float, updates_per_second: float, **changes: Any) -> float:
    """NDCG@10 on 500 validation samples after about so many minutes of one core, titles and table read within them.

    The rate falls to its end over as many updates as fit, at the pace that was measured.
    """
    started = time.process_time()
    model = R2ec.create(config, split.dataset.catalogue)
    left = max(3, 60 * minutes - (time.process_time() - started))
    steps = max(1, int(left * updates_per_second * REFRESHED))
    plan = {"steps": steps, "schedule": "linear", "validation_samples": 500, "keep": "last"}
    plan |= {"validate_every": steps, "checkpoint_every": steps, "thought_share": 0.0}
    trainer = ContrastiveTrainer(model, split, options_of(**plan, **changes), UnsavedRun())
    trainer.validates_first = False
    train(trainer)
    print(
        f"{steps} updates of {changes.get('batch_size', 4)} took {time.process_time() - started:.0f} s, validation too"
    )
    return float(trainer.run.metrics()[-1]["valid_ndcg@10"])


def rates(trainer: ContrastiveTrainer, steps: int) -> tuple[float, float]:
    """Examples and updates per second of processor time, which other work on the machine does not change much."""
    trainer.step()  # warm-up
    examples, started = trainer.counters.examples, time.process_time()
    for _ in range(steps):
        trainer.step()
    seconds = time.process_time() - started
    return (trainer.counters.examples - examples) / seconds, steps / seconds


def main() -> None:
    options = parser(__doc__, quick="fewer updates")
    options.add_argument("--minutes", type=float, default=0.0, help="also train each reader so long, and validate it")
    options.add_argument("--path", help="folder of an Amazon 2018 category to measure on, whose titles are long")
    arguments = options.parse_args()
    films = arguments.path is None
    data = load_dataset("movielens-100k") if films else load_dataset("amazon-2018", path=arguments.path)
    split = split_dataset(data, ties="before")
    model_config = preset(Preset.thoughts, noun="movie" if films else "product")[0]
    model = R2ec.create(model_config, split.dataset.catalogue)
    with tempfile.TemporaryDirectory() as folder:
        every = trainer_with(model, split, "every_prefix", Path(folder))
        late_config = preset(Preset.thinkrank)[0].model_copy(update=LATE)
        late_model = R2ec.create(late_config, split.dataset.catalogue)
        late = ContrastiveTrainer(late_model, split, options_of(thought_share=0.0, **LATE_TRAINING), UnsavedRun())
        late.prepare()
        last = trainer_with(model, split, "last", Path(folder))
        every.prepare()
        difference = check_equal(every, last)
        assert difference < 1e-3, f"the two compute different things: {difference}"
        steps = 4 if arguments.quick else 12
        rounds = [[rates(trainer, steps) for trainer in (every, last, late)] for _ in range(2)]
    (best_every, pace), (best_last, _), (best_late, late_pace) = (max(of_one) for of_one in zip(*rounds, strict=True))
    figures = {
        "cosine_max_abs_difference": difference,
        "every_prefix_examples_per_second": best_every,
        "last_examples_per_second": best_last,
        "late_examples_per_second": best_late,
        "supervision_speedup": best_every / best_last,
        "late_reader_speedup": best_late / best_every,
    }
    if arguments.minutes:
        figures["minutes_of_training"] = arguments.minutes
        figures["every_prefix_ndcg@10"] = quality(model_config, split, arguments.minutes, pace)
        figures["late_ndcg@10"] = quality(late_config, split, arguments.minutes, late_pace, **LATE_TRAINING)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
