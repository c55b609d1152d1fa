"""What made items are called: every title is ``<style> <kind>``, in plain English words.

Shape legend: I items.
"""

import polars as pl
from jaxtyping import Int64
from numpy import ndarray

from thinkrank.data.catalogue import Catalogue

STYLES: tuple[str, ...] = (
    *("amber", "wooden", "velvet", "silver", "striped", "modern", "rustic", "crystal"),
    *("purple", "golden", "woven", "marble", "tiny", "copper", "painted", "leather"),
    *("green", "antique", "paper", "round", "scarlet", "folding", "cotton", "quiet"),
)
KINDS: tuple[str, ...] = (
    *("lamp", "chair", "clock", "vase", "mirror", "table", "basket", "blanket"),
    *("kettle", "shelf", "pillow", "bench", "bowl", "candle", "carpet", "drum"),
    *("mug", "ladder", "tray", "bell", "desk", "box", "bottle", "fan"),
)


def name_items(styles_I: Int64[ndarray, "I"], kinds_I: Int64[ndarray, "I"]) -> Catalogue:
    """Return a catalogue with both words of each title in ``categories``, and one each in ``style`` and ``kind``.

    Args:
        styles_I: places in `STYLES`.
        kinds_I: places in `KINDS`.
    """
    words = pl.DataFrame({"style": [STYLES[style] for style in styles_I], "kind": [KINDS[kind] for kind in kinds_I]})
    columns = (
        pl.Series("item", numbered("i", len(words))),
        pl.concat_str("style", "kind", separator=" ").alias("title"),
        pl.concat_list("style", "kind").alias("categories"),
    )
    return Catalogue(words.select(*columns, "style", "kind"))


def numbered(letter: str, count: int) -> list[str]:
    """Make ids whose order as text is that of their numbers: ``u00``, ``u01``, ..."""
    width = len(str(count - 1))
    return [f"{letter}{number:0{width}d}" for number in range(count)]
