"""The MovieLens family: CSV files (ml-latest, 20M and later) and ``::`` files (1M, 10M)."""

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from thinkrank.data.dataset import Dataset
from thinkrank.data.download import download
from thinkrank.data.reading import ROW, Files, Table, read_delimited
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.sources._movies import split_title
from thinkrank.data.validation import read_events
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

NAME = "movielens"
_URL = "https://files.grouplens.org/datasets/movielens/{variant}.zip"
# ml-latest-small is replaced now and then, so it has no fixed checksum.
_MD5 = {"ml-1m": "c4d9eecfca2ab87c1945afe126590906", "ml-32m": "d472be332d4daa821edc399621853b57"}
_RATING_FIELDS = ("userId", "movieId", "rating", "timestamp")
_MOVIE_FIELDS = ("movieId", "title", "genres")
_EVENT_COLUMNS = {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"}


class MovieLensOptions(Options):
    """Options of the source ``movielens``."""

    variant: Literal["ml-latest-small", "ml-1m", "ml-32m"] = Field(
        "ml-latest-small", description="which set is downloaded; without effect if a path is given"
    )


def load_movielens(path: Path | None, options: MovieLensOptions) -> Dataset:
    """Load a MovieLens data set other than 100K.

    Args:
        path: a folder or zip with ``ratings.csv`` and ``movies.csv``, or ``ratings.dat`` and ``movies.dat``. None
            downloads.
        options: what to download.
    """
    if path is None:
        path = download(_URL.format(variant=options.variant), md5=_MD5.get(options.variant))
        dataset_name, recorded = str(options.variant), options.model_dump()
    else:
        dataset_name, recorded = NAME, {}
    files = Files.at(path)
    if files.find("ratings.csv"):
        events, movies = _read_csv(files)
    elif files.find("ratings.dat"):
        events, movies = _read_dat(files)
    else:
        raise ThinkrankError(f"{files.where}: holds neither ratings.csv and movies.csv nor ratings.dat and movies.dat")
    movies.require(*_MOVIE_FIELDS)
    genres = pl.col("genres").replace("(no genres listed)", None).str.split("|").fill_null([])
    items = movies.frame.select(pl.col("movieId").alias("item"), *split_title(), genres.alias("categories"), ROW)
    return assemble(dataset_name, events, movies.with_frame(items), source=NAME, options=recorded)


def _read_csv(files: Files) -> tuple[Table, Table]:
    ratings, movies = files.require("ratings.csv"), files.require("movies.csv")
    events = read_events(ratings.name, read_delimited(ratings), _EVENT_COLUMNS)
    return events, Table.gather(movies.name, read_delimited(movies))


def _read_dat(files: Files) -> tuple[Table, Table]:
    ratings, movies = files.require("ratings.dat"), files.require("movies.dat")
    rating_rows, movie_rows = (
        read_delimited(file, separator="::", header=header, quoted=False, encoding="latin-1")
        for file, header in ((ratings, _RATING_FIELDS), (movies, _MOVIE_FIELDS))
    )
    return read_events(ratings.name, rating_rows, _EVENT_COLUMNS), Table.gather(movies.name, movie_rows)
