"""Displayed lists and what users did with them: what re-ranking learns from."""

from thinkrank.data.impressions.candidates import lists_from_retriever
from thinkrank.data.impressions.dataset import ImpressionDataset, ImpressionSplit
from thinkrank.data.impressions.features import RUNNING_NAMES, histories_before, with_running_features
from thinkrank.data.impressions.histories import Histories
from thinkrank.data.impressions.sources import LIST_SOURCES, load_impressions
from thinkrank.data.impressions.world import ListWorld, ListWorldOptions

__all__ = [
    "LIST_SOURCES",
    "RUNNING_NAMES",
    "Histories",
    "ImpressionDataset",
    "ImpressionSplit",
    "ListWorld",
    "ListWorldOptions",
    "histories_before",
    "lists_from_retriever",
    "load_impressions",
    "with_running_features",
]
