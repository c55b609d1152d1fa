"""Items as tokens of the upper layers alone: halves against the whole, packed against separate, gradients."""

from dataclasses import replace

import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language import (
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixTree,
    TransformersEngine,
    add_lora,
    packed_states,
    selective_logprobs,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.item_tokens import Halves, ItemTokens
from thinkrank.language.reading import read_all
from thinkrank.language.states import forward
from thinkrank.language.text import Prompt
from thinkrank.language.text_runs import text_runs

DEPTH, NUM_ITEMS = 2, 5
ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma3_text"]


def backbone_with_items(architecture="llama", *, dropout=0.0, **options):
    """Four layers, the upper two adapted with an effect, and five items with states and vectors of their own."""
    base = tiny_backbone(["a film", "another"], architecture=architecture, seed=3, num_layers=4, **options)
    adapted = add_lora(base, LoraOptions(rank=4, top_layers=2))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter_state(adapted).values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random))
    states_ID = torch.randn(NUM_ITEMS, adapted.hidden_size, generator=random)
    items = ItemTokens(states_ID, len(adapted.tokenizer), DEPTH, dropout).eval()
    with torch.no_grad():
        items.vectors_ID.copy_(torch.randn(items.vectors_ID.shape, generator=random))
        items.trained_I1[:-1] = 1
    return replace(adapted, items=items)


def item(backbone, row):
    return backbone.items.ids([row])[0]


def states_of(backbone, forest):
    packing = Packing(forest, backbone.device)
    return packing, packed_states(backbone, packing)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_halves_are_the_whole(architecture):
    backbone = backbone_with_items(architecture)
    packing = Packing(PrefixTree.groups([([5, 6, 7], [[8, 9], [10]]), ([4, 4], [])]))
    ids, places = packing.ids_T[None], packing.positions_T[None]
    halves = Halves(backbone.trunk(), DEPTH)
    together = halves.above(halves.below(ids, places, packing), places, packing)
    torch.testing.assert_close(together, forward(backbone, ids, places, packing))


def test_a_sliding_window_stays_with_its_layers():
    backbone = backbone_with_items("gemma3_text", sliding_window=3)
    packing = Packing(PrefixTree.rows([list(range(4, 16))]))
    ids, places = packing.ids_T[None], packing.positions_T[None]
    halves = Halves(backbone.trunk(), DEPTH)
    together = halves.above(halves.below(ids, places, packing), places, packing)
    torch.testing.assert_close(together, forward(backbone, ids, places, packing))


def by_hand(backbone, sequence):
    """One sequence alone: each run of text read below behind the beginning, then all of it above; in plain steps."""
    items = backbone.items
    halves = Halves(backbone.trunk(), items.depth)
    is_text = [token < items.first_id for token in sequence]
    first = (*is_text, False).index(False)
    runs, start = [], 0
    for stop in range(1, len(sequence) + 1):
        if stop == len(sequence) or is_text[stop] != is_text[start]:
            if is_text[start]:
                runs.append((first if start else 0, [*sequence[: first if start else 0], *sequence[start:stop]]))
            start = stop
    text_states = iter(
        torch.cat(
            [
                halves.below(torch.tensor([run]), torch.arange(len(run))[None], Packing(PrefixTree.rows([run])))[
                    0, skip:
                ]
                for skip, run in runs
            ]
        )
        if runs
        else ()
    )
    scale = items.states_ID.norm(dim=1).mean() / 60
    inputs = torch.stack(
        [
            next(text_states)
            if token < items.first_id
            else items.states_ID[token - items.first_id]
            + items.vectors_ID[token - items.first_id] * scale * (token - items.first_id < NUM_ITEMS - 1)
            for token in sequence
        ]
    )
    above = Packing(PrefixTree.rows([[0] * len(sequence)]))
    return halves.above(inputs[None], above.positions_T[None], above)[0]


