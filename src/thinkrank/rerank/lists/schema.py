"""What the columns and codes of lists mean, so that a model reads lists of another day as it read those of training.

Shape legend: B lists, V codes of a data set.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Int, Int64, Shaped
from pydantic import ConfigDict, Field, field_validator
from torch import Tensor

from thinkrank._files import atomic_write
from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue, read_own_parquet
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.requests import Requests
from thinkrank.data.texts import Texts
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.pretrained import write_json
from thinkrank.rerank.lists.batch import BatchT

USERS_FILE = "users.parquet"
_UNMET = -1


class ListSchema(Options):
    """Describe columns and codes of the lists that a model was made for."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    items: Texts = Field(exclude=True, description="ids of the catalogue's items, by row")
    users: Texts = Field(exclude=True, description="ids of the users, by row; none if users are not embedded")
    max_candidates: int = Field(ge=0, description="of the longest list; longer ones are read all the same")
    numeric_names: tuple[str, ...]
    categorical_names: tuple[str, ...]
    categorical_values: tuple[tuple[str, ...], ...] = Field(description="what codes stand for, from code 1")
    context_names: tuple[str, ...]

    @field_validator("items", "users", mode="before")
    @classmethod
    def _without_objects(cls, texts: Sequence[str]) -> Texts:
        return Texts.of(texts)

    @classmethod
    def of(cls, dataset: ImpressionDataset, *, users: bool = False) -> "ListSchema":
        """Describe a data set, with or without its users."""
        return cls(
            items=dataset.catalogue.ids,
            users=Texts.of(dataset.users if users else ()),
            max_candidates=dataset.items_LN.shape[1],
            numeric_names=dataset.numeric_names,
            categorical_names=dataset.categorical_names,
            categorical_values=dataset.categorical_values,
            context_names=dataset.context_names,
        )

    def save(self, file: Path) -> None:
        """Write columns and codes as JSON, and users beside it as Parquet; items stand in the folder's catalogue."""
        write_json(file, self)
        users = file.with_name(USERS_FILE)
        if not len(self.users):
            users.unlink(missing_ok=True)  # of another model that was saved there
            return
        with atomic_write(users) as opened:
            pl.DataFrame({"user": self.users.series}).write_parquet(opened)

    @classmethod
    def load(cls, file: Path, catalogue: Catalogue | None) -> "ListSchema":
        """Read what `save` wrote, or what older versions did, which had items and users in the JSON.

        Args:
            file: of columns and codes.
            catalogue: of the folder; None if it has none.

        Raises:
            ThinkrankError: if the users are damaged.
            ValueError: if the JSON is no description of lists.
        """
        known, users = json.loads(file.read_bytes()), file.with_name(USERS_FILE)
        if not isinstance(known, dict):
            raise ValueError(f"{file.name} describes no lists")
        ids = {} if catalogue is None else {"items": catalogue.ids}
        ids["users"] = Texts.of(read_own_parquet(users).to_series() if users.is_file() else ())
        return cls.model_validate(ids | known)

    def reader(self, requests: Requests, candidates: Candidates) -> "ListReader":
        """Make what puts batches of these requests into this schema's rows and codes.

        Columns, users, categories and, if the candidates say whose rows they are, items are found by what they are
        called. They may be others than in training: what is new is read as unknown, and columns that the model does
        not know are passed over. Lists may be longer or shorter.

        Raises:
            ThinkrankError: if columns are missing; names all of them.
        """
        there = (candidates.numeric_names, candidates.categorical_names, requests.context_names)
        wanted = (self.numeric_names, self.categorical_names, self.context_names)
        kinds = ("numeric", "categorical", "context")
        missing = [
            f"{name} ({kind})"
            for kind, names, found in zip(kinds, wanted, there, strict=True)
            for name in names
            if name not in found
        ]
        if missing:
            raise ThinkrankError(
                f"{candidates.name}: no {', '.join(missing)}, which the model was made for. "
                "Load the lists from the same source with the same options."
            )
        numeric, categorical, context = (
            None if names == found else tuple(found.index(name) for name in names)
            for names, found in zip(wanted, there, strict=True)
        )
        codes = range(len(there[1])) if categorical is None else categorical
        return ListReader(
            items=None if candidates.catalogue is None else NameMap(candidates.catalogue.ids, self.items),
            users=NameMap((None,) * len(requests) if requests.users is None else requests.users, self.users),
            categories=tuple(
                NameMap(
                    (None, *candidates.categorical_values[column]),
                    {name: code for code, name in enumerate(values, start=1)},
                    unknown=0,
                )
                for column, values in zip(codes, self.categorical_values, strict=True)
            ),
            columns=(numeric, categorical, context),
        )


class NameMap:
    """Turn the codes of one data set into those of another by what they stand for, each name looked up when it is met.

    So a few lists of a large catalogue cost what their own items cost.

    Args:
        names: what the codes stand for, from code 0; None for nothing, which is never known.
        known: the codes to give.
        unknown: the code of names that are not known; None for one beyond the last.
    """

    def __init__(
        self, names: Sequence[str | None], known: Mapping[str, int] | Texts, unknown: int | None = None
    ) -> None:
        self._names, self._known = names, known
        self._unknown = len(known) if unknown is None else unknown
        self._found_V = torch.full((len(names),), _UNMET, dtype=torch.long)

    def __call__(self, codes: Int[Tensor, "..."]) -> Int64[Tensor, "..."]:
        """Return the other codes; negative ones, which are padding, stay."""
        rows = codes.clamp(min=0)
        unmet = rows[self._found_V[rows] == _UNMET].unique()
        names = (self._names[row] for row in unmet.tolist())
        found = [self._unknown if name is None else self._known.get(name, self._unknown) for name in names]
        self._found_V[unmet] = torch.tensor(found, dtype=torch.long)
        return torch.where(codes >= 0, self._found_V[rows], codes)


@dataclass(frozen=True, eq=False)
class ListReader:
    """Put batches of some requests into the rows and codes of a schema.

    Attributes:
        items: rows of items; those of unknown items are one beyond the last. None if they are the schema's already.
        users: the same of users, by the place of their request.
        categories: codes of each category; 0 for unknown ones.
        columns: where the schema's numeric, categorical and context columns stand; None where they stand as they are.
    """

    items: NameMap | None
    users: NameMap
    categories: tuple[NameMap, ...]
    columns: tuple[tuple[int, ...] | None, tuple[int, ...] | None, tuple[int, ...] | None]

    def __call__(self, batch: BatchT) -> BatchT:
        """Return the same lists in the schema's rows and codes; the batch is on the CPU."""
        numeric, categorical, context = self.columns
        codes_BNC = _chosen(batch.categorical_BNC, categorical)
        columns = [named(codes_BNC[:, :, column]) for column, named in enumerate(self.categories)]
        return replace(
            batch,
            items_BN=batch.items_BN if self.items is None else self.items(batch.items_BN),
            history_BH=batch.history_BH if self.items is None else self.items(batch.history_BH),
            users_B=self.users(batch.indices_B),
            numeric_BNF=_chosen(batch.numeric_BNF, numeric),
            categorical_BNC=torch.stack(columns, dim=2) if columns else codes_BNC,
            context_BF=_chosen(batch.context_BF, context),
        )


def _chosen(values: Shaped[Tensor, "..."], columns: tuple[int, ...] | None) -> Shaped[Tensor, "..."]:
    """Select some columns, in this order; None: all as they are."""
    return values if columns is None else values[..., list(columns)]
