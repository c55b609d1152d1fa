"""Figures of every sample, kept beside a run so that runs can be compared later on the same samples.

Shape legend: S samples, C columns, one for each system and metric.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer
from safetensors import SafetensorError
from safetensors.numpy import load, save

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.significance import PairedTest, holm, paired_tests

FILE = "per_sample.safetensors"


@dataclass(frozen=True, eq=False)
class PerSample:
    """Hold what an evaluation found for every sample.

    Attributes:
        about: what must be the same for two of them to be compared, by names that people understand.
        own: the system that was trained, among those that were judged.
        columns: system and metric of each column.
        users_S: whose sample each is.
        values_SC: the figures; NaN where a metric says nothing of a sample.
    """

    about: Mapping[str, Any]
    own: str
    columns: Sequence[tuple[str, str]]
    users_S: Integer[np.ndarray, "S"]
    values_SC: Float64[np.ndarray, "S C"]

    @classmethod
    def of(cls, figures: Figures, own: str, about: Mapping[str, Any]) -> "PerSample":
        """Collect the figures of an evaluation."""
        columns = [(system, metric) for system in figures.systems for metric in figures.metrics]
        values = [figures.values(system, metric) for system, metric in columns]
        return cls(dict(about), own, columns, np.asarray(figures.users_S), np.stack(values, axis=1))

    @property
    def systems(self) -> tuple[str, ...]:
        """Return what was judged."""
        return tuple(dict.fromkeys(system for system, _ in self.columns))

    def values(self, system: str, metric: str) -> Float64[np.ndarray, "S"]:
        """Return a metric per sample.

        Raises:
            ThinkrankError: if there is no such column.
        """
        if (system, metric) not in self.columns:
            metrics = dict.fromkeys(known for _, known in self.columns)
            raise ThinkrankError(
                f"there is no {metric} of {system!r}; systems: {', '.join(self.systems)}; metrics: {', '.join(metrics)}"
            )
        column_S: Float64[np.ndarray, S] = self.values_SC[:, self.columns.index((system, metric))]
        return column_S

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        told = {"about": self.about, "own": self.own, "columns": self.columns}
        arrays = {"users_S": np.ascontiguousarray(self.users_S), "values_SC": np.ascontiguousarray(self.values_SC)}
        with atomic_write(folder / FILE) as file:
            file.write(save(arrays, {"told": json.dumps(told)}))

    @classmethod
    def read(cls, folder: Path) -> "PerSample":
        """Read the file of a run's folder.

        Raises:
            ThinkrankError: if there is none, or it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            raise ThinkrankError(
                f"{folder}: no figures of single samples here: run `thinkrank evaluate {folder}` first"
            )
        content = path.read_bytes()
        try:
            arrays = load(content)
            size = int.from_bytes(content[:8], "little")
            told = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["told"])
            columns = [(system, metric) for system, metric in told["columns"]]
            return cls(told["about"], told["own"], columns, arrays["users_S"], arrays["values_SC"])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ThinkrankError(f"{path}: damaged ({error}): judge the run again") from error


def paired_with(
    reference_S: Float64[np.ndarray, "S"],
    others: Sequence[Float64[np.ndarray, "S"]],
    users_S: Integer[np.ndarray, "S"],
) -> list[tuple[PairedTest, float | None]]:
    """Test others against a reference on the same samples, users as clusters; with p corrected by Holm for all of them.

    Samples of which the metric says nothing are left out.
    """
    defined_S = ~np.isnan(reference_S)
    differences_SM = np.stack([other_S - reference_S for other_S in others], axis=1)
    tests = paired_tests(differences_SM[defined_S], users_S[defined_S])
    return list(zip(tests, holm([test.p_value for test in tests]), strict=True))
