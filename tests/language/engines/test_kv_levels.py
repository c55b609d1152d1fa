"""Places of nodes: what stays keeps what it holds, whatever joins and leaves."""

import random

import pytest
import torch

from thinkrank.language.engines.kv_levels import Level
from thinkrank.language.prefix_tree import PrefixTree

LENGTHS = [3, 70, 5, 130, 9, 64, 2, 40, 7, 200, 11, 90]
FOREST = PrefixTree.rows([[node] * length for node, length in enumerate(LENGTHS)])
LAYERS = range(4, 6)


def empty(places: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(places, 2, tokens, 3), torch.zeros(places, 2, tokens, 3)


def fill(level: Level, node: int) -> None:
    """Write what tells node, layer and token, as reading a prompt does."""
    tokens = torch.arange(LENGTHS[node])[:, None]
    for layer in LAYERS:
        for sign, held in zip((1, -1), level.layers[layer], strict=True):
            held[level.index[node], :, : LENGTHS[node]] = sign * (1000.0 * node + 300 * layer + tokens)


def holds(level: Level, node: int) -> bool:
    tokens = torch.arange(LENGTHS[node])[:, None]
    return all(
        bool((held[level.index[node], :, : LENGTHS[node]] == sign * (1000.0 * node + 300 * layer + tokens)).all())
        for layer in LAYERS
        for sign, held in zip((1, -1), level.layers[layer], strict=True)
    )


@pytest.mark.parametrize("tight", [False, True])
def test_nodes_keep_what_they_hold_while_others_come_and_go(tight):
    chance, level = random.Random(0), Level(0, LAYERS, empty, torch.device("cpu"))
    before: set[int] = set()
    for _ in range(60):
        nodes = chance.sample(range(len(LENGTHS)), chance.randint(1, len(LENGTHS)))
        level.seat(FOREST, nodes, [*nodes, nodes[0]], tight=tight)
        assert sorted(level.index.values()) == list(range(len(nodes)))
        assert all(holds(level, node) for node in before.intersection(nodes))
        for node in set(nodes) - before:
            fill(level, node)
        needed = len(nodes) * max(LENGTHS[node] for node in nodes)
        places, _, width, _ = level.layers[4][0].shape
        assert needed <= places * width <= (needed if tight else 2 * needed)
        before = set(nodes)


def test_one_that_takes_the_place_of_another_moves_nobody():
    level = Level(0, LAYERS, empty, torch.device("cpu"))
    level.seat(FOREST, [1, 3, 5, 7], [1, 3, 5, 7], tight=False)
    memory, places = level.layers[4][0].data_ptr(), dict(level.index)
    level.seat(FOREST, [1, 3, 7, 11], [7, 11, 1, 3], tight=False)
    assert level.layers[4][0].data_ptr() == memory
    assert level.index == {1: places[1], 3: places[3], 7: places[7], 11: places[5]}
