import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.language import hidden_states, pad, tiny_backbone
from thinkrank.language.pooling import last_states

ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma3_text"]
SEQUENCES = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_side_and_company_do_not_change_a_vector(architecture):
    backbone = tiny_backbone(["abc"], architecture=architecture)
    with torch.no_grad():
        alone = []
        for sequence in SEQUENCES:
            ids, mask = pad([sequence], backbone.pad_id)
            alone.append(hidden_states(backbone, ids, mask)[0, -1])
        for side in ("left", "right"):
            ids, mask = pad(SEQUENCES, backbone.pad_id, side=side)
            together = last_states(hidden_states(backbone, ids, mask), mask)
            torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-5)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1, max_size=5))
def test_the_last_state_is_the_one_at_the_last_real_token(rows):
    mask = torch.tensor(rows)
    states = torch.arange(mask.numel(), dtype=torch.float32).reshape(*mask.shape, 1)
    expected = [4 * b + max(t for t in range(4) if row[t]) for b, row in enumerate(rows)]
    assert last_states(states, mask)[:, 0].tolist() == expected


def test_the_pad_id_may_occur_inside_a_text():
    backbone = tiny_backbone(["abc"])
    ids, mask = pad([[7, backbone.pad_id, 9], [7]], backbone.pad_id)
    states = torch.arange(6.0).reshape(2, 3, 1)
    assert last_states(states, mask)[:, 0].tolist() == [2.0, 3.0]
    assert ids.tolist() == [[7, backbone.pad_id, 9], [7, backbone.pad_id, backbone.pad_id]]


def test_a_row_without_tokens_has_no_vector():
    with pytest.raises(ValueError, match="without any real token"):
        last_states(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool))


def test_padding_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="left or right"):
        pad([[1]], 0, side="top")
    with pytest.raises(ValueError, match="no sequence"):
        pad([], 0)
