"""Searching in blocks against one matrix of scores, sorted and counted by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank import ThinkrankError
from thinkrank.data import History
from thinkrank.retrieve import item_table
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.stages import mask_seen, target_ranks, top_k


def table_of(num_items=23, width=6, *, block_rows=5, seed=0, whole=False, **parts):
    """Whole numbers tie often, and their products are exact in any order of adding."""
    random = torch.Generator().manual_seed(seed)
    rows_ID = torch.randn(num_items, width, generator=random)
    return ItemTable(rows_ID.round() if whole else rows_ID, block_rows=block_rows, **parts)


def asked(num_queries=9, num_items=23, width=6, *, seed=1, whole=False):
    random = torch.Generator().manual_seed(seed)
    queries_BD = torch.randn(num_queries, width, generator=random)
    numpy = np.random.default_rng(seed)
    histories = [History.of(numpy.integers(0, num_items, numpy.integers(0, 6)).tolist()) for _ in range(num_queries)]
    return (queries_BD.round() if whole else queries_BD), histories


def items_of(histories):
    return [history.items for history in histories]


def dense(table, queries_BD):
    """The formula, in one product."""
    scores_BI = queries_BD @ table.rows_ID.T
    if table.divisor is not None:
        scores_BI = scores_BI / table.divisor
    if table.bias_I is not None:
        scores_BI = scores_BI + table.bias_I
    return scores_BI.masked_fill(table.withdrawn_I, -torch.inf)


@given(
    num_items=st.integers(1, 40),
    block_rows=st.integers(1, 50),
    k=st.integers(1, 45),
    seed=st.integers(0, 999),
    filter_seen=st.booleans(),
    tile=st.sampled_from([2, 3, 64]),
)
def test_answers_and_places_are_those_of_the_matrix_of_scores_ties_included(
    num_items, block_rows, k, seed, filter_seen, tile
):
    table = table_of(num_items, 2, block_rows=block_rows, seed=seed, whole=True, bias_I=torch.ones(num_items))
    table.withdraw(torch.tensor([seed % num_items]))
    queries_BD, histories = asked(5, num_items, 2, seed=seed, whole=True)
    scores_BI = dense(table, queries_BD).numpy()
    if filter_seen:
        scores_BI = mask_seen(scores_BI, histories)
    exclude = items_of(histories) if filter_seen else None
    expected = top_k(scores_BI, histories, k, filter_seen=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_table, "_TILE", tile)
        items_BK, scores_BK = table.search(queries_BD, k, exclude=exclude)
    np.testing.assert_array_equal(items_BK.numpy(), expected.items_BK)
    np.testing.assert_array_equal(scores_BK.numpy(), expected.scores_BK)
    targets_B = torch.from_numpy(np.random.default_rng(seed).integers(0, num_items, 5))
    ranks_B = table.target_ranks(queries_BD, targets_B, exclude=exclude)
    np.testing.assert_array_equal(ranks_B.numpy(), target_ranks(scores_BI, targets_B.numpy()))


@pytest.mark.parametrize("cells", [1, 40, 10**6])
def test_a_few_queries_at_a_time_get_what_all_get(monkeypatch, cells):
    table = table_of(whole=True)
    queries_BD, histories = asked(whole=True)
    expected = table.search(queries_BD, 7, exclude=items_of(histories))
    targets_B = torch.arange(9)
    ranks_B = table.target_ranks(queries_BD, targets_B, exclude=items_of(histories))
    monkeypatch.setattr(item_table, "_MOST_CELLS", cells)
    found = table.search(queries_BD, 7, exclude=items_of(histories))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(table.target_ranks(queries_BD, targets_B, exclude=items_of(histories)), ranks_B)


def test_with_one_block_scores_are_those_of_one_product_to_the_last_bit():
    bias_I, divisor = torch.randn(23), torch.tensor(-2.9).exp()
    table = table_of(block_rows=23, bias_I=bias_I, divisor=divisor)
    queries_BD, _ = asked()
    expected_BI = queries_BD @ table.rows_ID.T / divisor + bias_I
    assert torch.equal(table.scores(queries_BD), expected_BI)
    items_BK, scores_BK = table.search(queries_BD, 23)
    assert torch.equal(scores_BK, expected_BI.gather(1, items_BK))


def test_places_are_exact_where_scores_hardly_differ():
    """Blocks are scored twice; a target must never lose against itself."""
    random = torch.Generator().manual_seed(3)
    rows_ID = torch.nn.functional.normalize(1 + 1e-6 * torch.randn(300, 48, generator=random), dim=1)
    table = ItemTable(rows_ID, block_rows=64)
    queries_BD = rows_ID[:40].clone()
    items_BK, _ = table.search(queries_BD, 300)
    for place in (0, 17, 299):
        ranks_B = table.target_ranks(queries_BD, items_BK[:, place])
        assert (ranks_B >= place + 1).all()
        _, scores_BK = table.search(queries_BD, 300)
        assert torch.equal(ranks_B, (scores_BK >= scores_BK[:, [place]]).sum(dim=1))


def test_some_items_have_the_scores_they_have_among_all():
    table = table_of(bias_I=torch.randn(23), divisor=0.3)
    queries_BD, _ = asked()
    items_BN = torch.randint(0, 23, (9, 4))
    torch.testing.assert_close(table.scores_of(queries_BD, items_BN), table.scores(queries_BD).gather(1, items_BN))
    assert table.scores_of(queries_BD[:0], items_BN[:0]).shape == (0, 4)


@pytest.mark.parametrize("divisor", [None, 0.3])
def test_the_normaliser_and_its_slope_are_those_of_the_matrix(divisor):
    table = table_of(bias_I=torch.randn(23).double(), divisor=divisor)
    table.rows_ID = table.rows_ID.double()
    table.withdraw(torch.tensor([4, 22]))
    queries_PD, histories = asked()
    queries_PD = queries_PD.double().requires_grad_()
    left_out = torch.zeros(9, 23, dtype=torch.bool)
    for row, history in zip(left_out, histories, strict=True):
        row[history.items] = True
    expected_P = dense(table, queries_PD).masked_fill(left_out, -torch.inf).logsumexp(dim=1)
    found_P = table.log_normaliser(queries_PD, exclude=items_of(histories))
    torch.testing.assert_close(found_P, expected_P)
    weights_P = torch.randn(9).double()
    slopes = [torch.autograd.grad((weights_P * total).sum(), queries_PD)[0] for total in (found_P, expected_P)]
    torch.testing.assert_close(*slopes)
    assert torch.autograd.gradcheck(lambda q: table.log_normaliser(q, exclude=items_of(histories)), queries_PD)


def test_where_nothing_competes_there_is_no_normaliser_and_no_slope():
    table = table_of(4, block_rows=3)
    queries_PD = torch.randn(2, 6, requires_grad=True)
    total_P = table.log_normaliser(queries_PD, exclude=[np.arange(4), np.array([1])])
    assert total_P[0] == -torch.inf
    (slope_PD,) = torch.autograd.grad(total_P[1] + total_P[0].clamp(min=0), queries_PD)
    assert not slope_PD[0].any()
    assert slope_PD[1].any()


def test_a_table_that_was_written_meanwhile_has_no_slope_of_before():
    table = table_of()
    queries_PD = torch.randn(2, 6, requires_grad=True)
    total_P = table.log_normaliser(queries_PD)
    table.write(torch.tensor([3]), torch.zeros(1, 6), step=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total_P.sum().backward()


def test_rows_are_written_in_place_and_age():
    table = table_of()
    rows_ID, before = table.rows_ID, table.rows_ID.clone()
    table.write(torch.tensor([7, 2]), torch.tensor([[1.0] * 6, [2.0] * 6]), step=4)
    assert table.rows_ID is rows_ID
    assert rows_ID[7].tolist() == [1.0] * 6
    assert rows_ID[2].tolist() == [2.0] * 6
    others = [row for row in range(23) if row not in (2, 7)]
    assert torch.equal(rows_ID[others], before[others])
    assert table.ages(6)[[2, 7, 0]].tolist() == [2, 2, 6]
    table.write(torch.arange(2, 23), rows_ID[2:].clone(), step=5)
    assert table.oldest(3).tolist() == [0, 1, 2]
    table.withdraw(torch.tensor([0]))
    assert table.oldest(2).tolist() == [1, 2]


def test_added_items_are_found_and_withdrawn_ones_never_again():
    table = table_of(bias_I=torch.randn(23))
    query_D = torch.randn(6)
    assert list(table.add(torch.stack([50 * query_D, -query_D]), step=3)) == [23, 24]
    assert len(table) == 25
    assert table.written_I[-2:].tolist() == [3, 3]
    items_BK, scores_BK = table.search(query_D[None], 1)
    assert items_BK.tolist() == [[23]]
    torch.testing.assert_close(scores_BK[0, 0], 50 * query_D @ query_D)
    table.withdraw(torch.tensor([23]))
    items_BK, scores_BK = table.search(query_D[None], 25)
    assert sorted(items_BK[0].tolist()) == [-1, *range(23), 24]
    assert scores_BK[0, -1] == -torch.inf
    assert table.target_ranks(query_D[None], torch.tensor([23])).tolist() == [26]


def test_a_table_on_the_disk_is_the_one_in_memory(tmp_path):
    table = table_of(bias_I=torch.randn(23), divisor=0.7)
    table.write(torch.tensor([5]), torch.ones(1, 6), step=9)
    table.withdraw(torch.tensor([8]))
    table.save(tmp_path)
    mapped = ItemTable.open(tmp_path, block_rows=5)
    queries_BD, histories = asked()
    for one, other in zip(table.search(queries_BD, 9), mapped.search(queries_BD, 9), strict=True):
        assert torch.equal(one, other)
    targets_B, exclude = torch.arange(9), items_of(histories)
    assert torch.equal(
        table.target_ranks(queries_BD, targets_B, exclude=exclude),
        mapped.target_ranks(queries_BD, targets_B, exclude=exclude),
    )
    assert torch.equal(mapped.written_I, table.written_I)
    mapped.write(torch.tensor([0]), torch.zeros(1, 6), step=10)
    assert not mapped.rows_ID[0].any()
    assert torch.equal(ItemTable.open(tmp_path).rows_ID, table.rows_ID), "what was not opened to write into stays"


def test_a_writable_table_keeps_what_is_written_and_grows(tmp_path):
    table_of().save(tmp_path)
    table = ItemTable.open(tmp_path, writable=True)
    table.write(torch.tensor([1]), torch.full((1, 6), 2.0), step=1)
    table.add(torch.full((2, 6), 3.0), step=2)
    table.write(torch.tensor([24]), torch.full((1, 6), 4.0), step=3)
    table.save(tmp_path)
    again = ItemTable.open(tmp_path)
    assert torch.equal(again.rows_ID, table.rows_ID)
    assert again.rows_ID[[1, 23, 24], 0].tolist() == [2.0, 3.0, 4.0]
    assert again.written_I[[1, 23, 24]].tolist() == [1, 2, 3]
    assert list(tmp_path.glob("*.npy")) == [tmp_path / "vectors.npy"]


def test_half_the_size_on_the_disk_gives_the_answers_of_the_rounded_vectors(tmp_path):
    table = table_of(500, block_rows=128, bias_I=torch.randn(500))
    table.save(tmp_path / "whole")
    table.save(tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / name / "vectors.npy").stat().st_size for name in ("whole", "half")]
    assert sizes[0] - sizes[1] == 500 * 6 * 2
    rounded = ItemTable(table.rows_ID.half().float(), table.bias_I, block_rows=128)
    half = ItemTable.open(tmp_path / "half", block_rows=128)
    assert half.rows_ID.dtype == torch.float16
    queries_BD, histories = asked(num_items=500)
    exclude = items_of(histories)
    for one, other in zip(
        rounded.search(queries_BD, 9, exclude=exclude), half.search(queries_BD, 9, exclude=exclude), strict=True
    ):
        assert torch.equal(one, other)
    items_BN = torch.randint(0, 500, (9, 4))
    assert torch.equal(rounded.scores_of(queries_BD, items_BN), half.scores_of(queries_BD, items_BN))
    slopes = []
    for table in (rounded, half):
        queries_PD = queries_BD.clone().requires_grad_()
        slopes.append(torch.autograd.grad(table.log_normaliser(queries_PD).sum(), queries_PD)[0])
    assert torch.equal(*slopes)


def test_a_table_that_memory_need_not_hold_is_made_and_written_on_the_disk(tmp_path):
    table = ItemTable.create(tmp_path, 3000, 6)
    rows_ID = torch.randn(3000, 6).half()
    for rows_N in torch.arange(3000).split(1000):
        table.write(rows_N, rows_ID[rows_N], step=2)
    queries_BD, _ = asked()
    expected = ItemTable(rows_ID).search(queries_BD, 5)
    for _ in range(2):  # pages that were given back are read again
        assert torch.equal(table.search(queries_BD, 5)[0], expected[0])
    table.save(tmp_path)
    assert torch.equal(ItemTable.open(tmp_path).search(queries_BD, 5)[1], expected[1])


def test_what_only_this_process_wrote_is_not_given_back(tmp_path):
    table_of(3000).save(tmp_path)
    table = ItemTable.open(tmp_path, block_rows=1000)
    query_D = torch.randn(6)
    table.search(query_D[None], 1)
    table.write(torch.tensor([1500]), 50 * query_D[None], step=1)
    for _ in range(2):
        assert table.search(query_D[None], 1)[0].item() == 1500
    assert list(table.add(90 * query_D[None])) == [3000]
    assert table.search(query_D[None], 2)[0].tolist() == [[3000, 1500]]
    assert len(ItemTable.open(tmp_path)) == 3000


def test_numbers_that_numpy_does_not_know_are_refused(tmp_path):
    with pytest.raises(ThinkrankError, match="save the table with"):
        ItemTable(torch.zeros(3, 2, dtype=torch.bfloat16)).save(tmp_path)


@pytest.mark.parametrize("file", ["vectors.npy", "table.safetensors"])
def test_a_damaged_table_is_refused(tmp_path, file):
    table_of().save(tmp_path)
    (tmp_path / file).write_bytes(b"not what it was")
    with pytest.raises(ThinkrankError, match="damaged"):
        ItemTable.open(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    table_of().save(tmp_path / "one")
    table_of(7).save(tmp_path / "other")
    (tmp_path / "one" / "vectors.npy").replace(tmp_path / "other" / "vectors.npy")
    with pytest.raises(ThinkrankError, match="differ in rows"):
        ItemTable.open(tmp_path / "other")


def test_what_has_no_order_or_is_no_row_is_refused():
    table = table_of()
    queries_BD = torch.randn(2, 6)
    with pytest.raises(ValueError, match="k must be at least 1"):
        table.search(queries_BD, 0)
    for targets in ([0, 23], [-1, 0]):
        with pytest.raises(ValueError, match="rows 0 to 22"):
            table.target_ranks(queries_BD, torch.tensor(targets))
    queries_BD[1, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        table.search(queries_BD, 2)
    with pytest.raises(ValueError, match="NaN"):
        table.target_ranks(queries_BD, torch.tensor([0, 1]))
