"""Vectors in numpy's file format, mapped into memory and given back block by block.

Shape legend: I vectors of the file, N some of them, D width.
"""

import mmap
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.errors import ThinkrankError

_ROWS_AT_ONCE = 65_536


class VectorFile:
    """Map a file of vectors, whose pages the system may take away as long as they are as they are on the disk.

    Args:
        path: of the file.
        writable: whether what is written goes into it; else it stays in this process.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path, self.writable = path, writable
        self._array: np.memmap[Any, Any] | None = None
        self._held = False

    def mapped(self) -> Float[Tensor, "I D"]:
        """Return the vectors of the file as it is now."""
        self._array = np.load(self.path, mmap_mode="r+" if self.writable else "c")
        return torch.from_numpy(self._array)

    def written(self) -> None:
        """Remember that vectors were written, which are nowhere else if the file is not written into."""
        self._held = not self.writable

    def release(self, rows: slice) -> None:
        """Let the memory of some rows go; what the process holds of a table stays small, however large it is."""
        memory = getattr(self._array, "_mmap", None)
        if self._array is None or memory is None or self._held or not hasattr(mmap, "MADV_DONTNEED"):
            return
        begin = self._array.offset % mmap.ALLOCATIONGRANULARITY
        start, end = (begin + row * self._array.strides[0] for row in (rows.start, rows.stop))
        start -= start % mmap.PAGESIZE
        memory.madvise(mmap.MADV_DONTNEED, start, end - start)

    def append(self, vectors_ND: Float[Tensor, "N D"]) -> Float[Tensor, "I D"]:
        """Write vectors behind the others, then the header that counts them, and map the file anew."""
        assert self._array is not None  # noqa: S101 - a table maps its file first
        rows, width = self._array.shape
        with self.path.open("r+b") as file:
            file.seek(self._array.offset + self._array.nbytes)
            file.write(np.ascontiguousarray(vectors_ND.detach().cpu().numpy(), self._array.dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            _write_header(file, (rows + len(vectors_ND), width), self._array.dtype)
        return self.mapped()

    @staticmethod
    def write(file: BinaryIO, rows_ID: Float[Tensor, "I D"], dtype: torch.dtype | None = None) -> None:
        """Write vectors without a second copy of them in memory.

        Raises:
            ThinkrankError: if the format of their numbers is not one of numpy's.
        """
        dtype = rows_ID.dtype if dtype is None else dtype
        _write_header(file, tuple(rows_ID.shape), _numpy(dtype))
        for block_ND in rows_ID.detach().split(_ROWS_AT_ONCE):
            file.write(block_ND.to("cpu", dtype).numpy().tobytes())

    @staticmethod
    def empty(path: Path, num_items: int, width: int, dtype: torch.dtype) -> None:
        """Make a file of zeros, which takes no room on the disk before it is written into."""
        with path.open("wb") as file:
            _write_header(file, (num_items, width), _numpy(dtype))
            file.truncate(file.tell() + num_items * width * dtype.itemsize)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
    """Write numpy's header, which has room for any number of rows."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)


def _numpy(dtype: torch.dtype) -> "np.dtype[Any]":
    if dtype == torch.bfloat16:
        raise ThinkrankError("numpy's files hold no bfloat16; save the table with dtype=torch.float16")
    return torch.empty(0, dtype=dtype).numpy().dtype
