"""Reasonings to imitate, written by a teacher who reflects on verdicts that turned out wrong.

A teacher reasons without the label. If its verdict is not the label, it is shown that verdict and asked to look at the
evidence again. What comes to the right verdict is kept, unless it gives the label away, names a title that nobody
showed, or is too long. (Reconstructed: the paper's readers tell of traces by DeepSeek-R1 with self-reflection; the loop
and the screening are ours.)
"""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from pydantic import Field

from thinkrank.data import Catalogue
from thinkrank.data._fingerprint import fingerprint
from thinkrank.data.reading import DataFile
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.teachers.attributes import plain
from thinkrank.teachers.leak_filter import LeakFilter
from thinkrank.teachers.pairs import Pair, Teacher, Trace, Verdict
from thinkrank.teachers.records import FieldKind, read_lines
from thinkrank.training import Progress, no_progress

DropReason = Literal["no_answer", "inconsistent", "leak", "foreign_title", "too_long"]

_FIELDS: dict[str, FieldKind] = {
    "position": "number",
    "item": "item",
    "label": "flag",
    "reasoning": "any text",
    "tries": "number",
    "teacher": "text",
    "dropped": "any text",
    "run": "text",
}


class ReflectOptions(Options):
    """Ask for traces, and decide which are kept."""

    reflect: bool = Field(
        True,
        description="ask again after a wrong verdict and keep right ones only; without, first answers are kept "
        "whatever the label, so the score that is trained behind them learns how far a verdict can be trusted",
    )
    max_tries: int = Field(3, ge=1, description="answers to one question at most, where wrong ones are asked again")
    max_tokens: int = Field(128, ge=1, description="token budget of a reasoning; a longer one is dropped")
    history_window: int = Field(
        20, ge=1, description="newest interactions a teacher sees: as many as the model that learns from it"
    )
    chunk_size: int = Field(256, ge=1, description="questions asked together; a run goes on from the last whole chunk")


@dataclass(frozen=True)
class TraceCounts:
    """Tell what became of the questions.

    Attributes:
        kept: traces.
        kept_likely: those of them whose item the user chose.
        reflected: those of them that took more than one try.
        dropped: the others, by reason; every reason is there.
    """

    kept: int
    kept_likely: int
    reflected: int
    dropped: Mapping[DropReason, int]


@dataclass(frozen=True)
class _Record:
    """A trace that is kept, or why it is not. `reasoning` is None if there was no answer."""

    position: int
    item: int
    label: bool
    reasoning: str | None
    tries: int
    teacher: str
    dropped: DropReason | None
    run: str


def write_traces(
    pairs: Sequence[Pair],
    teacher: Teacher,
    catalogue: Catalogue,
    path: str | Path,
    options: ReflectOptions | None = None,
    progress: Progress = no_progress,
    *,
    num_tokens: Callable[[str], int],
) -> TraceCounts:
    """Ask a teacher about every pair and write what it says, one line of JSON per pair in their order.

    A line has ``position``, ``item`` (its id), ``label``, ``reasoning``, ``tries``, ``teacher``, ``dropped`` (the
    reason, null if it is kept) and ``run``, a hash of everything that was asked. The lines are collected in a hidden
    file beside `path`, which takes its name at the end. A killed run goes on when it is called again with the same
    arguments, and ends with the same file if the teacher answers equal questions alike; a finished one is only counted.

    Args:
        pairs: the questions. The teacher gets them with the label blanked and the history cut to what is shown.
        teacher: whom to ask.
        catalogue: the items.
        path: the file to write.
        options: how often to ask and what to keep.
        progress: shows how far it is.
        num_tokens: the length of a text in tokens of the model that is to learn from it.

    Returns:
        what became of the pairs, those of earlier calls included.

    Raises:
        ThinkrankError: if there are no pairs, the file holds another run's traces, or the teacher can't work.
    """
    if not pairs:
        raise ThinkrankError("no pairs to write traces of")
    options, path = options or ReflectOptions(), Path(path)
    shown = [replace(pair, history=pair.history.last(options.history_window)) for pair in pairs]
    run = _run_hash(shown, teacher, catalogue, options)
    if path.exists():
        return _count(_read(DataFile.at(path), catalogue, run))
    part = _part(path)
    records = _resume(part, catalogue, run, len(pairs), options.chunk_size)
    kept, leak_filter = _count(records).kept, LeakFilter(catalogue)
    with progress("writing traces", len(pairs)) as advance, part.open("ab") as file:
        advance(len(records))
        for start in range(len(records), len(pairs), options.chunk_size):
            chunk = []
            for pair, (verdict, tries) in _ask(shown[start : start + options.chunk_size], teacher, options):
                text = None if verdict is None else plain(verdict.reasoning)
                dropped = _fault(pair, verdict, text, leak_filter, options, num_tokens)
                chunk.append(_Record(pair.position, pair.item, pair.label, text, tries, teacher.name, dropped, run))
            file.write(b"".join(_line(record, catalogue) for record in chunk))
            file.flush()
            os.fsync(file.fileno())
            records += chunk
            kept += sum(record.dropped is None for record in chunk)
            advance(len(chunk), note=f"{kept / len(records):.0%} kept")
    part.replace(path)
    return _count(records)


