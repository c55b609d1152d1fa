import gzip
import zipfile

import pytest

from thinkrank.data.reading import DataFile, Files, read_records
from thinkrank.errors import ThinkrankError


def test_gzip_is_told_by_its_contents(write):
    assert DataFile.at(write("a.csv.gz", "text")).read() == b"text"
    assert DataFile.at(write("a.csv", gzip.compress(b"text"))).read() == b"text"


def test_a_file_that_only_claims_to_be_gzip_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_text("<html>Not found</html>")
    with pytest.raises(ThinkrankError, match=r"a\.csv\.gz: is not gzip"):
        DataFile.at(tmp_path / "a.csv.gz").read()


def test_a_truncated_or_damaged_gzip_is_refused(tmp_path):
    packed = gzip.compress(bytes(range(256)) * 500)
    for damaged, message in ((packed[: len(packed) // 2], "truncated"), (packed[:-8] + b"12345678", "damaged")):
        (tmp_path / "a.csv.gz").write_bytes(damaged)
        with pytest.raises(ThinkrankError, match=message):
            DataFile.at(tmp_path / "a.csv.gz").read()


def test_a_damaged_zip_member_is_refused(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "some text that is long enough")
    path.write_bytes(path.read_bytes().replace(b"long", b"wrong"[:4]))
    with pytest.raises(ThinkrankError, match=r"a\.csv: damaged"):
        Files.at(path).require("a.csv").read()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"<html>"])
def test_what_is_no_zip_is_refused(write, content):
    with pytest.raises(ThinkrankError, match="neither a folder nor a readable zip file"):
        Files.at(write("set.zip", content))


@pytest.mark.parametrize("name", ["orders.xlsx", "orders.XLS"])
def test_a_spreadsheet_is_refused_with_the_way_out(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    told = "is a spreadsheet, which is not read. Save each sheet as CSV"
    with pytest.raises(ThinkrankError, match=told):
        Files.at(tmp_path / name)
    with pytest.raises(ThinkrankError, match=told):
        read_records(DataFile.at(tmp_path / name))


def test_nothing_at_all_is_refused(tmp_path):
    with pytest.raises(ThinkrankError, match="no such file or folder"):
        Files.at(tmp_path / "nowhere")


def test_shallow_files_come_first_and_missing_ones_name_the_nearest(tmp_path, write):
    write("b/ratings.csv", "deep")
    write("ratings.csv", "shallow")
    files = Files.at(tmp_path)
    assert files.require("ratings.csv").read() == b"shallow"
    with pytest.raises(ThinkrankError, match=r"holds no rating\.csv; nearest: ratings\.csv"):
        files.require("rating.csv")
