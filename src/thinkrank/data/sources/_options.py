"""What a source is called and told: one way to refuse what it does not know."""

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from thinkrank.data._nearest import did_you_mean
from thinkrank.errors import ThinkrankError

OptionsT = TypeVar("OptionsT", bound=BaseModel)


def check_source(source: str, known: Collection[str]) -> None:
    """Refuse a source that is not known.

    Raises:
        ThinkrankError: naming the nearest, and all there are.
    """
    if source not in known:
        raise ThinkrankError(
            f"unknown source {source!r}{did_you_mean(source, list(known))}. Use one of: {', '.join(known)}."
        )


def parse_options(source: str, model: type[OptionsT], options: dict[str, Any]) -> OptionsT:
    """The options of a source as its class.

    Raises:
        ThinkrankError: if one is unknown or has an impossible value; names it and the way out.
    """
    known = sorted(model.model_fields)
    for name in options:
        if name not in known:
            rest = f". It takes: {', '.join(known)}." if known else ". It takes none."
            raise ThinkrankError(f"{source}: unknown option {name!r}{did_you_mean(name, known)}{rest}")
    try:
        return model(**options)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        why = fault["msg"].removeprefix("Value error, ")
        raise ThinkrankError(f"{source}: option {where}={fault['input']!r}: {why}") from error
