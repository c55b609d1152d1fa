import pytest

from thinkrank.data import load_dataset
from thinkrank.data.sources import _amazon
from thinkrank.errors import ThinkrankError

REVIEWS = [
    {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1475280000, "reviewText": "x"},
    {"reviewerID": "A1", "asin": "B2", "overall": 3, "unixReviewTime": 1475366400, "verified": True},
    {"reviewerID": "A2", "asin": "B3", "overall": 4.0, "unixReviewTime": 1475366400},
]
PRODUCTS = [
    {
        "asin": "B1",
        "title": "Blue &amp; <b>Red</b> Pens",
        "description": ["First.", "Second <br> line."],
        "category": ["Office", "Pens &amp; Pencils"],
        "price": "$1,299.00",
        "brand": "Pen Co",
    },
    {"asin": "B2", "title": "Stapler", "description": "One text", "price": "$5.00 - $9.00", "rank": {"a": 1}},
    {"asin": "B2", "title": "Stapler again"},
    {"asin": "B3", "title": ""},
]


@pytest.fixture
def folder(write, json_lines, tmp_path):
    write("Office_Products.json.gz", json_lines(*REVIEWS))
    write("meta_Office_Products.json.gz", json_lines(*PRODUCTS))
    return tmp_path


def test_raw_files_are_read(folder):
    dataset = load_dataset("amazon-2018", folder)
    assert dataset.name == "amazon-2018-Office_Products"
    assert dataset.catalogue.frame.rows(named=True) == [
        {
            "item": "B1",
            "title": "Blue & Red Pens",
            "categories": ["Office", "Pens & Pencils"],
            "description": "First. Second line.",
            "price": 1299.0,
            "brand": "Pen Co",
        },
        {
            "item": "B2",
            "title": "Stapler",
            "categories": None,
            "description": "One text",
            "price": None,
            "brand": None,
        },
    ]
    assert dataset.interactions.rows() == [("A1", "B1", 1475280000, 5.0), ("A1", "B2", 1475366400, 3.0)]
    assert dataset.notices == (
        "meta_Office_Products.json.gz: 1 values of price are not prices and count as unknown, such as '$5.00 - $9.00' "
        "(first: row 2)",
        "meta_Office_Products.json.gz: dropped 1 rows that repeat an item id (first: row 3)",
        "meta_Office_Products.json.gz: dropped 1 items without a title (first: row 4)",
        "Office_Products.json.gz: dropped 1 interactions whose item has no title (first: row 3)",
    )


def test_items_without_a_title_can_go_by_their_id(folder):
    dataset = load_dataset("amazon-2018", folder, untitled="id")
    assert dataset.catalogue.titles == ["Blue & Red Pens", "Stapler", "B3"]
    assert len(dataset.items_E) == 3


def test_of_several_categories_one_must_be_chosen(folder, write, json_lines):
    write("Books.json", json_lines(*REVIEWS))
    write("meta_Books.json", json_lines(*PRODUCTS))
    with pytest.raises(ThinkrankError, match=r"holds several categories \(Books, Office_Products\)"):
        load_dataset("amazon-2018", folder)
    assert load_dataset("amazon-2018", folder, category="Books").name == "amazon-2018-Books"
    with pytest.raises(ThinkrankError, match=r"holds no meta_Boks\.jsonl\.gz or .*; nearest: meta_Books\.json"):
        load_dataset("amazon-2018", folder, category="Boks")


def test_the_prepared_pair_is_read(write, tmp_path):
    write("interactions.csv", "user_id,item_id,asin,rating,timestamp,seen_in\nA,1,B1,4.0,1475280000,hist\n")
    write("items.csv", 'item_id,asin,title\n0,,"Pens, blue"\n1,B1,Stapler\n')
    dataset = load_dataset("amazon-2018", tmp_path)
    assert dataset.catalogue.frame.rows() == [("0", "Pens, blue", None), ("1", "Stapler", "B1")]
    assert dataset.interactions.rows() == [("A", "1", 1475280000, 4.0)]


def test_a_category_is_downloaded_as_a_pair(monkeypatch, folder):
    asked = []

    def fake(url):
        asked.append(url)
        return folder / url.rsplit("/", 1)[1]

    monkeypatch.setattr(_amazon, "download", fake)
    dataset = load_dataset("amazon-2018", category="Office_Products")
    host = "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_v2"
    assert asked == [
        f"{host}/categoryFiles/Office_Products.json.gz",
        f"{host}/metaFiles2/meta_Office_Products.json.gz",
    ]
    assert dataset.fingerprint == load_dataset("amazon-2018", folder).fingerprint


@pytest.mark.parametrize("source", ["amazon-2018", "amazon-2023"])
def test_a_download_needs_a_category(source):
    with pytest.raises(ThinkrankError, match="which category"):
        load_dataset(source)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("folder", "users", "items", "seen", "events"),
    [("office-products", 3231, 3459, 3317, 21_290), ("industrial-scientific", 3285, 3686, 3541, 21_737)],
)
def test_the_real_prepared_pairs(shared_data, folder, users, items, seen, events):
    dataset = load_dataset("amazon-2018", shared_data / f"amazon18-{folder}")
    assert (len(dataset.users), len(dataset.catalogue), len(dataset.items_E)) == (users, items, events)
    assert dataset.describe()["items_seen"] == seen
    assert dataset.notices == ()
