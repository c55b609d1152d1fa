"""Whether a generator uses its state is measured, and what an evaluator leaves to gain."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from thinkrank.rerank import GeneratorOptions, ReasoningOptions
from thinkrank.rerank.eglr.generators import Context, Rows
from thinkrank.rerank.eglr.search import best_found, headroom, next_logits
from thinkrank.rerank.eglr.state import state_report
from thinkrank.rerank.eglr.writer import ListWriter
from thinkrank.rerank.lists import ListEncoder, training_batches

PLACES = 4


@dataclass(frozen=True)
class Seen(Rows):
    sum_RD: Tensor


class Toy(nn.Module):
    """z_i = first number of the token - weight * what was consumed, along the token: 0 sorts, 9 avoids what it has."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def encode(self, joint_BNE, mask_BN):
        return Context(joint_BNE[:, :, :8].sin(), mask_BN)

    def init_state(self, context):
        return Seen(torch.zeros_like(context.tokens_RND[:, 0]))

    def step(self, context, state, tokens_RD, slot):
        return Seen(state.sum_RD + tokens_RD)

    def logits(self, context, state):
        tokens_RND = context.tokens_RND
        return tokens_RND[:, :, 0] - self.weight * (tokens_RND @ state.sum_RD[:, :, None])[:, :, 0]


@pytest.fixture
def parts(lists):
    return list(training_batches(lists, 25))


def writer_of(split, weight, mode="fixed"):
    torch.manual_seed(0)
    encoder = ListEncoder.of(split.train)
    for weights in encoder.parameters():
        nn.init.normal_(weights, std=0.5)
    return ListWriter(encoder, GeneratorOptions(width=8), ReasoningOptions(mode=mode), Toy(weight))


def test_a_generator_that_sorts_writes_the_same_lists_with_its_state_frozen_and_one_that_looks_back_does_not(
    split, parts
):
    sorts = state_report(writer_of(split, 0.0), parts, PLACES)
    assert (sorts.unchanged_lists, sorts.unchanged_places) == (1, 1)
    assert (sorts.moved_by_item, sorts.moved_by_thought) == (0, 0)
    assert sorts.logit_spread > 0
    assert not sorts.uses_state
    assert "does not use its state: no thought can matter" in sorts.sentence
    looks = state_report(writer_of(split, 9.0, "none"), parts, PLACES)
    assert looks.unchanged_lists < 0.5
    assert looks.unchanged_lists < looks.unchanged_places < 1
    assert looks.moved_by_item > 0.1
    assert looks.moved_by_thought is None
    assert looks.uses_state
    assert "uses its state" in looks.sentence


def test_what_comes_next_is_judged_behind_what_stands_above_it(model, parts):
    batch = parts[0]
    joint = model.evaluator.joint(batch)
    columns = model.writer.without_thinking().write(model.writer.context(batch), 3).columns_RK
    logits = next_logits(model.evaluator, joint, columns)
    for row, place, item in itertools.product((0, 7), range(3), range(2)):
        above = columns[row : row + 1, :place].clamp(min=0)
        alone = model.evaluator(joint[row : row + 1], torch.cat([above, torch.tensor([[item]])], dim=1))
        torch.testing.assert_close(logits[row, place, item], alone[0, -1], atol=1e-5, rtol=1e-5)


def test_the_search_finds_permutations_and_its_gain_is_counted_from_the_greedy_list(model, parts):
    batch = parts[0]
    joint = model.evaluator.joint(batch)
    columns, values = best_found(model.evaluator, joint, batch, PLACES, "discounted")
    for row, mask in zip(columns.tolist(), batch.mask_BN, strict=True):
        chosen = [column for column in row if column >= 0]
        assert len(set(chosen)) == len(chosen) == min(PLACES, int(mask.sum()))
        assert all(mask[column] for column in chosen)
    again = model.evaluator.rewards(joint, columns, "discounted").sum(dim=1)
    torch.testing.assert_close(values, again)
    users = torch.arange(sum(map(len, parts)))
    found = headroom(model.writer, model.evaluator, parts, PLACES, "discounted", users)
    assert found.lists == sum(map(len, parts))
    assert found.gain >= found.found - found.greedy - 1e-9
    assert 0 <= found.improved <= 1
    assert found.gain_error >= 0
