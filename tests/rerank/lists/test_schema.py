from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Catalogue
from thinkrank.data.histories import Histories
from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists import ListEncoder, ListEncoderOptions, ListSchema, list_batch
from thinkrank.rerank.lists.schema import NameMap
from thinkrank.testing import random_lists, widened

OPTIONS = ListEncoderOptions(width=8, embedding_width=4, user_ids=True, min_count=1)


def in_other_codes(lists):
    """The same lists, with rows of items and users and codes of categories turned around."""
    items, users, values = len(lists.catalogue), len(lists.users), len(lists.categorical_values[0])
    codes_LNC = lists.categorical_LNC
    histories = Histories.of(
        [replace(history, items=np.ascontiguousarray(items - 1 - history.items)) for history in lists.histories]
    )
    return replace(
        lists,
        catalogue=Catalogue(lists.catalogue.frame.reverse()),
        items_LN=np.where(lists.mask_LN, items - 1 - lists.items_LN, -1).astype(np.int32),
        users=lists.users[::-1],
        users_L=(users - 1 - lists.users_L).astype(np.int32),
        categorical_values=(lists.categorical_values[0][::-1],),
        categorical_LNC=np.where(codes_LNC > 0, values + 1 - codes_LNC, 0).astype(np.int32),
        histories=histories,
    )


def woken(encoder):
    torch.manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)
    return encoder.eval()


def everything(lists):
    return list_batch(lists, np.arange(len(lists)))


def test_the_same_lists_in_other_codes_are_read_as_the_same():
    lists = random_lists()
    schema = ListSchema.of(lists, users=True)
    other = in_other_codes(lists)
    assert not np.array_equal(other.items_LN, lists.items_LN)
    read, expected = schema.reader(other)(everything(other)), everything(lists)
    for field in fields(expected):
        assert torch.equal(getattr(read, field.name), getattr(expected, field.name)), field.name


def test_what_is_new_is_unknown_and_says_nothing():
    lists = random_lists()
    encoder = woken(ListEncoder.of(lists, OPTIONS))
    frame = lists.catalogue.frame
    new = replace(
        lists,
        catalogue=Catalogue(frame.with_columns(item="new " + frame["item"])),
        users=tuple(f"new {user}" for user in lists.users),
        categorical_values=(tuple(f"new {value}" for value in lists.categorical_values[0]),),
    )
    batch = encoder.schema.reader(new)(everything(new))
    assert (batch.items_BN[batch.mask_BN] == len(frame)).all()
    assert (batch.users_B == len(lists.users)).all()
    assert not batch.categorical_BNC.any()
    known = replace(everything(lists), categorical_BNC=torch.zeros_like(batch.categorical_BNC))
    for embedding in (encoder.items, encoder.users):
        torch.nn.init.zeros_(embedding.weight)
    silent = encoder(known)
    woken(encoder)
    for mine, theirs in zip(encoder(batch), silent, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_no_category_stays_no_category_even_if_one_is_called_nothing():
    lists = random_lists()
    named = replace(lists, categorical_values=(("", "medium", "small"),))
    read = ListSchema.of(named).reader(named)(everything(named))
    assert torch.equal(read.categorical_BNC, everything(named).categorical_BNC)


def test_a_name_is_looked_up_when_it_is_met_and_no_other():
    asked = []

    class Known(dict):
        def get(self, name, default=None):
            asked.append(name)
            return super().get(name, default)

    names = NameMap(["a", "b", "c", "d"], Known(c=0, a=1))
    assert names(torch.tensor([[2, -1, 3], [2, 2, -1]])).tolist() == [[0, -1, 2], [0, 0, -1]]
    assert names(torch.tensor([3, 0])).tolist() == [2, 1]
    assert sorted(asked) == ["a", "c", "d"]


def test_users_are_kept_only_where_they_are_embedded():
    lists = random_lists()
    assert ListEncoder.of(lists, OPTIONS).schema.users == lists.users
    assert ListEncoder.of(lists, OPTIONS.model_copy(update={"user_ids": False})).schema.users == ()


def test_other_columns_are_refused_and_other_lengths_are_not():
    lists = random_lists()
    schema = ListSchema.of(lists)
    schema.reader(widened(lists, 2))
    assert ListSchema.model_validate_json(schema.model_dump_json()) == schema
    with pytest.raises(ThinkrankError, match=r"numeric_names is \('price', 'age'\), the model was made for"):
        schema.reader(replace(lists, numeric_names=("price", "age")))
    with pytest.raises(ThinkrankError, match="Load the lists from the same source"):
        schema.reader(replace(lists, categorical_names=("colour",)))


def test_a_catalogue_of_other_items_can_be_larger():
    lists = random_lists()
    frame = lists.catalogue.frame
    larger = Catalogue(pl.concat([frame.with_columns(item="x" + frame["item"]), frame]))
    moved = replace(
        lists,
        catalogue=larger,
        items_LN=np.where(lists.mask_LN, lists.items_LN + len(frame), -1).astype(np.int32),
        histories=Histories.of([replace(h, items=h.items + np.int32(len(frame))) for h in lists.histories]),
    )
    read = ListSchema.of(lists).reader(moved)(everything(moved))
    assert torch.equal(read.items_BN, everything(lists).items_BN)
    assert torch.equal(read.history_BH, everything(lists).history_BH)
