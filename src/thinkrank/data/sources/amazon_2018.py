"""Amazon reviews, release of 2018: raw JSON lines per category, or a prepared pair of CSV files."""

from pathlib import Path

import polars as pl

from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_delimited
from thinkrank.data.sources._amazon import AmazonOptions, fetch_category, find_category, load_category
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.validation import read_events

NAME = "amazon-2018"
_HOST = "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_v2"
_EVENTS_URL = _HOST + "/categoryFiles/{category}.json.gz"
_ITEMS_URL = _HOST + "/metaFiles2/meta_{category}.json.gz"
_REVIEW_FIELDS = {"user": "reviewerID", "item": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
_PRODUCT_FIELDS = {"item": "asin", "categories": "category"}
_PAIR_FIELDS = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp"}


def load_amazon_2018(path: Path | None, options: AmazonOptions) -> Dataset:
    """Load a category of the Amazon reviews of 2018.

    Times are whole days, so much of what a user did falls together; it keeps the order of the file.

    Args:
        path: a folder or zip with ``{Category}.json.gz`` and ``meta_{Category}.json.gz`` (or uncompressed), or with
            ``interactions.csv`` (user_id, item_id, rating, timestamp) and ``items.csv`` (item_id, title). None
            downloads the category.
        options: which category.
    """
    if path is None:
        return _load_raw(*fetch_category(NAME, options.category, _EVENTS_URL, _ITEMS_URL), options)
    files = Files.at(path)
    if files.find("interactions.csv") and options.category is None:
        return _load_pair(files, options)
    return _load_raw(*find_category(files, options.category, (".json.gz", ".json", "_5.json.gz", "_5.json")), options)


def _load_raw(reviews: DataFile, products: DataFile, options: AmazonOptions) -> Dataset:
    # The official metadata repeats products, so repeated ids are no fault of the user's.
    return load_category(NAME, reviews, products, options, _REVIEW_FIELDS, _PRODUCT_FIELDS, keep_first=True)


def _load_pair(files: Files, options: AmazonOptions) -> Dataset:
    interactions, products = files.require("interactions.csv"), files.require("items.csv")
    events = read_events(interactions.name, read_delimited(interactions), _PAIR_FIELDS)
    table = Table.gather(products.name, read_delimited(products))
    table.require("item_id", "title")
    further = [pl.col("asin")] if "asin" in table.frame.columns else []
    items = table.with_frame(table.frame.select(pl.col("item_id").alias("item"), "title", *further, ROW))
    return assemble(NAME, events, items, source=NAME, options=options.model_dump(), untitled=options.untitled)
