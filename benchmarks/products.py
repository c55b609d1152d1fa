"""Products in fp32 by frozen weights: oneDNN, which our layers ask, beside what torch asks, mostly MKL.

SmolLM2-135M-Instruct in bf16, read in fp32 as everything that is judged is. Both ways read the same texts in turns, in
seconds of the processor, and their states are checked equal within rounding.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

from _figures import parser, tell
from thinkrank.language import hidden_states, load_backbone, pad
from thinkrank.language.linear import FrozenLinear

ROWS, LENGTH = 16, 64


@contextmanager
def by_torch() -> Iterator[None]:
    """Let every layer multiply as torch does."""
    with patch.object(FrozenLinear, "forward", torch.nn.Linear.forward):
        yield


def measure(quick: bool) -> dict[str, float]:
    torch.set_num_threads(1)
    backbone = load_backbone("smollm2")
    ids, mask = pad([list(range(100 + row, 100 + row + LENGTH)) for row in range(ROWS)], backbone.pad_id)

    def read() -> torch.Tensor:
        with backbone.exact():
            return hidden_states(backbone, ids, mask)

    ours = read()
    with by_torch():
        theirs = read()
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if difference > 1e-4:
        raise SystemExit(f"states differ by {difference} of the largest")
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3 if quick else 9):
        for is_ours in took:
            began = time.process_time()
            if is_ours:
                read()
            else:
                with by_torch():
                    read()
            took[is_ours].append(time.process_time() - began)
    return {
        "fp32_reading_speedup": min(took[False]) / min(took[True]),
        "fp32_reading_max_rel": difference,
        "fp32_tokens_per_second": ROWS * LENGTH / min(took[True]),
    }


def main() -> None:
    told = parser(__doc__, quick="three turns in the place of nine").parse_args()
    tell(measure(told.quick), told.json)


if __name__ == "__main__":
    main()
