import zipfile

import pytest

from thinkrank.data import load_dataset
from thinkrank.data.sources import movielens
from thinkrank.errors import ThinkrankError

RATINGS = "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,2,3.0,1260759179\n2,31,4.5,835355493\n"
MOVIES = (
    "movieId,title,genres\n"
    '31,"Misérables, Les (1998)",Drama\n'
    '2,"""Great"" Performances (1975)",(no genres listed)\n'
    "4,Heat (1995),Action|Crime|Film-Noir\n"
)


@pytest.fixture
def csv_folder(write, tmp_path):
    write("ratings.csv", RATINGS)
    write("movies.csv", MOVIES)
    return tmp_path


def test_csv_files_are_read(csv_folder):
    dataset = load_dataset("movielens", csv_folder)
    assert dataset.catalogue.frame.rows() == [
        ("2", '"Great" Performances', [], 1975),
        ("4", "Heat", ["Action", "Crime", "Film-Noir"], 1995),
        ("31", "Les Misérables", ["Drama"], 1998),
    ]
    assert dataset.interactions["rating"].to_list() == [2.5, 3.0, 4.5]


def test_double_colon_files_say_the_same(csv_folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::31::2.5::1260759144\n1::2::3.0::1260759179\n2::31::4.5::835355493\n")
        movies = (
            '31::Misérables, Les (1998)::Drama\n2::"Great" Performances (1975)::(no genres listed)\n'
            "4::Heat (1995)::Action|Crime|Film-Noir\n"
        )
        archive.writestr("ml-1m/movies.dat", movies.encode("latin-1"))
    dataset = load_dataset("movielens", tmp_path / "ml-1m.zip")
    assert dataset.fingerprint == load_dataset("movielens", csv_folder).fingerprint


@pytest.mark.parametrize("variant", ["ml-latest-small", "ml-1m", "ml-32m"])
def test_the_variant_decides_what_is_downloaded(monkeypatch, csv_folder, variant):
    asked = []
    monkeypatch.setattr(movielens, "download", lambda url, md5: asked.append(url) or csv_folder)
    dataset = load_dataset("movielens", variant=variant)
    assert asked == [f"https://files.grouplens.org/datasets/movielens/{variant}.zip"]
    assert dataset.name == variant
    assert dataset.source["options"] == {"variant": variant}


@pytest.mark.shared_data
def test_the_real_small_set(shared_data):
    dataset = load_dataset("movielens", shared_data / "ml-latest-small")
    assert (len(dataset.users), len(dataset.catalogue), len(dataset.items_E)) == (671, 9125, 100_004)
    description = dataset.describe()
    assert description["items_seen"] == 9066
    assert description["dates"]["first"].startswith("1995-01-09")
    assert description["dates"]["last"].startswith("2016-10-16")
    assert dataset.notices == ()
    assert dataset.catalogue.frame["year"].drop_nulls().is_between(1890, 2016).all()


def test_advice_names_no_option_that_the_source_lacks(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,5,964982703\n")
    (tmp_path / "movies.csv").write_bytes("movieId,title,genres\n1,Вокзал для двоих (1982),Drama\n".encode("cp1251"))
    with pytest.raises(ThinkrankError, match=r"makes no words .*\. Save it as UTF-8\.$"):
        load_dataset("movielens", tmp_path)
