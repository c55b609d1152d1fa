"""The cold start: learn to write given thoughts, and to score behind them.

Confirmed by the paper's readers: supervised fine-tuning on traces that passed a self-check comes before reinforcement.
The loss is reconstructed: cross-entropy of the trace's tokens, and for the head the log-likelihood of the positive
standing first under Plackett-Luce, which is the softmax over its list. Without traces this is the training of a ranker
that does not think, and with readout `yes_no` and loss `pointwise` the usual fine-tuning on yes and no.

Shape legend: R trajectories, S the end of an answer and the latent positions behind it, T tokens, N candidates
of a group, D width, C numbers the head is given.
"""

import time
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from thinkrank.data.candidates import CandidateSets
from thinkrank.language import packed_states
from thinkrank.language.latent import likeness
from thinkrank.language.packing import batches
from thinkrank.language.trajectories import Trajectories, action_logprobs
from thinkrank.policy import pointwise_loss
from thinkrank.rank.r2rank.config import ColdStartOptions, ScoreLoss
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.rank.r2rank.model import R2Rank
from thinkrank.rank.r2rank.trainer import RankerTrainer
from thinkrank.training import Progress, Run, no_progress, train


class ColdStartTrainer(RankerTrainer[ColdStartOptions]):
    """Cold start in progress; a step is one update on some groups."""

    title, table = "cold start", "cold_start"

    def step(self) -> str:
        """Make one update: score the groups, write the traces, clip, step."""
        options, counters = self.options, self.counters
        started = time.perf_counter()
        rate = self.learning_rate()
        groups = [group for _, group in self.next_groups()]
        pairs = sum(len(group.rows) for group in groups)
        written = max(1, sum(len(trace.ids) for group in groups for trace in group.traces or ()))
        losses, tokens = {"loss": 0.0, "thought_loss": 0.0}, 0
        for part in self.passes(groups[self.world.share(len(groups))]):
            traces = None if part[0].traces is None else [[[trace] for trace in group.traces or ()] for group in part]
            histories, rows = [group.history for group in part], [group.rows for group in part]
            read = self.model.trajectories(histories, rows, traces, users=[group.user for group in part])
            states_TD = packed_states(self.model.backbone, read.packing)
            score_loss = self.score_loss(read, states_TD, [len(g.rows) for g in part])
            score_loss = score_loss / (pairs if options.loss == "pointwise" else len(groups))
            thought_loss = -action_logprobs(self.model.backbone, read, states_TD)[0].sum() / written
            (score_loss + options.thought_weight * thought_loss).backward()
            losses["loss"] += score_loss.item()
            losses["thought_loss"] += thought_loss.item()
            tokens += len(read.packing)
        if counters.step < options.prompt_steps:
            self.model.head.forget_answers()
        if self.model.latents is not None and counters.step < self.model.config.latent.alone_steps:
            self.learn_alone(self.model.latents.parameters())
        norm = self.update()
        losses = self.world.sums(losses)
        counters.step += 1
        counters.tokens += self.world.total(tokens)
        counters.examples += pairs
        counters.seconds += time.perf_counter() - started
        self.log(**losses, gradient_norm=norm, learning_rate=rate)
        return f"{counters.examples / counters.seconds:.1f} pairs/s, loss {losses['loss']:.3f}"

    def score_loss(
        self, read: Trajectories, states_TD: Float[Tensor, "T D"], sizes: Sequence[int]
    ) -> Float[Tensor, ""]:
        """Sum the losses of the scores at the end of each answer and at each latent position behind it."""
        model, latent = self.model, self.model.config.latent
        if model.latents is None:
            return score_losses(model.read_scores(read, states_TD), sizes, self.options.loss)
        states_RSC = model.read_states(read, states_TD, pool=model.config.head.pool)
        steps = zip(latent.weights(), latent.softenings(), model.head(states_RSC).unbind(dim=1), strict=True)
        losses = [weight * score_losses(scores_R / soft, sizes, self.options.loss) for weight, soft, scores_R in steps]
        if latent.repulsion:
            shown_RSC = functional.normalize(model.head.standardised(states_RSC), dim=-1)
            losses.append(latent.repulsion * likeness(shown_RSC).sum())
        return torch.stack(losses).sum()

    def passes(self, groups: Sequence[TrainingGroup]) -> Iterator[Sequence[TrainingGroup]]:
        """Cut the groups of a step into runs that fit one pass."""
        prompts = self.model.prompts
        lengths = [
            len(prompts.prefix(group.history))
            + sum(map(len, prompts.candidates(group.history, group.rows, user=group.user)))
            + sum(len(trace.ids) for trace in group.traces or ())
            for group in groups
        ]
        return (groups[part] for part in batches(lengths, self.options.batch_tokens))


def score_losses(scores_R: Float[Tensor, "R"], sizes: Sequence[int], loss: ScoreLoss) -> Float[Tensor, ""]:
    """Sum the losses of groups, or of pairs.

    Args:
        scores_R: group by group, the positive first in each.
        sizes: of the groups.
        loss: `list` is the negative log-likelihood of the positive standing first under Plackett-Luce, `pointwise` the
            cross-entropy of each pair.
    """
    if loss == "list":
        groups = scores_R.split(list(sizes))
        return torch.stack([scores_N.logsumexp(dim=0) - scores_N[0] for scores_N in groups]).sum()
    gains_R = torch.cat([torch.arange(size, device=scores_R.device) == 0 for size in sizes]).float()
    return len(scores_R) * pointwise_loss(scores_R[None, None], gains_R[None])


def train_cold_start(
    model: R2Rank,
    groups: Sequence[TrainingGroup],
    validation: CandidateSets | None,
    options: ColdStartOptions,
    run: Run,
    *,
    progress: Progress = no_progress,
) -> Run:
    """Train a model in place on given groups, resuming from the run's folder if it holds a checkpoint.

    Args:
        model: untrained; afterwards it holds the weights of the best validation (or the last: `keep`).
        groups: with traces if the model thinks.
        validation: candidate sets to measure on; None for none.
        options: how to train.
        run: the folder for checkpoints and the log.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    return train(ColdStartTrainer(model, groups, validation, options, run), progress)
