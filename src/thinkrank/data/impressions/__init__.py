"""Displayed lists and what users did with them: what re-ranking learns from."""

from thinkrank.data.impressions.dataset import ImpressionDataset, ImpressionSplit
from thinkrank.data.impressions.histories import Histories

__all__ = ["Histories", "ImpressionDataset", "ImpressionSplit"]
