"""Devices by name: what is not there is told in one line."""

import pytest
import torch

from thinkrank.devices import default_device, named_device, random_state, set_random_state
from thinkrank.errors import ThinkrankError


def test_a_device_is_found_by_its_name():
    assert named_device("cpu") == torch.device("cpu")
    assert named_device("auto") == default_device()


@pytest.mark.parametrize("name", ["cuda:99", "mps:7", "xpu", "meta"])
def test_one_that_is_not_there_is_refused_with_the_way_out(name):
    with pytest.raises(ThinkrankError, match=rf"no device '{name}' .*use auto or cpu"):
        named_device(name)


def test_a_name_that_torch_does_not_know_is_refused():
    with pytest.raises(ThinkrankError, match="unknown device 'gpu'"):
        named_device("gpu")


def test_a_device_goes_on_drawing_from_a_state_that_was_kept():
    device = torch.device("cpu")
    kept = random_state(device)
    drawn = torch.rand(3)
    torch.manual_seed(99)
    set_random_state(device, kept)
    assert torch.equal(torch.rand(3), drawn)
