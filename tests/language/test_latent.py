"""Latent positions: packed against separate, steps against plain rows, gradients, kept states, what sees what."""

from dataclasses import replace

import pytest
import torch

from language.test_item_tokens import ARCHITECTURES, backbone_with_items, item, mixed_forest
from thinkrank.language import Packing, PrefixTree, Prompt, packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.language.item_tokens import Halves
from thinkrank.language.kept_states import KeptStates
from thinkrank.language.latent import LatentPositions, behind_places, read_places
from thinkrank.language.reading import read_growing, read_steps

KINDS = ["none", "state", "parallel"]


def latents_of(backbone, steps=3, feedback="state", **options):
    """Positions whose feedback has an effect."""
    latents = LatentPositions(backbone.items.states_ID, steps, feedback=feedback, rank=4, **options)
    if latents.up_DR is not None:
        with torch.no_grad():
            latents.up_DR.normal_(std=0.5, generator=torch.Generator().manual_seed(9))
    return latents


def rows_of_items(backbone):
    a, b, c, d, _ = (item(backbone, row) for row in range(5))
    return [[3, a], [3, a, b, c], [3, d, d], [3]]


def alone(backbone, latents, sequence):
    """The definition: the sequence as a row of inputs, one position more for each step, read anew for every state."""
    packing = Packing(PrefixTree.rows([sequence]), backbone.device)
    halves, items = Halves(backbone.trunk(), backbone.items.depth), backbone.items
    begin = Packing(PrefixTree.rows([sequence[:1]]))
    below = halves.below(begin.ids_T[None], begin.positions_T[None], begin)[0]
    inputs = torch.cat([below, items.inputs(packing.ids_T[1:])]) if len(sequence) > 1 else below

    def end(more):
        row = torch.cat([inputs, *more])
        above = Packing(PrefixTree.rows([[0] * len(row)]))
        return halves.above(row[None], above.positions_T[None], above)[0, -1:]

    states, more = [end([])], []
    for step in range(latents.steps):
        new = latents.inputs(step, states[-1])
        more = [new] if latents.feedback == "parallel" else [*more, new]
        states.append(end(more))
    return torch.cat(states)


