"""A small run of item-kNN, and users to answer."""

import polars as pl
import pytest
import tomli_w

from thinkrank.data import load_dataset, split_dataset
from thinkrank.retrieve import ItemKNN

ITEMS = [f"i{number}" for number in range(10, 30)]


@pytest.fixture
def run(tmp_path):
    """The folder of a run that trained item-kNN on a shop of 40 customers."""
    shop, folder = tmp_path / "shop", tmp_path / "run"
    shop.mkdir()
    (shop / "items.csv").write_text("item,title\n" + "".join(f"{item},Wine {item}\n" for item in ITEMS))
    rows = [
        f"u{user},{ITEMS[(user + step * step) % 20]},{1_600_000_000 + 1000 * user + step}\n"
        for user in range(40)
        for step in range(5)
    ]
    (shop / "interactions.csv").write_text("user,item,timestamp\n" + "".join(rows))
    ItemKNN().fit(split_dataset(load_dataset("table", shop))).save_pretrained(folder / "model")
    config = {"data": {"source": "table", "path": str(shop)}, "training": {"steps": 1}}
    (folder / "config.toml").write_text(tomli_w.dumps(config))
    return folder


@pytest.fixture
def people(tmp_path):
    """100 new users, a row each, in two files; one of them took nothing yet."""
    folder = tmp_path / "people"
    folder.mkdir()
    taken = [ITEMS[user % 20 : user % 20 + user % 4] for user in range(100)]
    table = pl.DataFrame({"user": [f"p{user}" for user in range(100)], "items": taken})
    table[:64].write_parquet(folder / "a.parquet")
    table[64:].write_parquet(folder / "b.parquet")
    return folder
