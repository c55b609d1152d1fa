"""Compare with what was written down: bit for bit on a machine of the same make, else within rounding."""

import json
import re
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
MADE_WITH = json.loads((FOLDER / "made_with.json").read_text(encoding="utf-8"))
_HEX = re.compile(r"-?0x[01]\.[0-9a-f]*p[+-]\d+")
_DIGEST = re.compile(r" [0-9a-f]{16}$", re.MULTILINE)


def is_same_make() -> bool:
    """Whether floating-point sums are those of the machine that wrote the files."""
    version = torch.__version__.partition("+")[0]
    return {"torch": version, "cpu": torch.backends.cpu.get_cpu_capability()} == MADE_WITH


def assert_same_text(found: str, expected: str) -> None:
    """Texts with numbers as float.hex(), line by line; digests only count on a machine of the same make."""
    if is_same_make():
        assert found.splitlines() == expected.splitlines()
        return
    found, expected = (_DIGEST.sub("", text) for text in (found, expected))
    assert _HEX.sub("#", found) == _HEX.sub("#", expected)
    for a, b in zip(_HEX.findall(found), _HEX.findall(expected), strict=True):
        x, y = float.fromhex(a), float.fromhex(b)
        assert abs(x - y) <= 1e-2 * max(1.0, abs(y)), f"{x} is not {y}"


def assert_same_json(found: Any, expected: Any) -> None:
    """The same of nested values."""
    assert_same_text(*(json.dumps(value, sort_keys=True, indent=0) for value in (found, expected)))
