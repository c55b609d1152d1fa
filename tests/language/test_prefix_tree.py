import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.language import PrefixTree

TOKENS = st.lists(st.integers(0, 9), max_size=5)


def test_three_levels_are_written_down_once():
    forest = PrefixTree.groups([([1, 2], [[3], [4, 5]]), ([6], [])]).grow([[[7], [8, 9]], [[7]], []])
    assert list(forest.sequences()) == [(6,), (1, 2, 3, 7), (1, 2, 3, 8, 9), (1, 2, 4, 5, 7)]
    assert forest.num_tokens == 10
    assert [forest.depths[leaf] for leaf in forest.leaves] == [0, 2, 2, 2]
    deepest = forest.leaves[2]
    assert (forest.starts[deepest], forest.ends[deepest]) == (3, 5)


@given(st.lists(TOKENS.filter(bool), max_size=6))
def test_sharing_changes_no_sequence_and_computes_no_more(sequences):
    plain = PrefixTree.rows(sequences)
    shared = plain.share()
    assert list(shared.sequences()) == [tuple(s) for s in sequences]
    assert shared.num_tokens <= plain.num_tokens


def test_a_common_beginning_is_shared_but_for_the_last_token():
    forest = PrefixTree.rows([[1, 2, 3, 4, 5, 6]] * 3).share()
    assert forest.ids == ((1, 2, 3, 4, 5), (6,), (6,), (6,))
    assert PrefixTree.rows([[1, 2], [1, 3]]).share().parents == (-1, -1), "two tokens are not worth a root"


def test_a_parent_stands_before_its_child():
    with pytest.raises(ValueError, match="node 0 has the parent 1"):
        PrefixTree(((1,), (2,)), (1, -1))
    with pytest.raises(ValueError, match="names 1 parents"):
        PrefixTree(((1,), (2,)), (-1,))


def test_a_sequence_has_a_token():
    with pytest.raises(ValueError, match="has no token"):
        PrefixTree.rows([[1], []])
    assert PrefixTree.groups([([], [[1]])]).sequence(1) == (1,), "a node may be empty, a sequence may not"


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=14), max_size=8))
def test_neighbours_share_what_they_begin_with_and_keep_their_order(sequences):
    tree = PrefixTree.neighbours(sequences)
    assert list(tree.sequences()) == [tuple(sequence) for sequence in sequences]
    assert all(tree.ids[leaf] for leaf in tree.leaves)
    assert tree.num_tokens <= sum(map(len, sequences))


def test_a_history_that_grows_is_written_down_once():
    history = list(range(20))
    tree = PrefixTree.neighbours([[*history[:8], 50], [*history[:14], 51, 52], [*history[:14], 53], [9, *history], [9]])
    assert tree.ids == (tuple(range(8)), (50,), tuple(range(8, 14)), (51, 52), (53,), (9, *history), (9,))
    assert tree.parents == (-1, 0, 0, 2, 2, -1, -1)
