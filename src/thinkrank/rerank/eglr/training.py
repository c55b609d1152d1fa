"""One door to the trainings of EGLR."""

from thinkrank.data.impressions import ImpressionSplit
from thinkrank.rerank.eglr.expert import ExpertTrainer
from thinkrank.rerank.eglr.grpo import GrpoTrainer
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.options import (
    EvaluatorTrainerOptions,
    ExpertOptions,
    GrpoOptions,
    WarmStartOptions,
)
from thinkrank.rerank.eglr.supervised import EvaluatorTrainer, WarmStartTrainer
from thinkrank.training import Progress, Run, no_progress, train


def train_eglr(
    model: EGLR,
    split: ImpressionSplit,
    options: EvaluatorTrainerOptions | WarmStartOptions | ExpertOptions | GrpoOptions,
    run: Run,
    *,
    progress: Progress = no_progress,
) -> Run:
    """Train a part of EGLR in place, resuming what the run's folder holds.

    The order is: the evaluator, the warm start of the generator, expert iteration, reinforcement.

    Args:
        model: what is trained.
        split: train and valid parts are used, test is not touched.
        options: how to train; their kind says which part.
        run: the folder for checkpoints and the log.
        progress: how to show the steps.

    Raises:
        ThinkrankError: if the lists have other columns than the model's, a part has no lists, or, for reinforcement,
            the evaluator may not be trusted.
    """
    match options:
        case EvaluatorTrainerOptions():
            return train(EvaluatorTrainer(model, split, options, run), progress)
        case WarmStartOptions():
            return train(WarmStartTrainer(model, split, options, run), progress)
        case ExpertOptions():
            return train(ExpertTrainer(model, split, options, run), progress)
        case GrpoOptions():
            return train(GrpoTrainer(model, split, options, run), progress)