def read_traces(path: str | Path, catalogue: Catalogue) -> list[Trace]:
    """Read the traces that `write_traces` kept, in the order of the pairs.

    Raises:
        ThinkrankError: if the file is missing or unfinished, naming the line if one is damaged or of an unknown item.
    """
    path = Path(path)
    if not path.exists() and _part(path).exists():
        raise ThinkrankError(f"{path}: is not finished yet. Start again what writes it, and it goes on.")
    return [
        Trace(r.position, r.item, r.label, r.reasoning, r.tries, r.teacher)
        for r in _read(DataFile.at(path), catalogue)
        if r.dropped is None and r.reasoning is not None
    ]


def _ask(
    pairs: Sequence[Pair], teacher: Teacher, options: ReflectOptions
) -> Iterator[tuple[Pair, tuple[Verdict | None, int]]]:
    """Collect the last verdict on each pair, and how many it took; ask again whoever errs, if the options say so."""
    max_tries = options.max_tries if options.reflect else 1
    verdicts: list[Verdict | None] = [None] * len(pairs)
    tries = [0] * len(pairs)
    open_pairs = list(range(len(pairs)))
    while open_pairs:
        blank = [replace(pairs[i], label=False) for i in open_pairs]
        for i, verdict in zip(open_pairs, teacher.answer(blank, [verdicts[i] for i in open_pairs]), strict=True):
            verdicts[i], tries[i] = verdict, tries[i] + 1
        open_pairs = [i for i in open_pairs if tries[i] < max_tries and _errs(verdicts[i], pairs[i])]
    return zip(pairs, zip(verdicts, tries, strict=True), strict=True)


def _errs(verdict: Verdict | None, pair: Pair) -> bool:
    return verdict is not None and verdict.likely != pair.label


def _fault(
    pair: Pair,
    verdict: Verdict | None,
    text: str | None,
    leak_filter: LeakFilter,
    options: ReflectOptions,
    num_tokens: Callable[[str], int],
) -> DropReason | None:
    """Tell why an answer can't be imitated; None if it can."""
    if verdict is None or not text:
        return "no_answer"
    if options.reflect and _errs(verdict, pair):
        return "inconsistent"
    shown = [*pair.history.items.tolist(), pair.item]
    if leak_filter.leak(text, shown):
        return "leak"
    if leak_filter.foreign_title(text, shown):
        return "foreign_title"
    return "too_long" if num_tokens(text) > options.max_tokens else None


def _run_hash(pairs: Sequence[Pair], teacher: Teacher, catalogue: Catalogue, options: ReflectOptions) -> str:
    """Hash what tells one run from another, to 64 bits."""
    settings = [options.model_dump(mode="json"), teacher.name, fingerprint({"catalogue": catalogue.frame})]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for pair in pairs:
        digest.update(f"\n{pair.position} {pair.item} {pair.label:d} ".encode())
        digest.update(pair.history.items.astype("<i4").tobytes())
    return digest.hexdigest()[:16]


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _resume(part: Path, catalogue: Catalogue, run: str, num_pairs: int, chunk_size: int) -> list[_Record]:
    """Read what an earlier call wrote, cut to whole chunks, so that the teacher is asked in the same chunks again."""
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    lines = part.read_bytes().splitlines(keepends=True)
    lines = [line for line in lines if line.endswith(b"\n")]  # the last one may have been cut short
    records = _read(DataFile(part.name, lambda: io.BytesIO(b"".join(lines))), catalogue, run) if lines else []
    whole = len(lines) if len(lines) == num_pairs else len(lines) // chunk_size * chunk_size
    os.truncate(part, sum(map(len, lines[:whole])))
    return records[:whole]


def _read(file: DataFile, catalogue: Catalogue, run: str | None = None) -> list[_Record]:
    """Read the records of a file.

    Raises:
        ThinkrankError: if a line is damaged, or of another run than the one asked for.
    """
    records = []
    for values in read_lines(file, _FIELDS, catalogue):
        record = _Record(*cast(tuple[int, int, bool, str | None, int, str, DropReason | None, str], values))
        if run is not None and record.run != run:
            raise ThinkrankError(
                f"{file.name}: holds what was written about other pairs, by another teacher or with other options. "
                "Give another path, or delete the file."
            )
        records.append(record)
    return records


def _line(record: _Record, catalogue: Catalogue) -> bytes:
    return json.dumps({**asdict(record), "item": catalogue.ids[record.item]}, ensure_ascii=False).encode() + b"\n"


def _count(records: Iterable[_Record]) -> TraceCounts:
    records = list(records)
    kept = [record for record in records if record.dropped is None]
    dropped = Counter(record.dropped for record in records)
    return TraceCounts(
        kept=len(kept),
        kept_likely=sum(record.label for record in kept),
        reflected=sum(record.tries > 1 for record in kept),
        dropped={reason: dropped[reason] for reason in get_args(DropReason)},
    )
