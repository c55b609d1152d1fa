import json
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Candidates, Catalogue, Requests
from thinkrank.data.histories import Histories
from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists import ListEncoder, ListEncoderOptions, ListSchema, list_batch, training_batch
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
    return training_batch(lists, np.arange(len(lists)))


def test_the_same_lists_in_other_codes_are_read_as_the_same():
    lists = random_lists()
    schema = ListSchema.of(lists, users=True)
    other = in_other_codes(lists)
    assert not np.array_equal(other.items_LN, lists.items_LN)
    read, expected = schema.reader(other.requests, other.candidates)(everything(other)), everything(lists)
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
    batch = encoder.schema.reader(new.requests, new.candidates)(everything(new))
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
    read = ListSchema.of(named).reader(named.requests, named.candidates)(everything(named))
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
    wide = widened(lists, 2)
    schema.reader(wide.requests, wide.candidates)
    with pytest.raises(ThinkrankError, match=r"^tiny: no rate \(numeric\), which the model was made for"):
        schema.reader(lists.requests, replace(lists.candidates, numeric_names=("price", "age")))
    with pytest.raises(ThinkrankError, match=r"no kind \(categorical\).*Load the lists from the same source"):
        schema.reader(lists.requests, replace(lists.candidates, categorical_names=("colour",)))
    with pytest.raises(ThinkrankError, match=r"no price \(numeric\), rate \(numeric\), kind \(categorical\), hour"):
        schema.reader(Requests(lists.histories), Candidates(lists.items_LN, name="bare"))


def test_columns_stand_wherever_they_do():
    lists = random_lists()
    schema, expected = ListSchema.of(lists), everything(lists)
    turned = replace(
        lists,
        numeric_LNF=lists.numeric_LNF[:, :, [1, 0, 1]],
        numeric_names=("rate", "price", "again"),
        categorical_LNC=lists.categorical_LNC[:, :, [0, 0]],
        categorical_names=("other", "kind"),
        categorical_values=(("a", "b", "c"), *lists.categorical_values),
        context_LF=lists.context_LF[:, [0, 0]] * np.array([2, 1], np.float32),
        context_names=("day", "hour"),
    )
    read = schema.reader(turned.requests, turned.candidates)(everything(turned))
    for name in ("numeric_BNF", "categorical_BNC", "context_BF"):
        assert torch.equal(getattr(read, name), getattr(expected, name)), name


def test_answering_reads_what_training_read_but_for_the_feedback():
    lists = random_lists()
    schema = ListSchema.of(lists, users=True)
    reader = schema.reader(lists.requests, lists.candidates)
    read, expected = reader(list_batch(lists.requests, lists.candidates, slice(None))), everything(lists)
    names = {field.name for field in fields(read)}
    assert {field.name for field in fields(expected)} - names == {"feedback_BN"}
    for name in names:
        assert torch.equal(getattr(read, name), getattr(expected, name)), name


def test_candidates_that_do_not_name_their_catalogue_are_in_the_rows_of_the_schema():
    lists = random_lists()
    mine = replace(lists.candidates, catalogue=None)
    batch = list_batch(lists.requests, mine, slice(None))
    read = ListSchema.of(lists).reader(lists.requests, mine)(batch)
    assert torch.equal(read.items_BN, batch.items_BN)
    assert torch.equal(read.history_BH, batch.history_BH)


def test_unknown_users_are_unknown():
    lists = random_lists()
    nobody = replace(lists.requests, users=None)
    schema = ListSchema.of(lists, users=True)
    read = schema.reader(nobody, lists.candidates)(list_batch(nobody, lists.candidates, slice(None)))
    assert (read.users_B == len(lists.users)).all()


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
    read = ListSchema.of(lists).reader(moved.requests, moved.candidates)(everything(moved))
    assert torch.equal(read.items_BN, everything(lists).items_BN)
    assert torch.equal(read.history_BH, everything(lists).history_BH)


def test_a_saved_schema_has_no_ids_in_its_json_and_reads_those_of_older_ones(tmp_path):
    lists = random_lists()
    schema = ListSchema.of(lists, users=True)
    schema.save(tmp_path / "lists.json")
    text = (tmp_path / "lists.json").read_text(encoding="utf-8")
    assert not {"items", "users"} & json.loads(text).keys()
    assert ListSchema.load(tmp_path / "lists.json", lists.catalogue) == schema
    older = json.loads(text) | {"items": list(lists.catalogue.ids), "users": list(lists.users)}
    (tmp_path / "older.json").write_text(json.dumps(older), encoding="utf-8")
    (tmp_path / "users.parquet").unlink()
    assert ListSchema.load(tmp_path / "older.json", None) == schema
    assert ListSchema.load(tmp_path / "lists.json", lists.catalogue).users == ()
    schema.save(tmp_path / "lists.json")
    ListSchema.of(lists).save(tmp_path / "lists.json")  # over one with users
    assert ListSchema.load(tmp_path / "lists.json", lists.catalogue) == ListSchema.of(lists)
    (tmp_path / "older.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="describes no lists"):
        ListSchema.load(tmp_path / "older.json", lists.catalogue)
