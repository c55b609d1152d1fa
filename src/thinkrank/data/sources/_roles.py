"""Which file and which column of a user's tables plays which role."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from thinkrank.data._nearest import did_you_mean, nearest
from thinkrank.data.reading import ROW, TABLE_SUFFIXES, DataFile, Files, read_records
from thinkrank.data.reading.intake import Intake, note, opened, setting
from thinkrank.errors import ThinkrankError

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (
        *("user", "userid", "customer", "customerid", "customernumber", "client", "clientid", "visitor", "visitorid"),
        *("member", "memberid", "account", "accountid", "buyer", "buyerid", "reader", "readerid", "reviewerid", "uid"),
    ),
    "item": (
        *("item", "itemid", "product", "productid", "sku", "article", "articleid", "asin", "isbn", "movie", "movieid"),
        *(
            "video",
            "videoid",
            "track",
            "trackid",
            "book",
            "bookid",
            "game",
            "gameid",
            "hotel",
            "hotelid",
            "productcode",
        ),
    ),
    "timestamp": (
        *("timestamp", "time", "datetime", "date", "ts", "unixtime", "eventtime", "purchasedat", "boughtat"),
        *("orderedat", "orderdate", "purchasedate", "createdat", "viewedat", "visitedat", "occurredat", "eventdate"),
    ),
    "event": ("event", "eventtype", "action", "actiontype", "behavior", "behaviour"),
    "title": ("title", "name", "itemname", "productname", "itemtitle", "producttitle"),
    "categories": ("categories", "category", "genres", "genre"),
    "list": ("list", "listid", "impression", "impressionid", "requestid", "queryid", "slateid"),
    "position": ("position", "rank", "slot", "place"),
}
"""What people call a role, without blanks, dashes and capitals; the first ones are the role's own name."""


def locate(files: Files | None, role: str, told: Sequence[str], fitting: Sequence[str] = ()) -> list[DataFile]:
    """Find the files that play a role: those that were named, else the one that is called after it.

    Args:
        files: the folder or archive; None if only full paths are given.
        role: interactions, items or lists.
        told: names, paths or patterns.
        fitting: files whose columns would do, for the message.

    Raises:
        ThinkrankError: if there is none, or it is not clear which.
    """
    if not told:
        if files is None:
            raise ThinkrankError(f"table: where are the {role}? Give {setting(role, 'FILE')}, or a path to a folder.")
        found = files.find(*usual_files(role))
        top = [file for file in found if len(file.inside.parts) == len(found[0].inside.parts)]
        if len(top) > 1:
            names = ", ".join(str(file.inside) for file in top)
            raise ThinkrankError(
                f"{files.where}: holds several files of {role}: {names}. "
                f"Name one: {setting(role, str(top[0].inside))}; or all: "
                f"{setting(role, [str(file.inside) for file in top])}."
            )
        if len(found) > 1:
            note(f"{files.where}: {found[0].inside} was read, and not {', '.join(str(it.inside) for it in found[1:5])}")
        return top
    located: list[DataFile] = []
    for name in told:
        path = Path(name).expanduser()
        if files is not None and not path.is_absolute():
            located += files.named(path.as_posix())
        elif path.is_file():
            located.append(DataFile.at(path))
        else:
            raise ThinkrankError(f"{name}: no such file")
    return list({(file.inside, file.name): file for file in located}.values())


def usual_files(*stems: str) -> list[str]:
    """List what files of these roles are called."""
    return [f"{stem}{suffix}{packed}" for stem in stems for suffix in TABLE_SUFFIXES for packed in ("", ".gz")]


