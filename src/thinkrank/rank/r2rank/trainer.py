"""What every training of R2Rank shares: which groups come next, an untrained head's measure, and validation.

Shape legend: B candidate sets, N candidates.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from thinkrank.data.candidates import CandidateSets
from thinkrank.data.sample_stream import EpochOrder
from thinkrank.errors import ThinkrankError
from thinkrank.language import Completion, packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.metrics import hit, ndcg, reciprocal_rank, relevance_from_ranks, ties_from_ranks
from thinkrank.rank.r2rank.config import RankerTrainerOptions
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.rank.r2rank.model import R2Rank
from thinkrank.stages.order import target_ranks
from thinkrank.training import AdapterTrainer, Run
from thinkrank.training.rehearsal import seconds_of

_STANDARDISING_GROUPS = 16
_REHEARSED = 4
"""Sets on which the cost of a validation is measured."""
_SHOWN_THOUGHTS = 20
_VALIDATED_TOGETHER = 16

OptionsT = TypeVar("OptionsT", bound=RankerTrainerOptions)


class RankerTrainer(AdapterTrainer[OptionsT]):
    """Training of R2Rank in progress; `table` is what its settings are called.

    Args:
        model: trained in place.
        groups: what is trained on.
        validation: candidate sets that choose the best weights; None measures nothing.
        options: how to train.
        run: the folder for checkpoints and the log.
    """

    table: str

    def __init__(
        self,
        model: R2Rank,
        groups: Sequence[TrainingGroup],
        validation: CandidateSets | None,
        options: OptionsT,
        run: Run,
    ) -> None:
        if not len(groups):
            raise ThinkrankError("there are no lists to train on: give at least one group")
        adapter, head = [*adapter_state(model.backbone).values()], [*model.head.parameters()]
        if model.latents is not None:
            adapter, head = [*adapter, *model.latents.maps], [*head, model.latents.vectors_KD]
        super().__init__(adapter, head, options, run)
        self.world.required(options.users, f"{self.table}.users")
        self.model, self.groups, self.validation = model, groups, validation
        self.validation_size = 0 if validation is None else len(validation)
        self._order = EpochOrder(len(groups), options.seed)

    def rehearse_validation(self) -> tuple[int, float]:
        """Measure on the first sets."""
        whole = self.validation_size
        self.validation_size = min(_REHEARSED, whole)
        seconds = seconds_of(self.measure) / max(1, self.validation_size)
        self.validation_size = whole
        return whole, seconds

    def weights(self) -> dict[str, Tensor]:
        """Return adapter and head."""
        adapter = {f"adapter/{name}": tensor.detach() for name, tensor in adapter_state(self.model.backbone).items()}
        head = {f"head/{name}": tensor.detach() for name, tensor in self.model.head.state_dict().items()}
        return adapter | head | ({} if self.model.latents is None else self.model.latents.state_dict(prefix="latent/"))

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back into the model."""
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(tensors[name])

    def prepare(self) -> None:
        """Standardise an untrained head by the states that the untrained model has at the ends of some pairs."""
        model = self.model
        if model.head.is_prepared:
            return
        shown = [self.groups[self._order.index(draw)] for draw in range(min(_STANDARDISING_GROUPS, len(self.groups)))]
        states = []
        for group in shown:
            traces = None if group.traces is None else [[[trace] for trace in group.traces]]
            pairs = model.trajectories([group.history], [group.rows], traces, users=[group.user])
            with torch.no_grad():
                states.append(model.read_states(pairs, packed_states(model.backbone, pairs.packing)))
        model.head.standardise(torch.cat(states))

    def next_groups(self) -> list[tuple[int, TrainingGroup]]:
        """Take the groups of this step, each with its number in the order of draws."""
        start = self.counters.drawn
        self.counters.drawn += self.options.users
        return [(draw, self.groups[self._order.index(draw)]) for draw in range(start, self.counters.drawn)]

    def measure(self) -> dict[str, float]:
        """Measure NDCG@10, Hit@1 and the mean reciprocal rank on the validation sets, expected over ties."""
        sets = self.validation
        if sets is None:
            return {}
        width = sets.items_BN.shape[1]
        places, thoughts = [], []
        starts = range(0, self.validation_size, _VALIDATED_TOGETHER)
        mine = starts[self.world.share(len(starts))]
        for start in mine:
            part = slice(start, min(start + _VALIDATED_TOGETHER, self.validation_size))
            answer = self.model.answer(sets.histories[part], sets.items_BN[part])
            columns_B, missed_B = np.maximum(sets.positive_B[part], 0), sets.unreachable_B[part]
            targets_B1 = np.take_along_axis(answer.scores_BN, columns_B[:, None].astype(np.intp), axis=1)
            ranks_B = np.where(missed_B, width + 1, target_ranks(answer.scores_BN, columns_B))
            ties_B = np.where(missed_B, 0, np.count_nonzero(answer.scores_BN == targets_B1, axis=1) - 1)
            places.append(torch.from_numpy(np.stack([ranks_B, ties_B], axis=1).astype(np.int64)))
            thoughts += answer.thoughts or []
            self.validated(len(answer.scores_BN))
        ranks_B, ties_B = self.world.gather(torch.cat([torch.zeros(0, 2, dtype=torch.long), *places])).numpy().T
        relevance_BN = relevance_from_ranks(ranks_B, width + 1)
        tied_BN, found_B = ties_from_ranks(ranks_B, ties_B, width + 1), ranks_B <= width
        row = {
            "valid_ndcg@10": float((ndcg(relevance_BN, 10, tied_BN=tied_BN) * found_B).mean()),
            "valid_hit@1": float((hit(relevance_BN, 1, tied_BN=tied_BN) * found_B).mean()),
            "valid_mrr": float((reciprocal_rank(relevance_BN, tied_BN=tied_BN) * found_B).mean()),
        }
        if self.model.config.thinks:
            written = [thought for by_row in thoughts for thought in by_row.values()]
            tokens = self.world.total(sum(len(thought.ids) for thought in written))
            row["valid_thought_tokens"] = tokens / self.world.total(len(written))
            self._show(sets, dict(enumerate(thoughts, mine.start)), ranks_B.tolist())
        return row

    def _show(
        self, sets: CandidateSets, thoughts: Mapping[int, Mapping[int, Completion]], ranks: Sequence[int]
    ) -> None:
        """Keep some thoughts in the log, about positives and negatives in turn, to be compared with later ones.

        Args:
            sets: all of them.
            thoughts: of this process, by the number of the set.
            ranks: of all sets.
        """
        count = min(_SHOWN_THOUGHTS, len(ranks))
        shown = []
        for number, user in enumerate(i * len(ranks) // count for i in range(count)):
            positive, length = int(sets.positive_B[user]), int(sets.mask_BN[user].sum())
            if not length or user not in thoughts:
                continue
            column = positive if number % 2 == 0 and positive >= 0 else (positive + 1) % max(1, length)
            item = int(sets.items_BN[user, column])
            thought = thoughts[user][item]
            shown.append(
                {
                    "position": int(sets.samples.positions[user]),
                    "item": item,
                    "label": column == positive,
                    "text": thought.text.strip(),
                    "tokens": len(thought.ids),
                    "finish_reason": thought.finish_reason,
                    "rank": ranks[user],
                }
            )
        self.run.log({"step": self.counters.step, "thoughts": self.world.gathered(shown)})