@pytest.mark.parametrize("feedback", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_is_what_each_place_is_alone(architecture, feedback):
    backbone = backbone_with_items(architecture)
    latents = latents_of(backbone, feedback=feedback)
    sequences = rows_of_items(backbone)
    packing = Packing(PrefixTree.rows(sequences), records=True)
    places = [(node, position) for node, ids in enumerate(sequences) for position in range(len(ids))][::-1]
    places_N = torch.tensor([packing.place(*place) for place in places])
    found = read_places(backbone, packing, places_N, latents)
    for (node, position), states_SD in zip(places, found, strict=True):
        torch.testing.assert_close(
            states_SD, alone(backbone, latents, sequences[node][: position + 1]), atol=2e-4, rtol=1e-3
        )


def test_a_sliding_window_moves_on_with_the_steps():
    backbone = backbone_with_items("gemma3_text", sliding_window=4)
    sequence = [3, *backbone.items.ids([0, 1, 2, 3, 0, 2])]
    for feedback in KINDS:
        latents = latents_of(backbone, feedback=feedback)
        packing = Packing(PrefixTree.rows([sequence]), records=True)
        found = read_places(backbone, packing, torch.tensor([5, 6]), latents)
        torch.testing.assert_close(found[0], alone(backbone, latents, sequence[:6]), atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(found[1], alone(backbone, latents, sequence), atol=2e-4, rtol=1e-3)


def test_a_branching_row_is_what_its_sequences_are():
    backbone = backbone_with_items()
    latents, forest = latents_of(backbone), mixed_forest(backbone)
    packing = Packing(forest, records=True)
    places = [(leaf, position) for leaf in forest.leaves for position in range(forest.ends[leaf])]
    places_N = torch.tensor([packing.place(*place) for place in places])
    found = read_places(backbone, packing, places_N, latents)
    for (leaf, position), states_SD in zip(places, found, strict=True):
        apart = Packing(PrefixTree.rows([forest.sequence(leaf)]), records=True)
        expected = read_places(backbone, apart, torch.tensor([position]), latents)[0]
        torch.testing.assert_close(states_SD, expected, atol=2e-4, rtol=1e-3)


def test_what_stands_behind_changes_no_state_of_the_row():
    backbone = backbone_with_items()
    forest = mixed_forest(backbone)
    plain = packed_states(backbone, Packing(forest))
    packing = Packing(forest, records=True)
    places_N = torch.arange(len(packing))
    assert torch.equal(read_places(backbone, packing, places_N, latents_of(backbone))[:, 0], plain)
    assert torch.equal(read_places(backbone, Packing(forest), places_N, None)[:, 0], plain)


def test_gradients_are_finite_differences():
    backbone = backbone_with_items()
    latents = latents_of(backbone, steps=2)
    packing = Packing(PrefixTree.rows(rows_of_items(backbone)), records=True)
    random = torch.Generator().manual_seed(5)
    probe = torch.randn(3, backbone.hidden_size, generator=random)

    def loss():
        states = read_places(backbone, packing, torch.tensor([1, 4, 7]), latents)
        return (states * probe).double().sum()

    weights = [latents.vectors_KD, latents.down_RD, latents.up_DR, backbone.items.vectors_ID]
    weights.append(next(iter(adapter_state(backbone).values())))
    gradients = torch.autograd.grad(loss(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        step = torch.randn(weight.shape, generator=random)
        step /= step.norm()
        with torch.no_grad():
            weight += 1e-2 * step
            above = loss()
            weight -= 2e-2 * step
            below = loss()
            weight += 1e-2 * step
        expected = ((above - below) / 2e-2).item()
        assert (gradient * step).sum().item() == pytest.approx(expected, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("feedback", KINDS)
def test_kept_states_are_fresh_ones(feedback):
    plain = backbone_with_items()
    keeping = replace(plain, kept=KeptStates(100))
    latents = latents_of(plain, feedback=feedback)
    sequences = rows_of_items(plain)
    grown = [*sequences, [*sequences[1], *plain.items.ids([3, 3])], sequences[1]]
    for ids in grown:
        prompt = [Prompt.given(ids)]
        found, fresh = read_steps(keeping, prompt, latents), read_steps(plain, prompt, latents)
        torch.testing.assert_close(found, fresh, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found[:, 0], read_growing(keeping, prompt))
    assert keeping.kept.hits > 2
    together = read_steps(plain, [Prompt.given(ids) for ids in grown], latents)
    each = torch.cat([read_steps(plain, [Prompt.given(ids)], latents) for ids in grown])
    torch.testing.assert_close(together, each, atol=2e-4, rtol=1e-3)


def test_fed_back_states_may_be_anothers():
    backbone = backbone_with_items()
    prompts = [Prompt.given(ids) for ids in rows_of_items(backbone)]
    latents = latents_of(backbone)
    own, others = (read_steps(backbone, prompts, latents, exchanged=exchanged) for exchanged in (False, True))
    assert torch.equal(own[:, 0], others[:, 0])
    assert not torch.allclose(own[:, 1:], others[:, 1:], atol=1e-3)
    packing = Packing(PrefixTree.rows([[3]]), records=True)
    with pytest.raises(ValueError, match="feedback = state and at least two places"):
        read_places(backbone, packing, torch.tensor([0]), latents, exchanged=True)
    with pytest.raises(ValueError, match="records=True"):
        behind_places(backbone, Packing(PrefixTree.rows([[3]])), own[:1, 0], torch.tensor([0]), latents)


def test_fresh_feedback_has_no_effect_and_steps_differ():
    backbone = backbone_with_items()
    prompts = [Prompt.given(ids) for ids in rows_of_items(backbone)]
    fed, plain = (LatentPositions(backbone.items.states_ID, 2, feedback=kind, seed=3) for kind in ("state", "none"))
    states = read_steps(backbone, prompts, fed)
    torch.testing.assert_close(states, read_steps(backbone, prompts, plain))
    assert not torch.allclose(states[:, 1], states[:, 2], atol=1e-2)
    frozen = LatentPositions(backbone.items.states_ID, 2, feedback="none", trained=False)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
