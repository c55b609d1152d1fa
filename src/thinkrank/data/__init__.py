"""What users did: data sets, displayed lists, their sources, filters and splits."""

from thinkrank.data.candidates import Candidates, CandidateSets, NegativeKind, candidate_sets
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.features import FeatureState, with_running_features
from thinkrank.data.filters import FilterOptions, apply_filters, k_core
from thinkrank.data.histories import Histories
from thinkrank.data.history import History
from thinkrank.data.impressions import ImpressionDataset, ImpressionSplit
from thinkrank.data.popularity import with_popularity
from thinkrank.data.requests import Requests
from thinkrank.data.sources import LIST_SOURCES, SOURCES, load_dataset, load_impressions, register_source
from thinkrank.data.splits import Sample, Samples, Split, SplitKind, split_dataset
from thinkrank.data.synthetic import RelayOptions, RelayWorld, World, WorldOptions, expected_ndcg, relay_split
from thinkrank.data.synthetic.lists import ListWorld, ListWorldOptions

__all__ = [
    "LIST_SOURCES",
    "SOURCES",
    "CandidateSets",
    "Candidates",
    "Catalogue",
    "Dataset",
    "FeatureState",
    "FilterOptions",
    "Histories",
    "History",
    "ImpressionDataset",
    "ImpressionSplit",
    "ListWorld",
    "ListWorldOptions",
    "NegativeKind",
    "RelayOptions",
    "RelayWorld",
    "Requests",
    "Sample",
    "Samples",
    "Split",
    "SplitKind",
    "World",
    "WorldOptions",
    "apply_filters",
    "candidate_sets",
    "expected_ndcg",
    "k_core",
    "load_dataset",
    "load_impressions",
    "register_source",
    "relay_split",
    "split_dataset",
    "with_popularity",
    "with_running_features",
]
