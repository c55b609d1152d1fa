"""Columns that several sources write in their own ways."""

import polars as pl

from thinkrank.data.reading.jsonlines import json_texts

_AMOUNT = r"^\s*\$?\s*([0-9][0-9,]*(?:\.[0-9]+)?)\s*$"


def price(values: pl.Series) -> pl.Series:
    """Read prices as numbers; ``$1,299.00`` is one, ``from 14.99`` and other sentences are null."""
    if values.dtype != pl.String:
        return values.cast(pl.Float64, strict=False)
    return values.str.extract(_AMOUNT).str.replace_all(",", "").cast(pl.Float64, strict=False)


def text_list(values: pl.Series, separator: str | None = None) -> pl.Series:
    """Make lists of texts from lists, from JSON lists in text, or from texts with a separator."""
    if isinstance(values.dtype, pl.List):
        return values.cast(pl.List(pl.String))
    texts = values.cast(pl.String)
    return json_texts(texts) if separator is None else texts.str.split(separator)


def paragraph(values: pl.Series) -> pl.Series:
    """Join a text or a list of them into one text, in their order; null stays null."""
    return text_list(values).list.drop_nulls().list.join(" ")
