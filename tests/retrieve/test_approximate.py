"""Indexes of faiss against the exact search of the same table."""

import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

from thinkrank import ThinkrankError
from thinkrank.retrieve.approximate import recall, share_found
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.search_options import SearchOptions

FLAT, IVF, HNSW = (SearchOptions(index=index, lists=8, probes=8, effort=64) for index in ("flat", "ivf", "hnsw"))


def tables(options, num_items=300, width=8):
    random = torch.Generator().manual_seed(0)
    rows_ID = torch.nn.functional.normalize(torch.randn(num_items, width, generator=random), dim=1)
    bias_I = torch.randn(num_items, generator=random)
    parts = {"bias_I": bias_I, "divisor": torch.tensor(0.3)}
    return ItemTable(rows_ID, **parts), ItemTable(rows_ID, **parts, options=options)


def asked(num_queries=7, num_items=300, width=8):
    random = np.random.default_rng(1)
    exclude = [random.integers(0, num_items, random.integers(0, 30)).astype(np.int32) for _ in range(num_queries)]
    return torch.randn(num_queries, width, generator=torch.Generator().manual_seed(2)), exclude


@pytest.mark.parametrize("options", [FLAT, IVF, HNSW], ids=lambda options: options.index)
@pytest.mark.parametrize("k", [1, 9, 300])
def test_an_index_that_looks_everywhere_gives_the_exact_answers(options, k):
    exact, indexed = tables(options.model_copy(update={"effort": 300}))
    queries_BD, exclude = asked()
    for table in (exact, indexed):
        table.withdraw(torch.tensor([3, 250]))
    for left_out in (None, exclude):
        expected, found = (table.search(queries_BD, k, exclude=left_out) for table in (exact, indexed))
        assert torch.equal(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


def test_what_was_written_added_or_withdrawn_is_noticed():
    _, table = tables(FLAT)
    query_D = torch.randn(8)
    table.search(query_D[None], 1)
    assert list(table.add(99 * query_D[None])) == [300]
    assert table.search(query_D[None], 1)[0].item() == 300
    table.write(torch.tensor([7]), 999 * query_D[None], step=1)
    assert table.search(query_D[None], 1)[0].item() == 7
    table.withdraw(torch.tensor([7]))
    assert table.search(query_D[None], 1)[0].item() == 300
    held = table.index  # as long as it lives, no other tensor can be taken for one that it was made of
    parts = [weakref.ref(part) for part in (table.rows_ID, table.bias_I)]
    table.add(query_D[None])
    assert all(part() is not None for part in parts)
    assert held is not table.index


def test_recall_is_the_share_of_the_exact_answer_that_is_found():
    queries_BD, exclude = asked(40)
    assert recall(tables(FLAT)[1], queries_BD, 10, exclude=exclude) == 1
    hasty = SearchOptions(index="ivf", lists=100, probes=1)
    found = recall(tables(hasty)[1], queries_BD, 10)
    assert 0 < found < 0.9
    assert recall(tables(hasty.model_copy(update={"probes": 40}))[1], queries_BD, 10) > found
    answers = torch.tensor([[1, 2, 3, 4], [5, 6, -1, -1]]), torch.tensor([[4, 9, 1, 8], [6, 7, -1, -1]])
    assert share_found(*answers) == (2 / 4 + 1 / 2) / 2


def test_nothing_is_left_where_everything_is_withdrawn_or_left_out():
    _, table = tables(FLAT, 4)
    queries_BD, _ = asked(2)
    exclude = [np.arange(4), np.array([0, 1, 2])]
    items_BK, scores_BK = table.search(queries_BD, 3, exclude=exclude)
    assert items_BK.tolist() == [[-1, -1, -1], [3, -1, -1]]
    assert scores_BK[0].isneginf().all()
    table.withdraw(torch.arange(4))
    assert table.search(queries_BD, 3)[0].tolist() == [[-1, -1, -1]] * 2
    assert table.search(queries_BD[:0], 3)[0].shape == (0, 3)


def test_without_faiss_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    _, table = tables(FLAT)
    with pytest.raises(ThinkrankError, match=r"pip install 'thinkrank\[ann\]'"):
        table.search(torch.randn(1, 8), 1)


def test_an_exact_search_does_not_load_faiss():
    code = "import sys; import thinkrank.retrieve.item_table; print('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"
