"""A teacher whose answers stand in a file: what a large model wrote somewhere else."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from thinkrank.data import Catalogue
from thinkrank.data.reading import DataFile
from thinkrank.teachers.pairs import Pair, Verdict
from thinkrank.teachers.records import FieldKind, read_lines

_FIELDS: dict[str, FieldKind] = {"position": "number", "item": "item", "reasoning": "text", "likely": "flag"}


class JsonlTeacher:
    """Teacher that reads a file of JSON lines: ``position``, ``item`` (its id), ``reasoning`` and ``likely``.

    A pair may have several lines: the second answers a reflection on the first, and so on. A pair without a line, or
    without another one, gets no answer.

    Args:
        path: the file, also gzipped.
        catalogue: what the item ids refer to.

    Raises:
        ThinkrankError: if the file can't be read, naming the line if one is not as described.
    """

    def __init__(self, path: str | Path, catalogue: Catalogue) -> None:
        file = DataFile.at(Path(path))
        self._answers: dict[tuple[int, int], list[Verdict]] = {}
        for line in read_lines(file, _FIELDS, catalogue):
            position, item, reasoning, likely = cast(tuple[int, int, str, bool], line)
            self._answers.setdefault((position, item), []).append(Verdict(reasoning, likely))
        self._name = f"{file.name} {hashlib.sha256(file.read()).hexdigest()[:8]}"

    @property
    def name(self) -> str:
        """Return the file's name and the beginning of its SHA-256."""
        return self._name

    def answer(self, pairs: Sequence[Pair], reflections: Sequence[Verdict | None]) -> list[Verdict | None]:
        """Look each pair up; see `Teacher`."""
        return [
            self._after(earlier, self._answers.get((pair.position, pair.item), []))
            for pair, earlier in zip(pairs, reflections, strict=True)
        ]

    def _after(self, earlier: Verdict | None, known: list[Verdict]) -> Verdict | None:
        following = 0 if earlier is None else known.index(earlier) + 1
        return known[following] if following < len(known) else None
