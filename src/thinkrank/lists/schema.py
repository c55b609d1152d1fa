"""What the columns and codes of lists mean, so that a model reads lists of another day as it read those of training.

Shape legend: I items and U users of a data set, V values of a category.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from thinkrank.data.impressions import ImpressionDataset
from thinkrank.errors import ThinkrankError
from thinkrank.lists.batch import ListBatch

_COLUMNS = ("numeric_names", "categorical_names", "context_names")


class ListSchema(BaseModel):
    """Columns and codes of the lists that a model was made for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            _rows(dataset.catalogue.ids, self.items, unknown=len(self.items)),
            _rows(dataset.users, self.users, unknown=len(self.users)),
            tuple(
                torch.cat([torch.zeros(1, dtype=torch.long), 1 + _rows(theirs, mine, unknown=-1)])
                for theirs, mine in zip(dataset.categorical_values, self.categorical_values, strict=True)
            ),
        )


@dataclass(frozen=True, eq=False)
class ListReader:
    """Puts batches of one data set into the rows and codes of a schema.

    Attributes:
        items_I: the schema's row of each item; one beyond its last for unknown items.
        users_U: the same of users.
        codes: per category the schema's code of each code, V + 1 of them; 0 for unknown ones.
    """

    items_I: Int64[Tensor, "I"]
    users_U: Int64[Tensor, "U"]
    codes: tuple[Int64[Tensor, "_"], ...]

    def __call__(self, batch: ListBatch) -> ListBatch:
        """The same lists in the schema's rows and codes."""
        columns = [codes[batch.categorical_BNC[:, :, column]] for column, codes in enumerate(self.codes)]
        return replace(
            batch,
            items_BN=self._items(batch.items_BN),
            history_BH=self._items(batch.history_BH),
            users_B=self.users_U[batch.users_B],
            categorical_BNC=torch.stack(columns, dim=2) if columns else batch.categorical_BNC,
        )

    def _items(self, items: Tensor) -> Tensor:
        return torch.where(items >= 0, self.items_I[items.clamp(min=0)], -1)


def _rows(names: Sequence[str], known: Sequence[str], *, unknown: int) -> Int64[Tensor, "_"]:
    """Where each name stands among the known ones."""
    places = {name: place for place, name in enumerate(known)}
    return torch.tensor([places.get(name, unknown) for name in names], dtype=torch.long)
