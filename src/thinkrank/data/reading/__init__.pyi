from .delimited import read_delimited as read_delimited
from .files import DataFile as DataFile
from .files import Files as Files
from .jsonlines import read_json_lines as read_json_lines
from .records import TABLE_SUFFIXES as TABLE_SUFFIXES
from .records import read_records as read_records
from .table import ROW as ROW
from .table import Table as Table
