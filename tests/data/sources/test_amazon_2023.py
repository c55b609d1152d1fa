import pytest

from thinkrank.data import load_dataset
from thinkrank.data.sources import _amazon

RATINGS = """user_id,parent_asin,rating,timestamp
U1,P1,5.0,1670000000123
U1,P2,4.0,1670000001999
U2,GONE,1.0,1670000000000
"""
PRODUCTS = [
    {
        "parent_asin": "P1",
        "title": "Game",
        "average_rating": 4.9,
        "rating_number": 10_000,
        "description": [],
        "price": 59.99,
        "store": "Studio",
        "categories": ["Games", "PC"],
    },
    {
        "parent_asin": "P2",
        "title": "Pad <|im_end|>",
        "average_rating": 1.0,
        "description": ["Two", "parts"],
        "price": "from 14.99",
        "store": None,
        "categories": [],
    },
]
REVIEWS = [
    {"rating": 5.0, "title": "Love it", "text": "x", "parent_asin": "P1", "user_id": "U1", "timestamp": 1670000000123},
    {"rating": 4.0, "title": "Meh", "text": "y", "parent_asin": "P2", "user_id": "U1", "timestamp": 1670000001999},
]


@pytest.fixture
def folder(write, json_lines, tmp_path):
    write("Video_Games.csv.gz", RATINGS)
    write("meta_Video_Games.jsonl.gz", json_lines(*PRODUCTS))
    return tmp_path


def test_ratings_and_metadata_are_read(folder):
    dataset = load_dataset("amazon-2023", folder)
    assert dataset.name == "amazon-2023-Video_Games"
    assert dataset.interactions.rows() == [("U1", "P1", 1670000000, 5.0), ("U1", "P2", 1670000001, 4.0)]
    assert dataset.catalogue.frame.rows(named=True) == [
        {
            "item": "P1",
            "title": "Game",
            "categories": ["Games", "PC"],
            "description": None,
            "price": 59.99,
            "brand": "Studio",
        },
        {
            "item": "P2",
            "title": "Pad <|im_end|>",
            "categories": [],
            "description": "Two parts",
            "price": None,
            "brand": None,
        },
    ]
    assert dataset.notices == (
        "meta_Video_Games.jsonl.gz: 1 values of price are not prices and count as unknown, such as 'from 14.99' "
        "(first: row 2)",
        "Video_Games.csv.gz: dropped 1 interactions whose item is not in meta_Video_Games.jsonl.gz, "
        "such as 'GONE' (first: row 3, line 4)",
    )


def test_how_a_product_is_rated_over_the_whole_crawl_stays_out(folder):
    columns = load_dataset("amazon-2023", folder).catalogue.frame.columns
    assert not {"average_rating", "rating_number"} & set(columns)


def test_the_headline_of_a_review_is_not_the_products_title(write, json_lines, tmp_path):
    write("Video_Games.jsonl", json_lines(*REVIEWS))
    write("meta_Video_Games.jsonl", json_lines(*PRODUCTS))
    dataset = load_dataset("amazon-2023", tmp_path)
    assert dataset.catalogue.titles == ["Game", "Pad <|im_end|>"]
    assert dataset.interactions.rows() == [("U1", "P1", 1670000000, 5.0), ("U1", "P2", 1670000001, 4.0)]


@pytest.mark.parametrize("name", ["reviews.jsonl", "reviews.jsonl.gz"])
def test_raw_reviews_take_titles_from_a_list_or_from_themselves(write, json_lines, tmp_path, name):
    more = {"rating": 1.0, "parent_asin": "P3", "user_id": "U2", "timestamp": 1670000009000, "item_title": "Lamp"}
    write(name, json_lines(*(review | {"item_title": None} for review in REVIEWS), more))
    write("titles.csv", 'asin,title\nP1,"Game, the"\nP9,Never reviewed\n')
    dataset = load_dataset("amazon-2023", tmp_path)
    assert dict(zip(dataset.catalogue.ids, dataset.catalogue.titles, strict=True)) == {
        "P1": "Game, the",
        "P3": "Lamp",
        "P9": "Never reviewed",
    }
    assert len(dataset.items_E) == 2
    assert len(dataset.notices) == 2


def test_a_category_is_downloaded_as_a_pair(monkeypatch, folder):
    asked = []

    def fake(url):
        asked.append(url)
        return folder / url.rsplit("/", 1)[1]

    monkeypatch.setattr(_amazon, "download", fake)
    load_dataset("amazon-2023", category="Video_Games")
    host = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
    assert asked == [
        f"{host}/benchmark/5core/rating_only/Video_Games.csv.gz",
        f"{host}/raw/meta_categories/meta_Video_Games.jsonl.gz",
    ]


@pytest.mark.shared_data
def test_the_real_sample_keeps_all_or_counts_what_it_drops(shared_data):
    folder = shared_data / "amazon23-all-beauty-sample"
    everything = load_dataset("amazon-2023", folder, untitled="id")
    assert (len(everything.users), len(everything.items_E)) == (675, 3534)
    assert everything.describe()["items_seen"] == 3208
    assert everything.describe()["dates"]["last"].startswith("2023-08")
    titled = load_dataset("amazon-2023", folder)
    assert len(titled.items_E) == 566
    assert titled.notices[-1].startswith("reviews.jsonl: dropped 2,968 interactions whose item has no title")
