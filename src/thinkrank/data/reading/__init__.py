"""Files as tables of text, block by block, with the row numbers that error messages need.

Nothing here knows what the columns mean. Everywhere in `thinkrank.data`, *row n* of a file is its n-th row after the
header line (so line n + 1 of a CSV file without line breaks in its texts), or its n-th line where there is no header.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
