"""Compare with what was written down: bit for bit on a machine of the same make, else within rounding."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent
MADE_WITH = json.loads((FOLDER / "made_with.json").read_text(encoding="utf-8"))
ROUNDING = 1e-4
"""Of answers, on a machine of another make."""
_HEX = re.compile(r"-?0x[01]\.[0-9a-f]*p[+-]\d+")
_DIGEST = re.compile(r" [0-9a-f]{16}$", re.MULTILINE)


def make() -> dict[str, str]:
    """What decides how floating-point sums are rounded: libraries, and the processor for which they choose their way.

    Two processors with AVX-512 are not enough alike: MKL and OpenBLAS tell them apart by family, model and flags.
    """
    about = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(("OPENBLAS_", "MKL_"))]
    processors = Path("/proc/cpuinfo")
    if processors.is_file():
        of_first = processors.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        about += [line for line in of_first if line.startswith(("vendor_id", "cpu family", "model\t", "flags"))]
    return {
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": hashlib.sha256("\n".join(about).encode()).hexdigest()[:16],
    }


def is_same_make() -> bool:
    """Whether floating-point sums are those of the machine that wrote the files."""
    return make() == MADE_WITH


def assert_same_text(found: str, expected: str, rounding: float = 1e-2) -> None:
    """Texts with numbers as float.hex(), line by line; digests only count on a machine of the same make."""
    if is_same_make():
        assert found.splitlines() == expected.splitlines()
    else:
        assert_same_within(rounding, found, expected)


def assert_same_within(rounding: float, found: str, expected: str) -> None:
    """The same texts but for numbers, which may differ by so much of themselves or of 1."""
    found, expected = (_DIGEST.sub("", text) for text in (found, expected))
    assert _HEX.sub("#", found) == _HEX.sub("#", expected)
    for a, b in zip(_HEX.findall(found), _HEX.findall(expected), strict=True):
        x, y = float.fromhex(a), float.fromhex(b)
        assert abs(x - y) <= rounding * max(1.0, abs(y)), f"{x} is not {y}"


def assert_same_json(found: Any, expected: Any) -> None:
    """The same of nested values, which no training behind them spreads."""
    assert_same_text(as_text(found), as_text(expected), ROUNDING)


def as_text(value: Any) -> str:
    """Nested values, one a line."""
    return json.dumps(value, sort_keys=True, indent=0)
