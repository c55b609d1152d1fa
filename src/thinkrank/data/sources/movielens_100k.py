"""MovieLens-100K: the official files, or the copy inside the ``recbole`` wheel."""

import importlib.util
from pathlib import Path

import polars as pl

from thinkrank.data.dataset import Dataset
from thinkrank.data.download import cached, download
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_delimited
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.sources._movies import split_title
from thinkrank.data.validation import read_events
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

NAME = "movielens-100k"
_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_MD5 = "0e33842e24a9c977be4e0107933c0723"
_RATING_FIELDS = ("user", "item", "rating", "timestamp")
# The order of the flags in u.item.
_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_ITEM_FIELDS = ("item", "title", "release_date", "video_release_date", "url", *_GENRES)


class MovieLens100KOptions(Options):
    """No options: there is one MovieLens-100K."""


def load_movielens_100k(path: Path | None, options: MovieLens100KOptions) -> Dataset:
    """Load 100,000 ratings of 1,682 movies by 943 users.

    Args:
        path: the official zip or the folder in it, or a folder with ``ml-100k.inter`` and ``ml-100k.item``. None takes
            an earlier download, else the installed ``recbole`` wheel, else downloads the official zip.
        options: none.
    """
    files = Files.at(path or _default_path())
    if files.find("u.data"):
        return _assemble_official(files, options)
    if files.find("ml-100k.inter"):
        return _assemble_atomic(files, options)
    raise ThinkrankError(f"{files.where}: holds neither u.data and u.item nor ml-100k.inter and ml-100k.item")


def _default_path() -> Path:
    earlier = cached(_URL)
    if earlier is not None:
        return earlier
    # Its code is never imported: it needs packages this one does not.
    wheel = importlib.util.find_spec("recbole")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent / "dataset_example" / "ml-100k"
        if folder.is_dir():
            return folder
    return download(_URL, md5=_MD5)


def _assemble_official(files: Files, options: MovieLens100KOptions) -> Dataset:
    ratings, movies = files.require("u.data"), files.require("u.item")
    blocks = read_delimited(ratings, separator="\t", header=_RATING_FIELDS, quoted=False, encoding="latin-1")
    events = read_events(ratings.name, blocks, {field: field for field in _RATING_FIELDS})
    rows = read_delimited(movies, separator="|", header=_ITEM_FIELDS, quoted=False, encoding="latin-1")
    genres = pl.concat_list(pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in _GENRES[1:])
    items = _items(movies, Table.gather(movies.name, rows), genres.list.drop_nulls())
    return assemble(NAME, events, items, source=NAME, options=options.model_dump())


def _assemble_atomic(files: Files, options: MovieLens100KOptions) -> Dataset:
    """Read the files of the wheel: UTF-8, a typed header, years in a column of their own, genres behind spaces."""
    ratings, movies = files.require("ml-100k.inter"), files.require("ml-100k.item")
    columns = {
        "user": "user_id:token",
        "item": "item_id:token",
        "rating": "rating:float",
        "timestamp": "timestamp:float",
    }
    events = read_events(ratings.name, read_delimited(ratings, separator="\t", quoted=False), columns)
    table = Table.gather(movies.name, read_delimited(movies, separator="\t", quoted=False))
    table.require("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    year = pl.col("release_year:token")
    # Two rows are broken in the wheel: item 267 has no title ("unkonwn"), item 1412 its year inside the title.
    title = pl.col("movie_title:token_seq").replace("unkonwn", "unknown")
    with_year = pl.when(year.str.contains(r"^\d{4}$")).then(pl.concat_str(title, pl.lit(" ("), year, pl.lit(")")))
    frame = table.frame.with_columns(pl.col("item_id:token").alias("item"), with_year.otherwise(title).alias("title"))
    genres = pl.col("class:token_seq").replace("unknown", None).str.split(" ").fill_null([])
    items = _items(movies, table.with_frame(frame), genres)
    return assemble(NAME, events, items, source=NAME, options=options.model_dump())


def _items(file: DataFile, table: Table, genres: pl.Expr) -> Table:
    return Table(file.name, table.frame.select("item", *split_title(), genres.alias("categories"), ROW))
