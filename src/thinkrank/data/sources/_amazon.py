"""What the two releases of the Amazon reviews have in common."""

from typing import Annotated

import polars as pl
from pydantic import Field

from thinkrank.data.columns import paragraph, price, read_as, text_list
from thinkrank.data.dataset import Dataset
from thinkrank.data.download import download
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_json_lines, read_records
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.validation import Untitled, read_events
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

_PRODUCT_COLUMNS = ("item", "title", "categories", "description", "price", "brand")


class AmazonOptions(Options):
    """Options of the sources ``amazon-2018`` and ``amazon-2023``."""

    category: Annotated[str, Field(pattern=r"^\w+$")] | None = Field(
        None,
        description="category, as in its file names, such as Video_Games; to download, and to choose among several "
        "in a folder",
    )
    untitled: Untitled = Field(
        "drop", description="what becomes of products without a title: dropped, or go by their id"
    )


def fetch_category(source: str, category: str | None, events_url: str, items_url: str) -> tuple[DataFile, DataFile]:
    """Download the two files of a category.

    Raises:
        ThinkrankError: if no category is given, or the server does not have it.
    """
    if category is None:
        raise ThinkrankError(f"{source}: which category? Give category='Video_Games', say, or a path.")
    events, items = (download(url.format(category=category)) for url in (events_url, items_url))
    return DataFile.at(events), DataFile.at(items)


def find_category(files: Files, category: str | None, suffixes: tuple[str, ...]) -> tuple[DataFile, DataFile]:
    """Find the two files of a category in a folder: ``meta_{category}.*`` and ``{category}.*``.

    Args:
        files: the folder.
        category: which one; None if there is only one.
        suffixes: of the file with the interactions, best first.

    Raises:
        ThinkrankError: if there is none, or several and no category is given.
    """
    metas = files.find("meta_*.jsonl.gz", "meta_*.jsonl", "meta_*.json.gz", "meta_*.json")
    there = sorted({meta.name.removeprefix("meta_").split(".")[0] for meta in metas})
    if category is None and len(there) > 1:
        raise ThinkrankError(
            f"{files.where}: holds several categories ({', '.join(there)}). Choose one with category=."
        )
    category = category or (there[0] if there else "*")
    items = files.require(*(f"meta_{category}{suffix}" for suffix in (".jsonl.gz", ".jsonl", ".json.gz", ".json")))
    return files.require(*(f"{category}{suffix}" for suffix in suffixes)), items


def load_category(
    source: str,
    reviews: DataFile,
    products: DataFile,
    options: AmazonOptions,
    event_fields: dict[str, str],
    product_fields: dict[str, str],
    *,
    keep_first: bool = False,
) -> Dataset:
    """Load a category from its two files.

    Args:
        source: the source's name; the data set is called after it and the category.
        reviews: a table or one JSON object per line.
        products: one JSON object per line.
        options: what to do with products without a title.
        event_fields: which field is the user, item, rating and timestamp.
        product_fields: which field is the item, title, categories, description, price and brand, if it is called
            otherwise.
        keep_first: whether a repeated product is a notice and not a fault.
    """
    events = read_events(reviews.name, read_records(reviews, fields=list(event_fields.values())), event_fields)
    return assemble(
        f"{source}-{reviews.name.split('.')[0]}",
        events,
        _read_products(products, product_fields),
        source=source,
        options=options.model_dump(),
        untitled=options.untitled,
        keep_first=keep_first,
    )


def _read_products(file: DataFile, fields: dict[str, str]) -> Table:
    """Read products without average rating and number of ratings.

    These are counted over the whole crawl, later test years included.
    """
    columns = {name: fields.get(name, name) for name in _PRODUCT_COLUMNS}
    blocks = []
    for block in read_json_lines(file, list(columns.values()), required=[columns["item"]]):
        frame = block.select(*(pl.col(there).alias(here) for here, there in columns.items()), ROW)
        blocks.append(frame.with_columns(text_list(frame["categories"]), paragraph(frame["description"])))
    return read_as(Table.gather(file.name, blocks), "price", price, "prices")
