"""What users did: data sets, their sources, filters and splits."""

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.filters import FilterOptions, apply_filters, k_core
from thinkrank.data.history import History
from thinkrank.data.sources import SOURCES, load_dataset
from thinkrank.data.splits import Sample, Samples, Split, SplitKind, split_dataset

__all__ = [
    "SOURCES",
    "Catalogue",
    "Dataset",
    "FilterOptions",
    "History",
    "Sample",
    "Samples",
    "Split",
    "SplitKind",
    "apply_filters",
    "k_core",
    "load_dataset",
    "split_dataset",
]
