"""Contrastive training: R²ec without its reasoning.

It is the paper's no-reasoning ablation (section 4.3) and the warm start of RecPO. The batch order, the weights and the
log are functions of the configuration and the seed, so a run killed at any moment and started again ends with the same
weights, bit for bit on one CPU process.

Shape legend: P readouts of a batch, I items of the catalogue, N candidate items, D width.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Forest, Packing, packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.policy import ndcg_reward
from thinkrank.retrieve.config import ContrastiveOptions
from thinkrank.retrieve.encoder import read_last
from thinkrank.retrieve.examples import Batch, Stretch, build_batch, endless_batches
from thinkrank.retrieve.losses import contrastive_loss
from thinkrank.retrieve.model import R2ec
from thinkrank.stages import mask_seen, target_ranks
from thinkrank.training import (
    Progress,
    Run,
    latest_checkpoint,
    load_optimizer_tensors,
    no_progress,
    optimizer_tensors,
    warmup_factor,
    write_checkpoint,
)

_CENTRING_BATCHES = 8
_TABLE = "table"

logger = logging.getLogger(__name__)


@dataclass
class _Counters:
    """What a resumed run must remember beside its tensors."""

    step: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_ndcg: float = -1.0
    best_step: int = 0
    validations_since_best: int = 0
    stopped: str = ""


@dataclass
class ContrastiveFit:
    """One fit in progress: the paper's training loop as `step`, `validate`, `save`."""

    model: R2ec
    split: Split
    options: ContrastiveOptions
    run: Run
    counters: _Counters = field(default_factory=_Counters)

    def __post_init__(self) -> None:
        if not len(self.split.train):
            raise ThinkrankError("the split has no training samples")
        self.histories = self.split.train_histories()
        self.validation = self.split.valid.subset(self.options.validation_samples, self.options.seed)
        head = self.model.head
        self.adapter = list(adapter_state(self.model.backbone).values())
        head_parameters = [p for p in head.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": self.adapter, "lr": self.options.learning_rate, "weight_decay": self.options.weight_decay}
        ]
        if head_parameters:
            groups.append({"params": head_parameters, "lr": self.options.head_learning_rate, "weight_decay": 0.0})
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self.best: dict[str, Tensor] = {}

    def start(self) -> None:
        """Continue from the newest checkpoint, or prepare a fresh model."""
        checkpoint = latest_checkpoint(self.run.checkpoints)
        if checkpoint is None:
            self._prepare()
            self.run.rewind(-1)
            self.validate()
            return
        _set_weights(self.model, _under("now/", checkpoint.tensors))
        self.best = _under("best/", checkpoint.tensors)
        load_optimizer_tensors(self.optimizer, checkpoint.tensors)
        torch.set_rng_state(checkpoint.tensors["torch_rng"])
        self.counters = _Counters(**checkpoint.state)
        self.run.rewind(checkpoint.step)

    def _prepare(self) -> None:
        """Fix what is decided before the first update: origins, first biases, which items may have a residual."""
        model = self.model
        torch.manual_seed(self.options.seed)
        events = np.concatenate([history.items for history in self.histories])
        counts = np.bincount(events, minlength=len(model.catalogue))
        model.head.prepare(torch.from_numpy(counts).to(model.backbone.device))
        if model.config.head.centred:
            batches = [self._render(batch) for batch in islice(self.batches(), _CENTRING_BATCHES)]
            with torch.no_grad():
                states = torch.cat([self._readouts(batch) for batch in batches])
            is_line = torch.cat([batch.is_line_P for batch in batches]).to(states.device)
            model.head.center_on(states, is_line, model.table_ID)

    def batches(self) -> Iterator[list[Stretch]]:
        """The batches that are still to come."""
        return endless_batches(
            self.histories,
            self.options,
            window=self.model.config.prompt.history_window,
            skip=self.counters.step * self.options.accumulate,
        )

    def step(self, batches: Iterator[list[Stretch]]) -> None:
        """Make one update: `accumulate` forward-backward passes weighted by their readouts, clip, step."""
        options, counters = self.options, self.counters
        started = time.perf_counter()
        factor = warmup_factor(
            counters.step, warmup_steps=options.warmup_steps, total_steps=options.steps, decay=options.schedule
        )
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        rendered = [self._render(next(batches)) for _ in range(options.accumulate)]
        total = sum(len(batch.targets_P) for batch in rendered)
        loss = 0.0
        self.model.backbone.model.train()
        for batch in rendered:
            part = self._loss(batch) * (len(batch.targets_P) / total)
            part.backward()
            loss += part.item()
        self.model.backbone.model.eval()
        norm = torch.nn.utils.clip_grad_norm_(self.adapter, options.grad_clip).item()
        self.optimizer.step()
        self.optimizer.zero_grad()
        counters.step += 1
        counters.examples += total
        counters.tokens += sum(len(ids) for batch in rendered for ids in batch.sequences)
        counters.seconds += time.perf_counter() - started
        self._log(loss=loss, gradient_norm=norm, learning_rate=self.rates[0] * factor)

    def _render(self, stretches: list[Stretch]) -> Batch:
        return build_batch(self.model.prompts, self.histories, stretches, self.options)

    def _readouts(self, batch: Batch) -> Float[Tensor, "P D"]:
        """The states that predict, in one differentiable pass."""
        backbone = self.model.backbone
        packing = Packing(Forest.rows(batch.sequences), backbone.device)
        offsets_B = torch.tensor([packing.offsets[row] for row in range(len(batch.sequences))])
        return packed_states(backbone, packing)[(offsets_B[batch.rows_P] + batch.columns_P).to(backbone.device)]

    def _loss(self, batch: Batch) -> Float[Tensor, ""]:
        model, device = self.model, self.model.backbone.device
        users_PD = model.head.user_vectors(self._readouts(batch), batch.is_line_P.to(device))
        targets_P, seen_PI = batch.targets_P.to(device), batch.seen_PI.to(device)
        if self.options.negatives == "in_batch":
            items_N, columns_P = targets_P.unique(return_inverse=True)  # one column per item masks duplicate targets
            items_ND = model.head.item_vectors(self._encode_live(items_N), items_N)
            return contrastive_loss(model.head.scores(users_PD, items_ND, items_N), columns_P, seen_PI[:, items_N])
        table_ID = model.table_ID
        if self.options.live_items:
            distinct_N = targets_P.unique()
            drawn = torch.randperm(len(distinct_N))[: self.options.live_items]  # of the generator a checkpoint keeps
            live_N = distinct_N[drawn.sort().values.to(device)]
            table_ID = table_ID.index_copy(0, live_N, self._encode_live(live_N))
        scores_PI = model.head.scores(users_PD, model.head.item_vectors(table_ID))
        return contrastive_loss(scores_PI, targets_P, seen_PI)

    def _encode_live(self, items_N: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """Text states with gradient; the table takes over their values, so its rows stay as fresh as can be."""
        states_ND = read_last(self.model.backbone, [self.model.prompts.item(row) for row in items_N.tolist()])
        self.model.table_ID = self.model.table_ID.index_copy(0, items_N, states_ND.detach())
        return states_ND

    def refresh(self) -> None:
        """Encode the whole item table under the present weights."""
        started = time.perf_counter()
        self.model.refresh_table()
        self.counters.seconds += time.perf_counter() - started

    def validate(self) -> None:
        """Measure NDCG@10 and Hit@10 on the validation subset and keep the best weights."""
        if not len(self.validation):
            return
        started = time.perf_counter()
        ranks = torch.from_numpy(validation_ranks(self.model, self.validation))
        ndcg = ndcg_reward(ranks, 10).mean().item()
        counters = self.counters
        if ndcg > counters.best_ndcg:
            counters.best_ndcg, counters.best_step, counters.validations_since_best = ndcg, counters.step, 0
            self.best = {name: tensor.clone() for name, tensor in _weights(self.model).items()}
        else:
            counters.validations_since_best += 1
        counters.seconds += time.perf_counter() - started
        self._log(**{"valid_ndcg@10": ndcg, "valid_hit@10": (ranks <= 10).float().mean().item()})
        if self.options.patience is not None and counters.validations_since_best >= self.options.patience:
            counters.stopped = f"no better validation in {self.options.patience} tries"

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {
            **{f"now/{name}": tensor for name, tensor in _weights(self.model).items()},
            **{f"best/{name}": tensor for name, tensor in self.best.items()},
            **optimizer_tensors(self.optimizer),
            "torch_rng": torch.get_rng_state(),
        }
        write_checkpoint(self.run.checkpoints, self.counters.step, tensors, vars(self.counters))

    def finish(self) -> None:
        """Put the best validated weights into the model, unless the last ones are to be kept."""
        if self.best and self.options.keep == "best":
            _set_weights(self.model, self.best)

    def _log(self, **values: float) -> None:
        counters = self.counters
        self.run.log(
            {
                "step": counters.step,
                "examples": counters.examples,
                "tokens": counters.tokens,
                "seconds": round(counters.seconds, 3),
                "temperature": self.model.head.log_temperature.exp().item(),
                **values,
            }
        )


def fit_contrastive(
    model: R2ec, split: Split, options: ContrastiveOptions, run: Run, *, progress: Progress = no_progress
) -> Run:
    """Train a model in place, resuming from the run's folder if it holds a checkpoint.

    Args:
        model: an untrained model; afterwards it holds the weights of the best validation (or the last: `keep`).
        split: train and valid parts are used, test is not touched.
        options: how to train.
        run: the folder for checkpoints and the log.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    fit = ContrastiveFit(model, split, options, run)
    fit.start()
    counters, batches = fit.counters, fit.batches()
    with progress("training", options.steps) as advance:
        advance(counters.step)
        while counters.step < options.steps and not counters.stopped:
            fit.step(batches)
            if options.max_minutes is not None and counters.seconds > 60 * options.max_minutes:
                counters.stopped = f"{options.max_minutes:g} minutes are over"
            last = counters.step == options.steps or bool(counters.stopped)
            validate = last or counters.step % options.validate_every == 0
            if validate or counters.step % options.refresh_every == 0:
                fit.refresh()
            if validate:
                fit.validate()
            if last or counters.stopped or counters.step % options.checkpoint_every == 0:
                fit.save()
            rate = counters.examples / counters.seconds
            advance(1, note=f"{rate:.0f} examples/s, best NDCG@10 {counters.best_ndcg:.4f}")
    if counters.stopped:
        logger.warning("training stopped after %d of %d updates: %s", counters.step, options.steps, counters.stopped)
    fit.finish()
    return run


def validation_ranks(model: R2ec, samples: Samples, *, batch_size: int = 64) -> Int64[np.ndarray, "S"]:
    """1-based rank of each sample's target over the whole catalogue, seen items left out."""
    histories, ranks = samples.histories(), []
    for start in range(0, len(histories), batch_size):
        part = slice(start, start + batch_size)
        scores_BI = mask_seen(model.scores(histories[part]), histories[part])
        ranks.append(target_ranks(scores_BI, samples.targets[part]))
    return np.concatenate(ranks)


def _weights(model: R2ec) -> dict[str, Tensor]:
    """Everything training changes, as live tensors."""
    adapter = {f"adapter/{name}": tensor.detach() for name, tensor in adapter_state(model.backbone).items()}
    head = {f"head/{name}": tensor.detach() for name, tensor in model.head.state_dict().items()}
    return {**adapter, **head, _TABLE: model.table_ID}


def _set_weights(model: R2ec, tensors: dict[str, Tensor]) -> None:
    """Copy what `_weights` returned back into the model."""
    with torch.no_grad():
        for name, tensor in _weights(model).items():
            if name == _TABLE:
                model.table_ID = tensors[name].clone().to(tensor.device)
            else:
                tensor.copy_(tensors[name])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
