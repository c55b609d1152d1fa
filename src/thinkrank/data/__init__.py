"""What users did: data sets, their sources, filters and splits."""

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.splits import Sample, Samples, Split, SplitKind, split_dataset

__all__ = [
    "Catalogue",
    "Dataset",
    "History",
    "Sample",
    "Samples",
    "Split",
    "SplitKind",
    "split_dataset",
]
