"""What the columns and codes of lists mean, so that a model reads lists of another day as it read those of training.

Shape legend: V codes of a data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Int, Int64
from pydantic import Field
from torch import Tensor

from thinkrank.data.impressions import ImpressionDataset
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.rerank.lists.batch import ListBatch

_UNMET = -1
_COLUMNS = ("numeric_names", "categorical_names", "context_names")


class ListSchema(Options):
    """Columns and codes of the lists that a model was made for."""

    items: tuple[str, ...] = Field(description="ids of the catalogue's items, by row")
    users: tuple[str, ...] = Field(description="ids of the users, by row; none if users are not embedded")
    max_candidates: int = Field(ge=0, description="of the longest list; longer ones are read all the same")
    numeric_names: tuple[str, ...]
    categorical_names: tuple[str, ...]
    categorical_values: tuple[tuple[str, ...], ...] = Field(description="what codes stand for, from code 1")
    context_names: tuple[str, ...]

    @classmethod
    def of(cls, dataset: ImpressionDataset, *, users: bool = False) -> "ListSchema":
        """The schema of a data set, with or without its users."""
        return cls(
            items=tuple(dataset.catalogue.ids),
            users=dataset.users if users else (),
            max_candidates=dataset.items_LN.shape[1],
            numeric_names=dataset.numeric_names,
            categorical_names=dataset.categorical_names,
            categorical_values=dataset.categorical_values,
            context_names=dataset.context_names,
        )

    def reader(self, dataset: ImpressionDataset) -> "ListReader":
        """What puts batches of a data set into this schema's rows and codes.

        Items, users and categories are found by what they are called, and may be others than in training: what is new
        is read as unknown. Lists may be longer or shorter.

        Raises:
            ThinkrankError: if the data set has other columns; names the first difference.
        """
        for name in _COLUMNS:
            mine, theirs = getattr(self, name), getattr(dataset, name)
            if mine != theirs:
                raise ThinkrankError(
                    f"{dataset.name}: {name} is {theirs}, the model was made for {mine}. "
                    "Load the lists from the same source with the same options."
                )
        return ListReader(
            NameMap(dataset.catalogue.ids, self._item_rows),
            NameMap(dataset.users, self._user_rows),
            tuple(
                NameMap((None, *theirs), {name: code for code, name in enumerate(mine, start=1)}, unknown=0)
                for theirs, mine in zip(dataset.categorical_values, self.categorical_values, strict=True)
            ),
        )

    @cached_property
    def _item_rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.items)}

    @cached_property
    def _user_rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.users)}


class NameMap:
    """Turns the codes of one data set into those of another by what they stand for, each name looked up when it is met.

    So a few lists of a large catalogue cost what their own items cost.

    Args:
        names: what the codes stand for, from code 0; None for nothing, which is never known.
        known: the codes to give.
        unknown: the code of names that are not known; None for one beyond the last.
    """

    def __init__(self, names: Sequence[str | None], known: Mapping[str, int], unknown: int | None = None) -> None:
        self._names, self._known = names, known
        self._unknown = len(known) if unknown is None else unknown
        self._found_V = torch.full((len(names),), _UNMET, dtype=torch.long)

    def __call__(self, codes: Int[Tensor, "..."]) -> Int64[Tensor, "..."]:
        """The other codes; negative ones, which are padding, stay."""
        rows = codes.clamp(min=0)
        unmet = rows[self._found_V[rows] == _UNMET].unique()
        names = (self._names[row] for row in unmet.tolist())
        found = [self._unknown if name is None else self._known.get(name, self._unknown) for name in names]
        self._found_V[unmet] = torch.tensor(found, dtype=torch.long)
        return torch.where(codes >= 0, self._found_V[rows], codes)


@dataclass(frozen=True, eq=False)
class ListReader:
    """Puts batches of one data set into the rows and codes of a schema.

    Attributes:
        items: rows of items; those of unknown items are one beyond the last.
        users: the same of users.
        categories: codes of each category; 0 for unknown ones.
    """

    items: NameMap
    users: NameMap
    categories: tuple[NameMap, ...]

    def __call__(self, batch: ListBatch) -> ListBatch:
        """The same lists in the schema's rows and codes; the batch is on the CPU."""
        columns = [named(batch.categorical_BNC[:, :, column]) for column, named in enumerate(self.categories)]
        return replace(
            batch,
            items_BN=self.items(batch.items_BN),
            history_BH=self.items(batch.history_BH),
            users_B=self.users(batch.users_B),
            categorical_BNC=torch.stack(columns, dim=2) if columns else batch.categorical_BNC,
        )
