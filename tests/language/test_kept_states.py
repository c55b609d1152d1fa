"""What is kept of sequences changes no state, is bounded, and saves reading."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from language.test_item_tokens import backbone_with_items
from thinkrank.language import Prompt, tiny_backbone
from thinkrank.language.kept_states import KeptStates
from thinkrank.language.reading import read_behind, read_growing

GROWING = [[5, 6], [5, 6, 7], [5, 6, 7, 8, 9], [5, 6, 11], [3, 4], [5, 6, 7], [5]]


def assert_same_states(plain, keeping, sequences, atol=1e-5):
    for ids in sequences:
        prompt = [Prompt.given(list(ids))]
        torch.testing.assert_close(read_growing(keeping, prompt), read_growing(plain, prompt), atol=atol, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_states_are_those_of_a_whole_reading(architecture):
    plain = tiny_backbone(["abc"], architecture=architecture)
    keeping = replace(plain, kept=KeptStates(100))
    assert_same_states(plain, keeping, GROWING)
    kept = keeping.kept
    assert (kept.hits, kept.misses) == (4, 3)
    assert (kept.tokens_kept, kept.tokens_read) == (2 + 3 + 2 + 2, 2 + 1 + 2 + 1 + 2 + 1 + 1)
    prompts, endings = [Prompt.given([5, 6, 7])] * 2 + [Prompt.given([3])], [[20], [21, 22], [4, 4]]
    expected = read_behind(plain, prompts, endings)
    torch.testing.assert_close(read_behind(keeping, prompts, endings), expected, atol=1e-5, rtol=1e-5)
    assert len(read_growing(keeping, [])) == 0


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_items_are_read_behind_items_and_text_beside_them_anew(architecture):
    plain = backbone_with_items(architecture)
    keeping = replace(plain, kept=KeptStates(100))
    a, b, c = plain.items.ids([0, 1, 2])
    sequences = [[4, a], [4, a, b], [4, a, b, c, a], [4, a, b, 7, 8], [4, a, c], [4, 7, 8], [4, 7]]
    assert_same_states(plain, keeping, sequences, atol=1e-3)  # the random upper layers amplify rounding
    assert (keeping.kept.hits, keeping.kept.misses) == (4, 3)  # not: what begins, the text behind items, text alone


def test_the_oldest_are_dropped_first_and_memory_is_bounded():
    plain = tiny_backbone(["abc"])
    keeping = replace(plain, kept=KeptStates(8))
    kept = keeping.kept
    assert_same_states(plain, keeping, [[5, 6, 7], [8, 9, 10], [5, 6, 7, 4], [8, 9, 10, 4]])
    assert (kept.num_tokens, kept.hits) == (8, 2)  # what has grown is kept once
    assert_same_states(plain, keeping, [[1] * 20, [8, 9]])
    assert (kept.num_tokens, kept.hits) == (6, 3)  # too long to be kept; [8, 9] took room from the older one
    assert_same_states(plain, keeping, [[5, 6], [8, 9, 3]])
    assert (kept.num_tokens <= 8, kept.hits) == (True, 4)


def test_threads_may_read_at_once():
    plain = tiny_backbone(["abc"])
    keeping = replace(plain, kept=KeptStates(30))
    sequences = [[5 + n % 3, *range(6, 8 + n % 5)] for n in range(24)]
    prompts = [Prompt.given(ids) for ids in sequences]
    expected = torch.cat([read_growing(plain, [prompt]) for prompt in prompts])
    with ThreadPoolExecutor(4) as pool:
        states = torch.cat([*pool.map(lambda prompt: read_growing(keeping, [prompt]), prompts)])
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    assert keeping.kept.hits > 10


def test_what_was_read_in_fp32_is_kept_apart():
    half = replace(tiny_backbone(["abc"]), kept=KeptStates(100))
    half.model.bfloat16()
    prompt = [Prompt.given([5, 6, 7, 8])]
    fast = read_growing(half, prompt)
    with half.exact():
        exact = read_growing(replace(half, kept=None), prompt)
        torch.testing.assert_close(read_growing(half, prompt), exact, atol=1e-5, rtol=1e-5)
        longer = [Prompt.given([5, 6, 7, 8, 9])]
        whole = read_growing(replace(half, kept=None), longer)
        torch.testing.assert_close(read_growing(half, longer), whole, atol=1e-5, rtol=1e-5)
    assert not torch.equal(fast, exact)


def test_a_history_that_grows_is_found_in_either_precision():
    """As under a server that writes in bf16 and answers in fp32: each reads only what is new."""
    kept = KeptStates(1000)
    half = replace(tiny_backbone(["abc"]), kept=kept)
    half.model.bfloat16()
    for length in (8, 9, 10):
        prompt = [Prompt.given([*range(5, 5 + length)])]
        read_growing(half, prompt)
        with half.exact():
            read_growing(half, prompt)
    assert (kept.misses, kept.hits) == (2, 4)
