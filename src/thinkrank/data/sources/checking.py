"""Everything that is wrong with a source's files, at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinkrank.data.dataset import Dataset
from thinkrank.data.describe import remarks
from thinkrank.data.filters import FilterOptions, apply_filters
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading.bad_rows import write_bad_rows
from thinkrank.data.reading.intake import Fault, Intake, OnBad, opened
from thinkrank.data.sources.registry import Gives, read
from thinkrank.errors import ThinkrankError


@dataclass(frozen=True, eq=False)
class Checked:
    """Hold what a check found.

    Attributes:
        failures: why files cannot be read at all, one line each.
        faults: kinds of rows that can't be right, file by file, with their number and first places.
        notices: what was recognised, repaired, dropped or counted as unknown.
        on_bad: what was to become of rows at fault.
        data: what is left; None if nothing can be made of it.
    """

    failures: Sequence[str]
    faults: Sequence[Fault]
    notices: Sequence[str]
    on_bad: OnBad
    data: Dataset | ImpressionDataset | None

    @property
    def is_sound(self) -> bool:
        """Tell whether the data can be used as it is, rows at fault left out if they are to be dropped."""
        return not self.failures and (self.on_bad == "drop" or not self.faults)

    def record(self) -> dict[str, Any]:
        """Return everything for machines, ready for JSON."""
        return {
            "sound": self.is_sound,
            "failures": list(self.failures),
            "faults": [
                {
                    "file": fault.first.file,
                    "problem": fault.problem,
                    "rows": fault.count,
                    "first": [{"row": place.row, "line": place.line} for place in fault.places],
                }
                for fault in self.faults
            ],
            "notices": list(self.notices),
            "left": None if self.data is None else self.data.describe(),
        }


def check_source(
    source: str,
    path: str | Path | None = None,
    *,
    gives: Gives = "events",
    on_bad: OnBad = "refuse",
    bad_rows: str | Path | None = None,
    filters: FilterOptions | Mapping[str, Any] | None = None,
    repeats: bool = False,
    **options: Any,
) -> Checked:
    """Read a source to its end and collect every fault of every file, instead of stopping at the first.

    Args:
        source: one of `SOURCES`, or of `LIST_SOURCES`.
        path: a folder or zip archive.
        gives: events, what users did, or lists that were displayed to them.
        on_bad: refuse, or drop to see what is left without the rows at fault.
        bad_rows: file for dropped rows; None writes none.
        filters: what to keep of interactions.
        repeats: whether items of a history may be recommended again, so that nothing has to be said of them.
        options: of the source.

    Raises:
        ThinkrankError: if the source or an option is unknown.
    """
    # Rows at fault are left out while reading either way: what is wrong with the others is seen as well.
    intake = Intake(on_bad, goes_on=True)
    data, failures = None, list[str]()
    try:
        with opened(intake):
            data = read(gives, source, path, options)
    except ThinkrankError as error:
        if not intake.failures:
            failures = [str(error)]
    failures = [*intake.failures, *failures]
    notices = [*intake.notices, *(data.notices if data else ())]
    if not failures:
        notices += write_bad_rows(intake, bad_rows)
    if isinstance(data, Dataset) and filters is not None:
        chosen = filters if isinstance(filters, FilterOptions) else FilterOptions.model_validate(filters)
        try:
            data = apply_filters(data, chosen)
        except ThinkrankError as error:
            failures.append(str(error))
    if isinstance(data, Dataset):
        notices += remarks(data, repeats=repeats)
    return Checked(failures, list(intake.faults.values()), notices, on_bad, data)
