"""Where data sets and displayed lists come from, one module per format."""

from thinkrank.data.sources import (
    amazon_2018,
    amazon_2023,
    ebnerd,
    kuairand,
    list_table,
    mind,
    movielens,
    movielens_100k,
    synthetic,
    table,
    trivago,
)
from thinkrank.data.sources._amazon import AmazonOptions
from thinkrank.data.sources.checking import Checked, check_source
from thinkrank.data.sources.frames import from_frames
from thinkrank.data.sources.registry import LIST_SOURCES, SOURCES, load_dataset, load_impressions, register_source
from thinkrank.data.synthetic import RelayOptions, WorldOptions
from thinkrank.data.synthetic.lists import ListWorldOptions

__all__ = [
    "LIST_SOURCES",
    "SOURCES",
    "Checked",
    "check_source",
    "from_frames",
    "load_dataset",
    "load_impressions",
    "register_source",
]

register_source(
    movielens_100k.NAME, movielens_100k.MovieLens100KOptions, movielens_100k.load_movielens_100k, path="sometimes"
)
register_source(movielens.NAME, movielens.MovieLensOptions, movielens.load_movielens, path="sometimes")
register_source(amazon_2018.NAME, AmazonOptions, amazon_2018.load_amazon_2018, path="sometimes")
register_source(amazon_2023.NAME, AmazonOptions, amazon_2023.load_amazon_2023, path="sometimes")
register_source(table.NAME, table.TableOptions, table.load_table, path="sometimes")
register_source("synthetic", WorldOptions, synthetic.load_world, path="never")
register_source("synthetic-relay", RelayOptions, synthetic.load_relay, path="never")

register_source(trivago.NAME, trivago.TrivagoOptions, trivago.load_trivago, gives="lists")
register_source(mind.NAME, mind.MindOptions, mind.load_mind, gives="lists")
register_source(kuairand.NAME, kuairand.KuaiRandOptions, kuairand.load_kuairand, gives="lists")
register_source(ebnerd.NAME, ebnerd.EbnerdOptions, ebnerd.load_ebnerd, gives="lists")
register_source(list_table.NAME, list_table.TableListOptions, list_table.load_table_lists, gives="lists")
register_source("synthetic", ListWorldOptions, synthetic.load_list_world, gives="lists", path="never")
