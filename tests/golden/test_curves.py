"""Loss curves of every trainer, bit for bit: whoever changes one says so by changing its file."""

import pytest
import torch

from golden.compare import FOLDER, assert_same_text
from golden.curves import JOBS

CASES = [(job, name) for job, (_, names) in JOBS.items() for name in names]


@pytest.mark.parametrize(("job", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_a_training_goes_as_it_went(job, name, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for file, text in JOBS[job][0](name, tmp_path).items():
            assert_same_text(text, (FOLDER / f"{file}.txt").read_text(encoding="utf-8"))
    finally:
        torch.set_num_threads(threads)
