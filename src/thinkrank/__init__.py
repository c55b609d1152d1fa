"""Recommenders that reason: retrieve, rank and rerank with language models that think first.

import thinkrank

dataset = thinkrank.load_dataset("movielens-100k")
model = thinkrank.load("runs/demo/model")
ranking = model.retrieve([dataset.history("1")], k=10)
"""

import lazy_loader as lazy

from thinkrank._version import __version__

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
