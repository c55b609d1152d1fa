"""Keys and values of the nodes of one depth of a prefix tree, multiplied with the rows below them.

Shape legend: R rows, N places of nodes, F rows below a node at most, P tokens of the longest node, J key-value heads,
G queries of one such head, E head width.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thinkrank.language.prefix_tree import PrefixTree

_STRETCH = 64
"""Tokens by which room grows for a longer node, so that the next one, a little longer, finds room too."""


class Level:
    """Hold the nodes of one depth that some row needs: keys and values, and which row is below which node.

    A node has a place as long as a row needs it; then another one takes that place. What stays is copied only where a
    node is moved into a hole, or where there is too little room, or more than twice what is needed.

    Args:
        depth: of the nodes; 0 for roots.
        layers: that are held.
        empty: makes keys and values of so many places for so many tokens, all 0.
        device: of both.

    Attributes:
        index: place of each node.
        layers: by layer, keys and values (places, J, tokens, E) with room for more than there are.
    """

    def __init__(
        self,
        depth: int,
        layers: range,
        empty: Callable[[int, int], tuple[Tensor, Tensor]],
        device: torch.device,
    ) -> None:
        self.depth, self._empty, self._device = depth, empty, device
        self.index: dict[int, int] = {}
        self.layers = {layer: empty(0, 0) for layer in layers}
        self.num_places = self.width = 0
        """What is in use of the room."""
        self._room = (0, 0)

    def room(self, forest: PrefixTree, nodes: Sequence[int], *, tight: bool = False) -> tuple[int, int]:
        """Choose for how many places and tokens there will be room.

        Args:
            forest: of the nodes.
            nodes: those that rows will need.
            tight: whether to take no more than is needed.
        """
        count, longest = len(nodes), max(len(forest.ids[node]) for node in nodes)
        places, width = self._room
        loose = (
            places if count <= places else max(count, places * 3 // 2),
            width if longest <= width else -(-longest // _STRETCH) * _STRETCH,
        )
        return (count, longest) if tight or 2 * count * longest < loose[0] * loose[1] else loose

    def seat(self, forest: PrefixTree, nodes: Sequence[int], leaves: Sequence[int], *, tight: bool) -> None:
        """Give nodes and rows their places; what was not there before is to be filled in by the caller.

        Args:
            forest: of the nodes.
            nodes: those that rows need.
            leaves: of each row.
            tight: see `room`.
        """
        room = self.room(forest, nodes, tight=tight)
        needed = set(nodes)
        stays = {node: place for node, place in self.index.items() if node in needed}
        free = sorted(set(range(len(nodes))).difference(stays.values()), reverse=True)
        self.index = {
            node: place if (place := stays.get(node, len(nodes))) < len(nodes) else free.pop() for node in nodes
        }
        moves = [(place, self.index[node]) for node, place in stays.items()]
        if room == self._room:
            moves = [(old, new) for old, new in moves if old != new]
        self._move(moves, room)
        self.num_places = len(nodes)
        by_place = sorted(self.index, key=self.index.__getitem__)
        lengths = [len(forest.ids[node]) for node in by_place]
        self.width = max(lengths)
        self.lengths_N = torch.tensor(lengths, device=self._device)
        self.starts_N = torch.tensor([forest.starts[node] for node in by_place], device=self._device)
        self._seat_rows([forest.path(leaf) for leaf in leaves])

    def _move(self, moves: Sequence[tuple[int, int]], room: tuple[int, int]) -> None:
        """Copy keys and values from places to others, into new memory if the room is another one."""
        old, new = (torch.tensor([pair[i] for pair in moves], dtype=torch.long, device=self._device) for i in range(2))
        renewed, self._room = room != self._room, room
        if not renewed and not moves:
            return
        for layer, before in self.layers.items():
            after = self._empty(*room) if renewed else before
            for to, was in zip(after, before, strict=True):
                common = min(to.shape[2], was.shape[2])
                to[new, :, :common] = was[old, :, :common]
            self.layers[layer] = after

    def _seat_rows(self, paths: Sequence[tuple[int, ...]]) -> None:
        """Give each row a seat below its node; every node has as many seats as the fullest needs."""
        taken = [0] * self.num_places
        seats: list[tuple[int, int] | None] = []
        for path in paths:
            if self.depth < len(path):
                n = self.index[path[self.depth]]
                seats.append((n, taken[n]))
                taken[n] += 1
            else:
                seats.append(None)
        self.fan = max(taken)
        place = [-1 if seat is None else seat[0] * self.fan + seat[1] for seat in seats]
        self.in_order = place == list(range(self.num_places * self.fan))
        self.absent_R = torch.tensor([seat is None for seat in seats], device=self._device) if None in seats else None
        rows = [row for row, seat in enumerate(place) if seat >= 0]
        self.present = torch.tensor(rows, dtype=torch.long, device=self._device)
        self.seats = torch.tensor([place[row] for row in rows], dtype=torch.long, device=self._device)
        self.seats_R = torch.tensor([max(0, seat) for seat in place], dtype=torch.long, device=self._device)

    def behind(self, positions_R: Tensor) -> Int[Tensor, "R P"]:
        """Tell how far each key lies behind its row's token; -1 for what is not there."""
        indices_P = torch.arange(self.width, device=positions_R.device)
        nodes_R = self.seats_R // self.fan
        behind_RP = (positions_R - self.starts_N[nodes_R])[:, None] - indices_P
        behind_RP = behind_RP.masked_fill(indices_P >= self.lengths_N[nodes_R][:, None], -1)
        return behind_RP if self.absent_R is None else behind_RP.masked_fill(self.absent_R[:, None], -1)

    def scores(self, layer: int, queries_RJGE: Tensor) -> Float[Tensor, "R J G P"]:
        """Multiply each row with the keys of its node."""
        keys_NJPE = self.layers[layer][0][: self.num_places, :, : self.width]
        return self._each_node(queries_RJGE, keys_NJPE.transpose(2, 3))

    def mix(self, layer: int, shares_RJGP: Tensor) -> Float[Tensor, "R J G E"]:
        """Mix the values of each row's node."""
        return self._each_node(shares_RJGP, self.layers[layer][1][: self.num_places, :, : self.width])

    def _each_node(self, x_RJGX: Tensor, y_NJXY: Tensor) -> Tensor:
        """Multiply the rows below a node, as one matrix, with what belongs to the node."""
        nodes, heads, groups = self.num_places, *x_RJGX.shape[1:3]
        if not self.in_order:
            seated = x_RJGX.new_zeros(nodes * self.fan, *x_RJGX.shape[1:])
            x_RJGX = seated.index_copy_(0, self.seats, x_RJGX if self.absent_R is None else x_RJGX[self.present])
        together = x_RJGX.view(nodes, self.fan, heads, groups, -1).transpose(1, 2)
        product = (
            (together.reshape(nodes, heads, self.fan * groups, -1) @ y_NJXY)
            .view(nodes, heads, self.fan, groups, -1)
            .transpose(1, 2)
        )
        product = product.reshape(nodes * self.fan, heads, groups, -1)
        if self.in_order:
            return product
        product = product[self.seats_R]
        return product if self.absent_R is None else product.masked_fill(self.absent_R[:, None, None, None], 0)
