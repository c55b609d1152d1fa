"""The plain pass, sequence beside sequence: padding changes nothing."""

import pytest
import torch

from thinkrank.language import hidden_states, pad, tiny_backbone

ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma3_text"]
SEQUENCES = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_side_and_company_change_no_state(architecture):
    backbone = tiny_backbone(["abc"], architecture=architecture)
    with torch.no_grad():
        alone = [hidden_states(backbone, *pad([sequence], backbone.pad_id))[0] for sequence in SEQUENCES]
        for side in ("left", "right"):
            ids, mask = pad(SEQUENCES, backbone.pad_id, side=side)
            together = hidden_states(backbone, ids, mask)
            for row, expected in enumerate(alone):
                torch.testing.assert_close(together[row][mask[row]], expected, atol=1e-5, rtol=1e-5)


def test_the_pad_id_may_occur_inside_a_text():
    backbone = tiny_backbone(["abc"])
    ids, mask = pad([[7, backbone.pad_id, 9], [7]], backbone.pad_id)
    assert ids.tolist() == [[7, backbone.pad_id, 9], [7, backbone.pad_id, backbone.pad_id]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_padding_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="left or right"):
        pad([[1]], 0, side="top")
    with pytest.raises(ValueError, match="no sequence"):
        pad([], 0)