def suggested(files: Files, roles: Mapping[str, Sequence[str]], missing: Iterable[str]) -> dict[str, DataFile]:
    """Find files whose columns fit the roles of a table that is missing.

    Args:
        files: the folder.
        roles: per table, the roles its columns must play.
        missing: the tables to look for.

    Returns:
        per table, the only file that would do, or the largest claim among those not taken.
    """
    found: dict[str, DataFile] = {}
    for file in files.members:
        if not file.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES):
            continue
        try:
            with opened(Intake()):  # what is wrong with its rows is said when it is read
                present = next(read_records(file)).columns
        except (ThinkrankError, StopIteration):
            continue
        for table in missing:
            if table not in found and all(usual(role, present) for role in roles[table]):
                found[table] = file
                break
    return found


def usual(role: str, present: Sequence[str]) -> list[str]:
    """Find the columns that may play a role by their name: the role itself, its own id, or what else people say."""
    own = [name for name in (role, f"{role}_id") if name in present]
    if own:
        return own[:1]
    known = USUAL_NAMES.get(role, (role,))
    plain = {name: re.sub(r"[\W_]", "", name.casefold()) for name in present if name != ROW}
    return [name for name, bare in plain.items() if bare in known]


def name_columns(
    file: str, present: Sequence[str], roles: Mapping[str, bool], told: Mapping[str, str]
) -> dict[str, str]:
    """Find which column of a file plays which role.

    Args:
        file: its name, for messages.
        present: its columns.
        roles: whether each has to be played.
        told: what the user said.

    Raises:
        ThinkrankError: naming every role that nobody plays, or two that one column plays, and what to write.
    """
    refuse_shared(file, told)
    columns, missing, recognised = {}, {}, {}
    for role, is_needed in roles.items():
        if role in told:
            if told[role] in present:
                columns[role] = told[role]
            else:
                missing[role] = told[role]
            continue
        named = usual(role, present)
        found = [name for name in named if name not in told.values()]
        if named and not found and is_needed:
            refuse_shared(file, {**told, role: named[0]})
        if len(found) == 1:
            columns[role] = found[0]
            if found[0] not in (role, f"{role}_id"):
                recognised[role] = found[0]
        elif found and is_needed:
            choice = setting("columns", {**told, role: found[0]})
            raise ThinkrankError(f"{file}: {' and '.join(found)} may each be the {role}. Say which: {choice}.")
        elif is_needed:
            missing[role] = role
    if missing:
        raise _no_columns(file, [name for name in present if name not in columns.values()], missing, told)
    if recognised:
        read = ", ".join(f"{column} as {role}" for role, column in recognised.items())
        note(f"{file}: read {read}; name others with {setting('columns', recognised)}")
    return columns


def _no_columns(
    file: str, present: Sequence[str], missing: Mapping[str, str], told: Mapping[str, str]
) -> ThinkrankError:
    there = [name for name in present if name != ROW]
    name = next(iter(missing.values()))
    near = did_you_mean(name, there) if len(missing) == 1 else ""
    near = near or (f"; it also has: {', '.join(there[:12])}" if there else "; it has no other")
    names = " and no column ".join(repr(wanted) for wanted in missing.values())
    guess: dict[str, str] = {}
    for role, wanted in missing.items():
        free = [name for name in there if name not in guess.values()]
        guess[role] = (nearest(wanted, free, 1) or free or ["..."])[0]
    way_out = f"Name yours, as in {setting('columns', {**told, **guess})}"
    if "title" in missing:
        way_out += f", or let ids stand for titles: {setting('untitled', 'id')}"
    if "timestamp" in missing:
        way_out += f", or say that rows stand in their order: {setting('order_only', True)}"
    return ThinkrankError(f"{file}: no column {names}{near}. {way_out}.")


def refuse_shared(file: str, columns: Mapping[str, str]) -> None:
    """Refuse a column that plays two roles.

    Raises:
        ThinkrankError: naming both.
    """
    first: dict[str, str] = {}
    for role, column in columns.items():
        if column in first:
            raise ThinkrankError(f"{file}: the column {column!r} cannot be both {first[column]} and {role}. Name one.")
        first[column] = role
