"""From a metric per sample to tables: means with intervals, and tests against a reference.

Shape legend: S samples, M metrics.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer

from thinkrank._code import code_version
from thinkrank.evaluate.results import Comparison, ResultRow, Ties
from thinkrank.evaluate.significance import (
    CONFIDENCE,
    NUM_RESAMPLES,
    PairedTest,
    bootstrap_intervals,
    holm,
    paired_test,
    paired_tests,
)


class Figures(ABC):
    """Offer tables and tests once a metric is known per sample.

    A metric may be NaN for samples on which it says nothing, the same ones for every system: they are left out of its
    mean, and `n` says how many are left.

    Attributes:
        users_S: whose sample each is; samples of one user are resampled together.
        cutoffs: the k of the metrics.
    """

    users_S: Integer[np.ndarray, "S"]
    cutoffs: tuple[int, ...]

    @property
    @abstractmethod
    def systems(self) -> tuple[str, ...]:
        """Return what was evaluated."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Return the names `values` knows."""

    @property
    @abstractmethod
    def ties(self) -> Ties:
        """Return how equal scores are judged."""

    @property
    @abstractmethod
    def policy(self) -> dict[str, str | int | bool]:
        """Tell how the figures came about, for manifests and reports."""

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the policy, and what stands behind intervals and tests, for the file beside the figures."""
        return {
            **self.policy,
            "cut-offs": list(self.cutoffs),
            "intervals": f"{CONFIDENCE:.0%} percentile bootstrap, users drawn {NUM_RESAMPLES:,} times",
            "tests": "paired, two-sided, by flipping the signs of users; of these models, not of others trained alike",
            "corrected": "by Holm, for the systems that one metric compares with one reference",
            "visible": "difference that such a test sees at .05, uncorrected, with 80 % power",
            "code": code_version(),
        }

    @abstractmethod
    def values(self, system: str, metric: str) -> Float64[np.ndarray, "S"]:
        """Return a metric per sample.

        Raises:
            ValueError: if the system or the metric is unknown.
        """

    def compare(self, system: str, reference: str, metric: str, *, seed: int = 0) -> PairedTest:
        """Test a system against another on the same samples, users as clusters (see `significance.paired_test`)."""
        system_S, reference_S = self.values(system, metric), self.values(reference, metric)
        defined_S = ~np.isnan(reference_S)
        return paired_test(system_S[defined_S], reference_S[defined_S], self.users_S[defined_S], seed=seed)

    def comparisons(self, reference: str, *, dataset: str, split: str) -> list[Comparison]:
        """Test every other system against a reference on every metric; `corrected` is for the number of systems.

        A metric that no sample has is left out.

        Raises:
            ValueError: if the reference is unknown.
        """
        others = [name for name in self.systems if name != reference]
        found: dict[str, list[Comparison]] = {name: [] for name in others}
        for metric in self.metrics if others else ():
            reference_S = self.values(reference, metric)
            defined_S = ~np.isnan(reference_S)
            if not defined_S.any():
                continue
            differences_SM = np.stack([self.values(name, metric) - reference_S for name in others], axis=1)
            tests = paired_tests(differences_SM[defined_S], self.users_S[defined_S])
            for name, test, corrected in zip(others, tests, holm([test.p_value for test in tests]), strict=True):
                row = Comparison(
                    dataset=dataset,
                    split=split,
                    system=name,
                    reference=reference,
                    metric=metric,
                    difference=test.difference.value,
                    low=test.difference.low,
                    high=test.difference.high,
                    p_value=test.p_value,
                    corrected=corrected,
                    visible=test.visible,
                    num_clusters=test.num_clusters,
                )
                found[name].append(row)
        return [row for name in others for row in found[name]]

    def _check_known(self, system: str, metric: str) -> None:
        if system not in self.systems:
            raise ValueError(f"no system {system!r}; there are {', '.join(self.systems)}")
        if metric not in self.metrics:
            raise ValueError(f"no metric {metric!r}; there are {', '.join(self.metrics)}")

    def _mean_rows(self, system: str, *, dataset: str, split: str, seeds: Sequence[int]) -> list[ResultRow]:
        """Make a row per metric, with a 95 % interval that resamples users; none for a metric that no sample has."""
        values_SM = np.stack([self.values(system, metric) for metric in self.metrics], axis=1)
        rows = {}
        for defined_S in np.unique(~np.isnan(values_SM), axis=1).T:  # metrics of the same samples share resamples
            columns = np.flatnonzero((~np.isnan(values_SM) == defined_S[:, None]).all(axis=0))
            if not defined_S.any():
                continue
            intervals = bootstrap_intervals(values_SM[defined_S][:, columns], self.users_S[defined_S])
            for column, interval in zip(columns, intervals, strict=True):
                rows[column] = ResultRow(
                    dataset=dataset,
                    split=split,
                    system=system,
                    metric=self.metrics[column],
                    n=int(defined_S.sum()),
                    seeds=tuple(seeds),
                    ties=self.ties,
                    **vars(interval),
                )
        return [rows[column] for column in sorted(rows)]
