"""What evidence is worth alone: a ranker that is a weighted sum of it, and any scores beside it.

The weights maximise the likelihood of the true items among their candidates, as those of `Fused` do over the whole
catalogue; they are learnt from validation lists. So a ranker that reads evidence lines can be compared with the tool
that wrote them, and with the sum of both.

Shape legend: B sets, N candidates, K columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from thinkrank.data.candidates import CandidateSets
from thinkrank.evidence import EvidenceFeatures
from thinkrank.retrieve.fusion_weights import conditional_logit
from thinkrank.training import Progress, no_progress

Columns = Mapping[str, Float32[np.ndarray, "B N"]]
"""Scores of all candidates by name; what stands where a set is filled up is not looked at."""


def evidence_columns(
    features: EvidenceFeatures, sets: CandidateSets, progress: Progress = no_progress
) -> dict[str, Float32[np.ndarray, "B N"]]:
    """Compute the features of all candidates, whoever asks left out of the counts."""
    found_BNK = np.zeros((*sets.items_BN.shape, len(features.names)), dtype=np.float32)
    askers = zip(sets.histories, sets.samples.users.tolist(), sets.items_BN, strict=True)
    with progress("evidence", len(sets)) as advance:
        for found_NK, (history, user, items_N) in zip(found_BNK, askers, strict=True):
            found_NK[items_N >= 0] = features.of(history, items_N[items_N >= 0].tolist(), user)
            advance(1)
    return {name: found_BNK[:, :, k] for k, name in enumerate(features.names)}


@dataclass(frozen=True, eq=False)
class WeighedSum:
    """Hold what columns are weighed with.

    Attributes:
        weights: by the columns' names, of columns scaled to a deviation of 1 where they were fitted.
        scales: that they are divided by.
    """

    weights: dict[str, float]
    scales: dict[str, float]

    @classmethod
    def fit(cls, columns: Columns, sets: CandidateSets, *, ridge: float = 1e-3) -> "WeighedSum":
        """Learn the weights from sets that no column has learnt from."""
        mask_BN = sets.mask_BN
        scales = {name: float(column_BN[mask_BN].std()) or 1.0 for name, column_BN in columns.items()}
        columns_BKN = np.stack([columns[name] / np.float32(scale) for name, scale in scales.items()], axis=1)
        columns_BKN = np.where(mask_BN[:, None], columns_BKN, np.float32(0))
        nobody_B = np.zeros(len(sets), dtype=bool)
        weights_2K, _ = conditional_logit(
            columns_BKN, mask_BN, sets.positive_B, nobody_B, ridge=ridge, newcomer_ridge=0.0
        )
        return cls(dict(zip(scales, weights_2K[0].tolist(), strict=True)), scales)

    def scores(self, columns: Columns) -> Float64[np.ndarray, "B N"]:
        """Sum the weighed columns."""
        parts = (columns[name].astype(np.float64) * (self.weights[name] / self.scales[name]) for name in self.weights)
        return np.sum(list(parts), axis=0)
