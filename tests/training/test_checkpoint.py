import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.training import latest_checkpoint, load_optimizer_tensors, optimizer_tensors, write_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    tensors = {"weight": torch.randn(3, 2), "count": torch.tensor(7)}
    write_checkpoint(tmp_path / "c", 12, tensors, {"seconds": 1.5})
    read = latest_checkpoint(tmp_path / "c")
    assert read is not None
    assert (read.step, read.state) == (12, {"seconds": 1.5})
    assert all(torch.equal(read.tensors[name], tensors[name]) for name in tensors)


def test_only_the_newest_is_kept(tmp_path):
    for step in (1, 2, 30):
        write_checkpoint(tmp_path, step, {"w": torch.tensor(step)}, {})
    assert [f.name for f in tmp_path.iterdir()] == ["step-00000030"]
    read = latest_checkpoint(tmp_path)
    assert read is not None
    assert read.tensors["w"].item() == 30
    (tmp_path / ".DS_Store").write_bytes(b"of a file manager")
    write_checkpoint(tmp_path, 31, {"w": torch.tensor(31)}, {})
    assert latest_checkpoint(tmp_path).step == 31


def test_what_a_kill_left_half_written_is_not_a_checkpoint(tmp_path):
    write_checkpoint(tmp_path, 1, {"w": torch.tensor(1)}, {})
    (tmp_path / ".writing-xyz").mkdir()
    (tmp_path / ".writing-xyz" / "tensors.safetensors").write_bytes(b"half")
    read = latest_checkpoint(tmp_path)
    assert read is not None
    assert read.step == 1


def test_no_folder_no_checkpoint(tmp_path):
    assert latest_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("optimizer_class", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_restored_from_tensors_makes_the_same_next_step(optimizer_class):
    def build():
        weight = torch.nn.Parameter(torch.arange(4.0))
        return weight, optimizer_class(
            [weight], lr=0.1, **({"momentum": 0.9} if optimizer_class is torch.optim.SGD else {})
        )

    def step(weight, optimizer):
        optimizer.zero_grad()
        (weight**3).sum().backward()
        optimizer.step()

    weight, optimizer = build()
    step(weight, optimizer)
    other, restored = build()
    with torch.no_grad():
        other.copy_(weight)
    load_optimizer_tensors(restored, optimizer_tensors(optimizer))
    step(weight, optimizer)
    step(other, restored)
    assert torch.equal(weight, other)


def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path):
    write_checkpoint(tmp_path, 3, {"w": torch.ones(4)}, {"seconds": 1.5})
    for name in ("state.json", "tensors.safetensors"):
        file = tmp_path / "step-00000003" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ThinkrankError, match=r"step-00000003: the checkpoint is damaged.*delete that folder"):
            latest_checkpoint(tmp_path)
        file.write_bytes(whole)


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_half_written(tmp_path, full_disk):
    write_checkpoint(tmp_path, 1, {"w": torch.ones(4)}, {})
    with pytest.raises(ThinkrankError, match=r"checkpoint of step 2 .*cannot be written.*make room"):
        write_checkpoint(tmp_path, 2, {"w": torch.ones(100_000)}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["step-00000001"]
