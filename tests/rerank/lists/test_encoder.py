from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists import ListEncoder, ListEncoderOptions, training_batch
from thinkrank.testing import random_lists, widened

OPTIONS = ListEncoderOptions(width=8, embedding_width=4, user_ids=True, min_count=1)


def everything(lists) -> np.ndarray:
    return np.arange(len(lists))


def woken(encoder: ListEncoder) -> ListEncoder:
    """All weights random, so that everything that is looked at matters."""
    generator = torch.Generator().manual_seed(0)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return encoder.eval()


@settings(max_examples=20)
@given(seed=st.integers(0, 99), more=st.integers(1, 4))
def test_padding_changes_nothing_and_has_no_vector(seed, more):
    lists = random_lists(seed, num_lists=6)
    encoder = woken(ListEncoder.of(lists, OPTIONS))
    batch = training_batch(lists, everything(lists))
    candidates_BND, users_BD = encoder(batch)
    for index in range(len(lists)):
        alone_1ND, user_1D = encoder(training_batch(lists, np.array([index])))
        length = int(lists.lengths_L[index])
        torch.testing.assert_close(candidates_BND[index, :length], alone_1ND[0])
        torch.testing.assert_close(users_BD[index], user_1D[0])
    assert not candidates_BND[~batch.mask_BN].any()
    wide = woken(ListEncoder.of(widened(lists, more), OPTIONS.model_copy(update={"positions": False})))
    narrow = woken(ListEncoder.of(lists, OPTIONS.model_copy(update={"positions": False})))
    torch.testing.assert_close(wide(batch)[0], narrow(batch)[0])


def test_everything_that_is_known_is_looked_at():
    lists = random_lists(num_lists=6)
    encoder = woken(ListEncoder.of(lists, OPTIONS))
    batch = training_batch(lists, everything(lists))
    candidates_BND, users_BD = encoder(batch)
    looks_at_candidates = {"items_BN": 1, "numeric_BNF": 3.0, "categorical_BNC": 1}
    for name, change in looks_at_candidates.items():
        values = getattr(batch, name).clone()
        values[0, 0] = (values[0, 0] + change) % 4
        changed = replace(batch, **{name: values})
        assert not torch.allclose(encoder(changed)[0][0, 0], candidates_BND[0, 0]), name
    for name in ("history_BH", "context_BF", "users_B"):
        values = getattr(batch, name).flip(0)
        changed = replace(batch, **{name: values})
        assert not torch.allclose(encoder(changed)[1], users_BD), name
        torch.testing.assert_close(encoder(changed)[0], candidates_BND)
    other = replace(batch, feedback_BN=1 - batch.feedback_BN)
    torch.testing.assert_close(encoder(other)[0], candidates_BND)


def test_features_are_standardised_over_training_and_within_the_list():
    lists = random_lists(num_lists=50)
    encoder = ListEncoder.of(lists, OPTIONS)
    batch = training_batch(lists, everything(lists))
    standard_BNF, relative_BNF = encoder.numeric_parts(batch)
    values_RF = lists.numeric_LNF[lists.mask_LN]
    expected = np.clip((lists.numeric_LNF - values_RF.mean(axis=0)) / values_RF.std(axis=0), -5, 5)
    np.testing.assert_allclose(standard_BNF[batch.mask_BN], expected[lists.mask_LN], rtol=1e-4, atol=1e-5)
    for index, length in enumerate(lists.lengths_L):
        own = expected[index, :length]
        spread = np.sqrt(own.var(axis=0) + 1e-4)
        np.testing.assert_allclose(
            relative_BNF[index, :length], (own - own.mean(axis=0)) / spread, rtol=1e-3, atol=1e-3
        )
    assert not relative_BNF[~batch.mask_BN].any()


def test_features_can_be_left_out():
    lists = random_lists(num_lists=6)
    name, width = lists.numeric_names[0], len(lists.numeric_names)
    noise_LNF = np.random.default_rng(0).random(lists.numeric_LNF.shape, dtype=np.float32) * lists.mask_LN[:, :, None]
    more = replace(
        lists,
        numeric_LNF=np.concatenate([noise_LNF, lists.numeric_LNF], axis=2),
        numeric_names=(*(f"other {name}" for name in lists.numeric_names), *lists.numeric_names),
    )
    left_out = OPTIONS.model_copy(update={"leave_out": more.numeric_names[:width]})
    expected = woken(ListEncoder.of(lists, OPTIONS))(training_batch(lists, everything(lists)))[0]
    found = woken(ListEncoder.of(more, left_out))(training_batch(more, everything(more)))[0]
    torch.testing.assert_close(found, expected)
    with pytest.raises(ThinkrankError, match=f"names prise, .* there are {name}"):
        ListEncoder.of(lists, OPTIONS.model_copy(update={"leave_out": ("prise",)}))


