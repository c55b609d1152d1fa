"""Amazon reviews, release of 2023: ratings per category with metadata, or raw reviews."""

from pathlib import Path

import polars as pl

from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_delimited, read_json_lines, read_records
from thinkrank.data.sources._amazon import AmazonOptions, fetch_category, find_category, load_category
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.validation import read_events

NAME = "amazon-2023"
_HOST = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
_EVENTS_URL = _HOST + "/benchmark/5core/rating_only/{category}.csv.gz"
_ITEMS_URL = _HOST + "/raw/meta_categories/meta_{category}.jsonl.gz"
_EVENT_FIELDS = {"user": "user_id", "item": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
_PRODUCT_FIELDS = {"item": "parent_asin", "brand": "store"}


def load_amazon_2023(path: Path | None, options: AmazonOptions) -> Dataset:
    """Load a category of the Amazon reviews of 2023. Times are milliseconds in the files, seconds here.

    Args:
        path: a folder or zip with ``{Category}.csv.gz`` or ``{Category}.jsonl.gz`` and ``meta_{Category}.jsonl.gz`` (or
            uncompressed), or with ``reviews.jsonl`` that holds ``item_title``, or beside it a ``titles.csv`` (asin,
            title). None downloads the category: its official 5-core ratings, and its metadata.
        options: which category.
    """
    if path is None:
        category = fetch_category(NAME, options.category, _EVENTS_URL, _ITEMS_URL)
    else:
        files = Files.at(path)
        if files.find("reviews.jsonl", "reviews.jsonl.gz") and not files.find("meta_*"):
            return _load_reviews(files, options)
        category = find_category(files, options.category, (".csv.gz", ".csv", ".jsonl.gz", ".jsonl"))
    # In raw reviews `title` is the review's headline; only the product's counts.
    return load_category(NAME, *category, options, _EVENT_FIELDS, _PRODUCT_FIELDS)


def _load_reviews(files: Files, options: AmazonOptions) -> Dataset:
    reviews = files.require("reviews.jsonl", "reviews.jsonl.gz")
    events = read_events(reviews.name, read_records(reviews, fields=list(_EVENT_FIELDS.values())), _EVENT_FIELDS)
    items = _reviewed_products(reviews)
    titles = files.find("titles.csv", "titles.csv.gz")
    if titles:
        items = _add_titles(items, titles[0])
    return assemble(NAME, events, items, source=NAME, options=options.model_dump(), untitled=options.untitled)


def _reviewed_products(reviews: DataFile) -> Table:
    """List each product that is reviewed, with its title if any review knows it."""
    table = Table.gather(reviews.name, read_json_lines(reviews, ["parent_asin", "item_title"]))
    products = table.frame.group_by(pl.col("parent_asin").alias("item"), maintain_order=True)
    return table.with_frame(products.agg(pl.col("item_title").drop_nulls().first().alias("title"), pl.col(ROW).min()))


def _add_titles(items: Table, file: DataFile) -> Table:
    titles = Table.gather(file.name, read_delimited(file))
    titles.require("asin", "title")
    listed = titles.frame.select(pl.col("asin").alias("item"), "title", ROW)
    unlisted = items.frame.join(listed, on="item", how="anti", maintain_order="left")
    return Table(f"{file.name} with {items.file}", pl.concat([listed, unlisted]))
