"""What the writer of thoughts knows of the next item, beside what the item head knows already.

A thought can tell the reader of an attribute only what the words of the model know of it. Where the item head, whose
scores imply a distribution over the attribute too, knows it better, no reward can select a forecast that helps: it is
not among the samples.

Shape legend: S samples, V values of an attribute, R = S V forecasts, T tokens.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data.history import History
from thinkrank.data.splits import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import PrefixTree, packed_states
from thinkrank.language.trajectories import Given, Trajectories, action_logprobs
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.writing import writing
from thinkrank.stages.order import mask_seen
from thinkrank.teachers.attributes import attribute_columns

_AT_ONCE = 8
"""Samples whose forecasts are scored in one pass."""


@dataclass(frozen=True)
class Knowledge:
    """Hold how well the target's attribute is known, in nats (lower is better) and as a share of first guesses.

    Attributes:
        attribute: the catalogue's column.
        values: how many of its values are told apart.
        samples: how many targets have one of them.
        writer_nats: of the words that the writer would write.
        reader_nats: of the distribution that the scores of items imply.
        prior_nats: of the values' shares of the training events.
        writer_first: share of targets whose value the writer finds likeliest.
        reader_first: the same of the reader.
    """

    attribute: str
    values: int
    samples: int
    writer_nats: float
    reader_nats: float
    prior_nats: float
    writer_first: float
    reader_first: float

    def __str__(self) -> str:
        """Say who knows more."""
        knows = "the words" if self.writer_nats < self.reader_nats else "the item head"
        return (
            f"{self.attribute} of the next item, {self.samples} samples: the writer's words "
            f"{self.writer_nats:.3f} nats (first in {self.writer_first:.1%}), the item head "
            f"{self.reader_nats:.3f} ({self.reader_first:.1%}), shares in training {self.prior_nats:.3f}: on these "
            f"samples {knows} put more on what was taken (not tested)"
        )


def compare_knowledge(
    model: R2ec, split: Split, samples: Samples, *, attribute: str | None = None, most: int = 64
) -> Knowledge:
    """Compare what the writer's words and the item head know of an attribute of the target.

    An item has the first of its values. Both distributions are over the same values, which sum to 1: the words' by
    the probability of writing a value and the closing as the whole thought, the item head's by summing its answer
    without a thought over the items of each value, those of the history left out unless items repeat.

    Args:
        model: with a prepared head.
        split: whose training events give the shares.
        samples: histories and targets, such as some of the validation part.
        attribute: a column of the catalogue; None for the first that says something.
        most: how many values, the most frequent ones.

    Raises:
        ThinkrankError: if there is no such attribute, or no target has a value.
    """
    columns = attribute_columns(model.catalogue)
    name = attribute or next(iter(columns), "")
    if name not in columns:
        known = ", ".join(columns) or "none"
        raise ThinkrankError(f"the catalogue has no attribute {name!r} that says something; it has: {known}")
    first_I = [values[0] if values else "" for values in columns[name]]
    counts: Counter[str] = Counter()
    for value, count in zip(first_I, split.train_counts.tolist(), strict=True):
        counts.update({value: count} if value and count else {})
    values = [value for value, _ in counts.most_common(most)]
    number = {value: v for v, value in enumerate(values)}
    value_I = torch.tensor([number.get(value, -1) for value in first_I])
    asked = samples.take(np.flatnonzero(value_I[torch.from_numpy(samples.targets.astype(np.int64))].numpy() >= 0))
    if not len(asked):
        raise ThinkrankError(f"no target of the samples has one of the {len(values)} most frequent values of {name!r}")
    target_S1 = value_I[torch.from_numpy(asked.targets.astype(np.int64))][:, None]
    written_SV = torch.cat(
        [written_values(model, asked[at : at + _AT_ONCE], values) for at in range(0, len(asked), _AT_ONCE)]
    )
    read_SV = implied_values(model, asked, value_I, len(values))
    prior_V = torch.tensor([counts[value] for value in values], dtype=torch.float64).log().log_softmax(0)
    return Knowledge(
        attribute=name,
        values=len(values),
        samples=len(asked),
        writer_nats=-written_SV.gather(1, target_S1).mean().item(),
        reader_nats=-read_SV.gather(1, target_S1).mean().item(),
        prior_nats=-prior_V[target_S1].mean().item(),
        writer_first=(written_SV.argmax(1, keepdim=True) == target_S1).double().mean().item(),
        reader_first=(read_SV.argmax(1, keepdim=True) == target_S1).double().mean().item(),
    )


@torch.no_grad()
def written_values(model: R2ec, samples: Samples, values: list[str]) -> Float[Tensor, "S V"]:
    """Compute the log-share of each value among thoughts that are one of them and nothing else."""
    closing = tuple(model.prompts.closing_ids)
    thoughts = [tuple(model.prompts.text(value)) for value in values]
    given = [Given((*ids, *closing), len(ids)) for ids in thoughts]
    prompts = PrefixTree.rows(model.asking.user(history).prompt.ids for history in samples.histories())
    episodes = Trajectories(prompts, [given] * len(samples), closing, model.backbone.device)
    with model.backbone.exact(), writing(model):
        states_TD = packed_states(model.backbone, episodes.packing)
        logprobs_RT, _ = action_logprobs(model.backbone, episodes, states_TD)
    return logprobs_RT.double().sum(dim=1).view(len(samples), len(values)).log_softmax(dim=1).cpu()


@torch.no_grad()
def implied_values(model: R2ec, samples: Samples, value_I: Tensor, num_values: int) -> Float[Tensor, "S V"]:
    """Sum the probabilities of the answer without a thought over the items of each value, as log-shares."""
    parts = []
    histories: list[History] = samples.histories()
    for start in range(0, len(histories), 64):
        some = histories[start : start + 64]
        scores = model.vectors.scores(model.users_after(some, None)).float().cpu().numpy()
        if not samples.dataset.repeats:
            scores = mask_seen(scores, some)
        logs_SI = torch.from_numpy(scores).double().log_softmax(dim=1)
        logs = [logs_SI[:, value_I == v].logsumexp(dim=1) for v in range(num_values)]
        parts.append(torch.stack(logs, dim=1).log_softmax(dim=1))
    return torch.cat(parts)
