"""The report of a retrieval run, put together from the run, the evaluation and ten people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thinkrank.evaluate import Comparison, ResultRow
from thinkrank.evaluate.report import Report, UserCase, user_cases
from thinkrank.stages import Ranking

if TYPE_CHECKING:
    from thinkrank.data import Samples, Split
    from thinkrank.evaluate import Evaluation
    from thinkrank.retrieve import R2ec
    from thinkrank.training import Run

NUM_USERS = 10
NUM_SHOWN = 10


def retrieval_report(
    run: "Run",
    model: "R2ec",
    split: "Split",
    samples: "Samples",
    evaluation: "Evaluation",
    rows: Sequence[ResultRow],
    comparisons: Sequence[Comparison],
) -> Report:
    """Collect what the page shows. The ten people are asked with a thought first."""
    backbone, training = run.config["model"]["backbone"], run.config["training"]
    supervision, negatives = training["supervision"].replace("_", " "), training["negatives"].replace("_", "-")
    return Report(
        title=f"R²ec on {split.dataset.name}",
        subtitle=f"{backbone}, {supervision} supervision, {negatives} negatives",
        data_card=split.dataset.describe(),
        manifest=split.manifest(),
        rows=rows,
        comparisons=comparisons,
        policy=evaluation.policy,
        curves=run.metrics(),
        users=_people(model, split, samples, filter_seen=evaluation.filter_seen),
        notes=(
            "“No thought” reads the model directly behind the history; “thought first” reads it behind the thought it "
            "wrote, or the base model did. Training was contrastive and never saw a thought, so nothing has rewarded "
            "one for being useful.",
            "Samples of one user resemble each other; intervals and tests resample users.",
        ),
    )


def _people(model: "R2ec", split: "Split", samples: "Samples", *, filter_seen: bool) -> list[UserCase]:
    """The first sample of each of ten users, spread evenly over the users of the samples."""
    _, first = np.unique(samples.users, return_index=True)
    chosen = first[np.linspace(0, len(first) - 1, min(NUM_USERS, len(first))).astype(int)]
    people = type(samples)(samples.dataset, samples.positions[chosen])
    whole = model.retrieve(people.histories(), len(model.catalogue), think=True, filter_seen=filter_seen)
    found_BI = whole.items_BK == people.targets[:, None]
    ranks = np.where(found_BI.any(axis=1), found_BI.argmax(axis=1) + 1, len(model.catalogue) + 1)
    shown = Ranking(whole.items_BK[:, :NUM_SHOWN], whole.scores_BK[:, :NUM_SHOWN], whole.thoughts)
    return user_cases(people, shown, ranks, catalogue=model.catalogue, user_ids=split.dataset.users)