def mixed_forest(backbone):
    """Histories of items behind a beginning; behind them text, once branching, once shared by all, once none."""
    a, b, c, d, e = (item(backbone, row) for row in range(NUM_ITEMS))
    return PrefixTree.groups(
        [
            ([3, a, b, e], [[7, 8], [9], [10, 11, 12]]),
            ([3, c, 7], [[4, d, 5], [8, e]]),
            ([3], [[a, a, a], [6]]),
            ([3, b], [[4, d, 5, 6, a, 5], [4, c, 5]]),
            ([a, 7], [[8, b, 9, 7, 8]]),
            ([3, d, c, b, a], []),
        ]
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_is_what_each_sequence_is_alone(architecture):
    backbone = backbone_with_items(architecture)
    forest = mixed_forest(backbone)
    packing, states_TD = states_of(backbone, forest)
    for leaf in forest.leaves:
        sequence = forest.sequence(leaf)
        alone = by_hand(backbone, sequence)
        places = [packing.place(leaf, position) for position in range(len(sequence))]
        torch.testing.assert_close(states_TD[places], alone, atol=2e-5, rtol=1e-4)


def test_gradients_reach_adapter_and_vectors_as_they_do_alone():
    backbone = backbone_with_items()
    forest = mixed_forest(backbone)
    weights = [*adapter_state(backbone).values(), backbone.items.vectors_ID]

    def gradients(loss):
        return torch.autograd.grad(loss, weights)

    packing, states_TD = states_of(backbone, forest)
    probe = torch.randn(backbone.hidden_size, generator=torch.Generator().manual_seed(5))
    packed = gradients(sum((states_TD[packing.last(leaf)] * probe).sum() for leaf in forest.leaves))
    alone = gradients(sum((by_hand(backbone, forest.sequence(leaf))[-1] * probe).sum() for leaf in forest.leaves))
    for one, other in zip(packed, alone, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()
    assert not packed[-1][NUM_ITEMS - 1].any()  # an item that training does not know has no vector
    assert packed[-1][0].any()


def test_text_below_sees_the_beginning_and_its_own_run():
    a, b = 50, 51
    forest = PrefixTree.groups([([3, 4, a, 7], [[8, b, 9], [b, 9]]), ([3, 4, b], [[7], [7, 8, a, 9]]), ([a, 7], [])])
    texts, tokens = text_runs(forest, 50)
    assert list(zip(texts.ids, texts.parents, strict=True)) == [
        ((3, 4), -1),
        ((7,), 0),
        ((8,), 1),
        ((9,), 0),
        ((7, 8), 0),
        ((7,), -1),
    ]
    for token in tokens:
        assert forest.ids[token.node][token.place] == texts.ids[token.text_node][token.text_place]
    found = {(token.node, token.place): token.text_node for token in tokens}
    assert sorted(found) == [
        (0, 0),
        (0, 1),
        (0, 3),
        (1, 0),
        (1, 2),
        (2, 1),
        (3, 0),
        (3, 1),
        (4, 0),
        (5, 0),
        (5, 1),
        (5, 3),
        (6, 1),
    ]
    assert [found[place] for place in sorted(found)] == [0, 0, 1, 2, 3, 3, 0, 0, 1, 4, 4, 3, 5]


def test_what_is_kept_of_text_is_what_is_read():
    backbone = backbone_with_items()
    forest = mixed_forest(backbone)
    first = states_of(backbone, forest)[1]
    reads = []
    below = backbone.halves.below
    backbone.halves.below = lambda ids, *rest: reads.append(ids.shape[1]) or below(ids, *rest)
    torch.testing.assert_close(states_of(backbone, forest)[1], first)
    assert not reads
    longer = PrefixTree.groups([([3, item(backbone, 1)], [[7, 8], list(range(4, 20))])])
    packing, states_TD = states_of(backbone, longer)
    assert reads == [17]  # the beginning again, for what stands behind it
    torch.testing.assert_close(states_TD[packing.last(2)], by_hand(backbone, longer.sequence(2))[-1])
    states_of(backbone, longer)
    assert reads == [17, 17]  # too long to be kept


def test_readings_of_text_alone_are_those_of_a_backbone_without_items():
    backbone = backbone_with_items()
    prompts = [Prompt.given([3, 4, 5]), Prompt.given([3, 9])]
    assert torch.equal(read_all(backbone, prompts), read_all(replace(backbone, items=None), prompts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_written_behind_items_is_scored_as_it_was_sampled(architecture):
    """Token by token with kept keys and values, rows joining and leaving, against one pass over each whole text."""
    backbone = backbone_with_items(architecture)
    a, b, c, d = (item(backbone, row) for row in (0, 3, 2, 4))
    behind = PrefixTree.groups(
        [([3, a, b], [[7, 8], [9], [10, 11, 12]]), ([3, d, 4, 5], []), ([3], [[a, a, a], [6]]), ([3, d, c, b, a], [])]
    )
    forest = PrefixTree((*behind.ids, (3, a, b), (), (b, b), (b, 9), (3, 4, 5)), (*behind.parents, -1, 9, 9, 9, -1))
    states_of(backbone, forest)  # what is kept of it does not stand in the way
    options = GenerationOptions(max_new_tokens=7, temperature=0.9, batch_size=4, seed=2)
    written = TransformersEngine(backbone).sample(forest, options, num_samples=2, suffix=(5, 6))
    assert len({completion.ids for samples in written for completion in samples}) > len(forest.leaves)
    for leaf, samples in zip(forest.leaves, written, strict=True):
        for completion in samples:
            prompt, kept = forest.sequence(leaf), completion.ids[: completion.num_before_stop]
            packing = Packing(PrefixTree.groups([(prompt, [completion.ids, (*kept, 5, 6)])]))
            states_TD = packed_states(backbone, packing)
            tokens = packing.ids_T[packing.tokens([1])]
            scores = selective_logprobs(backbone, states_TD[packing.predictors([1])], tokens).logprobs_N
            assert scores.tolist() == pytest.approx(list(completion.own_logprobs), abs=1e-4)
            torch.testing.assert_close(completion.last_state, states_TD[packing.last(2)], atol=1e-4, rtol=1e-3)


def test_dropout_is_drawn_in_training_alone():
    backbone = backbone_with_items(dropout=0.5)
    ids = torch.tensor(backbone.items.ids([0, 1, 2]))
    assert torch.equal(backbone.items.inputs(ids), backbone.items.inputs(ids))
    backbone.items.train()
    assert not torch.equal(backbone.items.inputs(ids), backbone.items.inputs(ids))


def test_more_items_stand_for_their_texts():
    backbone = backbone_with_items()
    before = backbone.items.inputs(torch.tensor(backbone.items.ids(range(NUM_ITEMS))))
    more = torch.randn(2, backbone.hidden_size)
    backbone.items.grow(more)
    after = backbone.items.inputs(torch.tensor(backbone.items.ids(range(NUM_ITEMS + 2))))
    assert torch.equal(after, torch.cat([before, more]))


def test_what_cannot_be_read_is_told():
    backbone = backbone_with_items()
    with pytest.raises(ThinkrankError, match="halved behind layer 4"):
        Halves(backbone.trunk(), 4)
    with pytest.raises(ThinkrankError, match="cannot be halved"):
        Halves(torch.nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match="no item tokens"):
        _ = replace(backbone, items=None).halves


def test_marks_have_vectors_of_their_own_beside_the_items():
    random = torch.Generator().manual_seed(2)
    items = ItemTokens(torch.randn(NUM_ITEMS, 6, generator=random), 50, DEPTH, 0.0, num_marks=4)
    with torch.no_grad():
        items.vectors_ID.normal_(generator=random)
        items.marks_MD.normal_(generator=random)
        items.trained_I1[:3] = 1
    ids = items.ids([0, 4, 2], [3, 0, 1])
    assert ids == [50 + 3, 50 + 16, 50 + 9]
    expected = torch.stack(
        [
            items.states_ID[0] + items.scale * (items.vectors_ID[0] + items.marks_MD[3]),
            items.states_ID[4] + items.scale * items.marks_MD[0],
            items.states_ID[2] + items.scale * (items.vectors_ID[2] + items.marks_MD[1]),
        ]
    )
    torch.testing.assert_close(items.inputs(torch.tensor(ids)), expected)
    items.hidden_I = torch.tensor([True, False, False, False, False])
    alone = items.states_ID[0] + items.scale * items.marks_MD[3]
    torch.testing.assert_close(items.inputs(torch.tensor(ids))[0], alone)


def test_beginnings_of_histories_are_read_below_once():
    backbone = backbone_with_items()
    histories = [(1, item(backbone, 0), item(backbone, 1)), (1, item(backbone, 2))]
    first = states_of(backbone, PrefixTree.rows(histories))[1]
    assert [ids for ids, *_ in backbone.halves._kept] == [(1,)]
    assert torch.equal(states_of(backbone, PrefixTree.rows(histories))[1], first)
    for history, state in zip(histories, (first[2], first[-1]), strict=True):
        torch.testing.assert_close(states_of(backbone, PrefixTree.rows([history]))[1][-1], state)


def test_histories_that_were_read_before_are_written_behind_as_if_they_had_not():
    backbone = backbone_with_items()
    forest = PrefixTree.rows([(1, item(backbone, 0), item(backbone, 1)), (1, item(backbone, 2))])
    options = GenerationOptions(max_new_tokens=7, temperature=0.9, seed=2)
    first = TransformersEngine(backbone).sample(forest, options, num_samples=3)
    states_of(backbone, forest)
    assert [[one.ids for one in many] for many in first] == [
        [one.ids for one in many] for many in TransformersEngine(backbone).sample(forest, options, num_samples=3)
    ]


def test_nothing_is_written_behind_a_second_run_of_text():
    backbone = backbone_with_items()
    forest = PrefixTree.rows([(1, item(backbone, 0), 7, item(backbone, 1))])
    with pytest.raises(ThinkrankError, match="text between them"):
        TransformersEngine(backbone).sample(forest, GenerationOptions(max_new_tokens=2))
