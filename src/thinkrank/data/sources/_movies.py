"""Titles as MovieLens writes them: ``Usual Suspects, The (1995)``."""

import polars as pl

_ARTICLES = "The|A|An|El|La|Los|Las|Il|Lo|Gli|Le|Les|Un|Une|Una|Der|Die|Das|Ein|Eine|Den|Det|De|Het|Een"
_YEAR = r"\((\d{4})(?:[-–](?:\d{4})?)?\)"
_MEDIUM = r"\s*\((?:V|TV|VG)\)\s*$"


def split_title(raw: str = "title") -> list[pl.Expr]:
    """Make expressions for ``title``, without its year and with its article in front, and ``year``.

    Args:
        raw: the column that holds titles as in the files.
    """
    text = pl.col(raw).str.replace(_MEDIUM, "").str.strip_chars()
    year = text.str.extract(_YEAR + "$").cast(pl.Int32)
    name = text.str.replace(rf"\s*{_YEAR}$", "").str.strip_chars()
    # A title may end in an article, and so may the original title in brackets behind it.
    name = name.str.replace(rf"^([^()]+?), ({_ARTICLES})($|\s+\()", "${2} ${1}${3}")
    name = name.str.replace_all(rf"\(([^()]+?), ({_ARTICLES})\)", "(${2} ${1})")
    name = name.str.replace(r"^([^()]+?), (L')($|\s+\()", "${2}${1}${3}")
    name = name.str.replace_all(r"\(([^()]+?), (L')\)", "(${2}${1})")
    return [name.alias("title"), year.alias("year")]
