import pytest
import torch

from thinkrank.retrieve.r2ec.balance import TermGradients, TokenBalance


@pytest.mark.parametrize("share", [0.5, 1.0, 1.5])
def test_the_token_term_is_brought_to_its_share_and_not_drowned(share):
    """A fifth of the others' gradient, as in the shop's warm start, becomes what is asked for."""
    balance = TokenBalance(share)
    assert balance.factor == 1.0
    for _ in range(30):
        balance.observe({"token_norm": 0.62 * balance.factor, "others_norm": 3.1})
    assert 0.62 * balance.factor == pytest.approx(share * 3.1)


def test_a_batch_whose_rewards_tie_does_not_blow_up_the_token_term():
    balance = TokenBalance(1.0)
    balance.observe({"token_norm": 0.0, "others_norm": 3.0})
    assert balance.factor == 1.0
    balance.observe({"token_norm": 1e-6, "others_norm": 3.0})
    assert balance.factor == 10.0
    unbalanced = TokenBalance(0.0)
    unbalanced.observe({"token_norm": 1.0, "others_norm": 3.0})
    assert unbalanced.factor == 1.0


def test_parts_add_up_and_their_halves_are_compared():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    unused = torch.tensor([5.0], requires_grad=True)
    gradients = TermGradients([weight, unused])
    gradients.add({"token": 3 * weight[0], "floor": weight.sum(), "line": -weight[1]})
    gradients.add({"token": 4 * weight[1], "floor": weight.sum(), "line": -weight[1]})
    facts = gradients.facts()
    assert facts == pytest.approx(
        {"token_norm": 5.0, "floor_norm": 8**0.5, "line_norm": 2.0, "others_norm": 2.0, "token_cosine": 0.0}
    )
