"""Rows with an Adam of their own against torch's Adam on each row."""

import torch
from torch import nn

from thinkrank.training.row_adam import RowAdam

BETAS = (0.9, 0.98)


def updates(num_items=12, width=3, seed=0, number=9):
    """Rows that each update touches, some twice, and their gradients."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(number):
        rows_N = torch.randint(0, num_items, (4,), generator=random)
        yield torch.cat([rows_N, rows_N[:1]]), torch.randn(5, width, generator=random)


def embedding(num_items=12, width=3):
    torch.manual_seed(5)
    return nn.Embedding(num_items, width, sparse=True)


def step(table, optimiser, rows_N, weights_ND, rate=0.1):
    (table(rows_N) * weights_ND).sum().backward()
    optimiser.step(rate)


def test_each_row_is_stepped_as_an_adam_of_its_own_would():
    table = embedding()
    rows = [nn.Parameter(row_D.clone()) for row_D in table.weight.detach()]
    adams = [torch.optim.Adam([row_D], lr=0.1, betas=BETAS) for row_D in rows]
    optimiser = RowAdam(table.weight, BETAS)
    for rows_N, weights_ND in updates():
        step(table, optimiser, rows_N, weights_ND)
        for row in rows_N.unique().tolist():
            rows[row].grad = weights_ND[rows_N == row].sum(dim=0)
            adams[row].step()
        torch.testing.assert_close(table.weight, torch.stack(rows))


def test_what_no_update_touches_has_no_state_and_stays():
    table = embedding(1000)
    before = table.weight.detach().clone()
    optimiser, touched = RowAdam(table.weight, BETAS), set()
    for rows_N, weights_ND in updates(1000):
        step(table, optimiser, rows_N, weights_ND)
        touched |= set(rows_N.tolist())
    kept = optimiser.tensors()
    assert sorted(kept["rows_S"].tolist()) == sorted(touched)
    assert kept["moments_2SD"].shape == (2, len(touched), 3)
    changed = (table.weight != before).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == sorted(touched)


def test_a_restored_one_goes_on_as_if_it_had_never_stopped():
    whole, halves = embedding(), embedding()
    one, first = RowAdam(whole.weight, BETAS), RowAdam(halves.weight, BETAS)
    second = RowAdam(halves.weight, BETAS)
    for number, update in enumerate(updates()):
        step(whole, one, *update)
        if number == 5:
            second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
        step(halves, second if number >= 5 else first, *update)
        assert torch.equal(whole.weight, halves.weight)


def test_nothing_happens_without_a_gradient():
    table = embedding()
    before = table.weight.detach().clone()
    RowAdam(table.weight, BETAS).step(0.1)
    assert torch.equal(table.weight, before)
