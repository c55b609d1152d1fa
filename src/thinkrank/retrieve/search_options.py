"""How the best items of a catalogue are found."""

from typing import Literal

from pydantic import Field

from thinkrank.options import Options


class SearchOptions(Options):
    """Say how the best items of a catalogue are found."""

    index: Literal["exact", "flat", "ivf", "hnsw"] = Field(
        "exact",
        description="how the best items are found: exact compares all of them, block by block; flat, ivf and hnsw are "
        "indexes of faiss (extra ann), of which ivf and hnsw miss some items",
    )
    lists: int | None = Field(
        None, ge=1, description="lists that ivf deals the items into; without it 4 times the root of their number"
    )
    probes: int = Field(32, ge=1, description="lists that ivf looks through for each question")
    links: int = Field(32, ge=2, description="neighbours that hnsw links each item to")
    effort: int = Field(128, ge=1, description="items that hnsw keeps in view while it builds and while it searches")
