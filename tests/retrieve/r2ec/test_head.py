import pytest
import torch
from torch.nn import functional

from thinkrank.retrieve.r2ec.config import HeadOptions
from thinkrank.retrieve.r2ec.head import RetrievalHead

PAPER = HeadOptions(temperature=0.02, learn_temperature=False, centred=False, item_bias=False, residual=False)


def test_the_papers_head_is_cosine_over_temperature():
    users, items = torch.randn(3, 8), torch.randn(5, 8)
    head = RetrievalHead(5, 8, PAPER)
    scores = head.scores(head.user_vectors(users), head.item_vectors(items))
    torch.testing.assert_close(scores, functional.cosine_similarity(users[:, None], items[None], dim=-1) / 0.02)
    assert not [p for p in head.parameters() if p.requires_grad]


def test_an_item_never_trained_keeps_a_residual_of_zero_and_its_text_vector():
    head = RetrievalHead(4, 8, HeadOptions())
    head.prepare(torch.tensor([3, 0, 1, 0]))
    table = torch.randn(4, 8)
    before = head.item_vectors(table).detach()
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    head.scores(head.user_vectors(torch.randn(6, 8)), head.item_vectors(table)).pow(2).sum().backward()
    optimizer.step()
    after = head.item_vectors(table).detach()
    torch.testing.assert_close(after[[1, 3]], before[[1, 3]])
    assert (after[[0, 2]] - before[[0, 2]]).norm(dim=1).min() > 1e-3


def test_some_items_have_the_vectors_they_have_in_the_whole_catalogue():
    head = RetrievalHead(6, 8, HeadOptions())
    head.prepare(torch.arange(1, 7))
    with torch.no_grad():
        assert head.residual_ID is not None
        head.residual_ID.normal_()
    table, some = torch.randn(6, 8), torch.tensor([4, 1])
    torch.testing.assert_close(head.item_vectors(table[some], some), head.item_vectors(table)[some])


def test_centring_makes_alike_states_differ():
    common = 100 * torch.ones(8)
    states = common + torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    head = RetrievalHead(50, 8, HeadOptions(residual=False))
    plain = head.scores(head.user_vectors(states), head.item_vectors(states)).detach() * 0.05
    head.center_on(states, torch.zeros(50, dtype=torch.bool), states)
    centred = head.scores(head.user_vectors(states), head.item_vectors(states)).detach() * 0.05
    off_diagonal = ~torch.eye(50, dtype=torch.bool)
    assert plain[off_diagonal].min() > 0.99
    assert centred[off_diagonal].mean().abs() < 0.1


def test_a_fixed_temperature_is_not_trained():
    assert not RetrievalHead(2, 4, HeadOptions(learn_temperature=False)).log_temperature.requires_grad
    with pytest.raises(ValueError, match="temperature"):
        HeadOptions(temperature=0)


def test_line_ends_and_closings_have_origins_of_their_own():
    states = torch.randn(6, 8)
    is_line = torch.tensor([True, False, True, True, False, False])
    head = RetrievalHead(3, 8, HeadOptions(residual=False))
    head.center_on(states, is_line, torch.zeros(3, 8))
    expected = states.clone()
    expected[is_line] -= states[is_line].mean(dim=0)
    expected[~is_line] -= states[~is_line].mean(dim=0)
    torch.testing.assert_close(head.user_vectors(states, is_line), functional.normalize(expected, dim=-1))
    closings = functional.normalize(states - states[~is_line].mean(dim=0), dim=-1)
    torch.testing.assert_close(head.user_vectors(states), closings)


def test_the_bias_begins_at_the_log_share_and_joins_the_cosines():
    head = RetrievalHead(3, 8, HeadOptions(residual=False))
    head.prepare(torch.tensor([0, 1, 5]))
    assert head.bias_I is not None
    torch.testing.assert_close(head.bias_I.exp() * 3, torch.tensor([1.0, 2.0, 6.0]))
    users, items = head.user_vectors(torch.randn(2, 8)), head.item_vectors(torch.randn(3, 8))
    plain = users @ items.T / 0.05
    torch.testing.assert_close(head.scores(users, items), plain + head.bias_I)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(head.scores(users, items[some], some), plain[:, some] + head.bias_I[some])


def test_items_never_trained_on_share_a_bias_and_hidden_ones_are_scored_like_them():
    head = RetrievalHead(3, 8, HeadOptions(shared_bias=True))
    head.prepare(torch.tensor([0, 1, 5]))
    assert head.bias_I is not None
    assert head.residual_ID is not None
    assert head.new_bias is not None
    with torch.no_grad():
        head.residual_ID.normal_()
        head.new_bias.fill_(2.0)
    states = torch.randn(3, 8)
    known = head.biases()
    assert known is not None
    assert known.tolist() == [2.0, head.bias_I[1].item(), head.bias_I[2].item()]
    text_alone = functional.normalize(states, dim=-1)
    torch.testing.assert_close(head.item_vectors(states)[0], text_alone[0])
    head.hidden_I = torch.tensor([False, True, False])
    torch.testing.assert_close(head.item_vectors(states)[:2], text_alone[:2])
    assert not torch.allclose(head.item_vectors(states)[2], text_alone[2])
    hidden = head.biases()
    assert hidden is not None
    assert hidden[1] == 2.0
    head.scores(text_alone, head.item_vectors(states)).sum().backward()
    assert head.residual_ID.grad is not None
    assert not head.residual_ID.grad[:2].any()
