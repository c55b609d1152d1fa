"""Files as tables of text, block by block, with the row numbers that error messages need.

Nothing here knows what the columns mean. Everywhere in `thinkrank.data`, *row n* of a file is its n-th row after the
header line (so line n + 1 of a CSV file without line breaks in its texts), or its n-th line where there is no header.
"""

from thinkrank.data.reading.delimited import read_delimited
from thinkrank.data.reading.files import DataFile, Files
from thinkrank.data.reading.jsonlines import read_json_lines
from thinkrank.data.reading.records import TABLE_SUFFIXES, read_records
from thinkrank.data.reading.table import ROW, Table

__all__ = [
    "ROW",
    "TABLE_SUFFIXES",
    "DataFile",
    "Files",
    "Table",
    "read_delimited",
    "read_json_lines",
    "read_records",
]
