"""Reading prompts many at a time gives the states that reading each alone gives."""

import pytest
import torch

from thinkrank.language import Prompt, hidden_states, pad, tiny_backbone
from thinkrank.language.reading import read_all, read_behind, read_last

PROMPTS = [Prompt.given(list(ids)) for ids in ([5, 6, 7, 8, 9, 3, 4], [5, 6, 7, 8, 9, 11], [5, 6, 7, 8, 9, 12, 13, 14])]


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(["abc"])


def alone(backbone, ids):
    with torch.no_grad():
        return hidden_states(backbone, *pad([ids], backbone.pad_id))[0, -1]


@pytest.mark.parametrize("batch_tokens", [1, 10, 4096])
def test_company_changes_no_state(backbone, batch_tokens):
    expected = torch.stack([alone(backbone, prompt.ids) for prompt in PROMPTS])
    torch.testing.assert_close(read_last(backbone, PROMPTS), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read_all(backbone, PROMPTS, batch_tokens=batch_tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 10, 4096])
def test_endings_are_read_behind_their_prompts(backbone, batch_tokens):
    prompts, endings = [PROMPTS[0], PROMPTS[0], PROMPTS[1]], [[20], [21, 22], [20, 23]]
    expected = torch.stack([alone(backbone, [*p.ids, *e]) for p, e in zip(prompts, endings, strict=True)])
    states = read_behind(backbone, prompts, endings, batch_tokens=batch_tokens)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 10, 4096])
def test_endings_are_read_behind_prompts_that_grow(backbone, batch_tokens):
    longer = [PROMPTS[1], PROMPTS[1], PROMPTS[1].given([*PROMPTS[1].ids, 4, 4]), PROMPTS[2]]
    endings = [[20], [21, 22], [20, 23], []]
    expected = torch.stack([alone(backbone, [*p.ids, *e]) for p, e in zip(longer, endings, strict=True)])
    states = read_behind(backbone, longer, endings, batch_tokens=batch_tokens)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


def test_nothing_to_read_gives_no_state(backbone):
    assert read_all(backbone, []).shape == read_behind(backbone, [], []).shape == (0, backbone.hidden_size)