def test_a_column_that_never_varies_says_nothing():
    lists = random_lists()
    constant = replace(
        lists, numeric_LNF=np.where(lists.mask_LN[:, :, None], np.float32(7.7), np.float32(0)).repeat(2, 2)
    )
    encoder = ListEncoder.of(constant, OPTIONS)
    other = replace(constant, numeric_LNF=constant.numeric_LNF * 100)
    batch, changed = (training_batch(some, everything(lists)) for some in (constant, other))
    torch.testing.assert_close(encoder.eval()(batch)[0], encoder(changed)[0])
    assert not encoder.numeric_parts(changed)[0].any()


def test_what_training_never_met_adds_nothing():
    lists = random_lists(num_lists=30)
    encoder = ListEncoder.of(lists, OPTIONS).eval()
    batch = training_batch(lists, everything(lists))
    swapped = replace(batch, items_BN=torch.where(batch.mask_BN, (batch.items_BN + 1) % 12, -1))
    torch.testing.assert_close(encoder(batch)[0], encoder(swapped)[0])


def test_rare_items_are_not_embedded():
    lists = random_lists(num_lists=10)
    met = np.concatenate([lists.items_LN[lists.mask_LN], lists.histories.items_E])
    counts = np.bincount(met, minlength=12)
    encoder = ListEncoder.of(lists, OPTIONS.model_copy(update={"min_count": int(np.median(counts)) + 1}))
    assert encoder.common_I.tolist() == (counts > int(np.median(counts))).tolist()
    candidates_BND, users_BD = encoder(training_batch(lists, everything(lists)))
    (candidates_BND.square().sum() + users_BD.square().sum()).backward()
    moved = encoder.items.weight.grad.abs().sum(dim=1) > 0
    assert not moved[~encoder.common_I].any()
    assert moved[encoder.common_I].all()


def test_items_can_share_rows():
    lists = random_lists()
    encoder = woken(ListEncoder.of(lists, OPTIONS.model_copy(update={"item_rows": 5})))
    assert encoder.items.num_embeddings == 5
    vectors = encoder.embedded_items(torch.arange(12)[None])[0]
    torch.testing.assert_close(vectors[:5], vectors[5:10])
    assert not torch.allclose(vectors[0], vectors[1])


def test_given_vectors_are_read_and_not_trained():
    lists = random_lists()
    vectors_IE = torch.randn(12, 7, generator=torch.Generator().manual_seed(1))
    options = OPTIONS.model_copy(update={"item_ids": False})
    encoder = woken(ListEncoder.of(lists, options, vectors_IE))
    torch.testing.assert_close(encoder.embedded_items(torch.arange(12)[None])[0], vectors_IE @ encoder.vectors.weight.T)
    assert "item_vectors_IE" in encoder.state_dict()
    assert "item_vectors_IE" not in dict(encoder.named_parameters())
    with pytest.raises(ThinkrankError, match="11 item vectors for 12 items"):
        ListEncoder.of(lists, options, vectors_IE[:11])


def test_an_empty_history_is_the_mean_of_nothing():
    lists = random_lists()
    encoder = woken(ListEncoder.of(lists, OPTIONS))
    batch = training_batch(lists, everything(lists))
    empty_B = (batch.history_BH < 0).all(dim=1)
    assert empty_B.any()
    assert not encoder.user_parts(batch)[0][empty_B].any()
    cut = replace(batch, history_BH=batch.history_BH[:, :0])
    assert encoder(cut)[1].isfinite().all()


def test_lists_longer_than_any_in_training_are_read():
    lists = random_lists(longest=6)
    encoder = ListEncoder.of(lists.subset(np.flatnonzero(lists.lengths_L <= 3)), OPTIONS).eval()
    assert encoder(training_batch(lists, everything(lists)))[0].shape == (20, 6, 8)


def test_a_data_set_without_columns_is_enough():
    lists = random_lists()
    bare = replace(
        lists,
        numeric_LNF=lists.numeric_LNF[:, :, :0],
        numeric_names=(),
        categorical_LNC=lists.categorical_LNC[:, :, :0],
        categorical_names=(),
        categorical_values=(),
        context_LF=lists.context_LF[:, :0],
        context_names=(),
    )
    candidates_BND, users_BD = ListEncoder.of(bare, OPTIONS)(training_batch(bare, everything(bare)))
    assert candidates_BND.isfinite().all()
    assert users_BD.shape == (20, 8)
