"""A saved folder says what it is."""

import json

import polars as pl
import pytest
import torch

import thinkrank
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.pretrained import FORMAT, KINDS, finish, imported, load, local_folder, read_config, reading


class Config(Options):
    width: int = 3


def test_kind_format_and_version_stand_in_the_configuration(tmp_path):
    finish(tmp_path, "mine", Config(width=5), "# card")
    record = json.loads((tmp_path / "config.json").read_text())
    assert record == {"kind": "mine", "format": FORMAT, "version": thinkrank.__version__, "config": {"width": 5}}
    assert read_config(tmp_path, "mine", Config) == Config(width=5)
    assert (tmp_path / "README.md").read_text() == "# card"


def test_another_kind_is_refused_by_name(tmp_path):
    finish(tmp_path, "mine", Config())
    with pytest.raises(ThinkrankError, match="of kind 'mine', not 'r2ec'"):
        read_config(tmp_path, "r2ec", Config)
    with pytest.raises(ThinkrankError, match="does not know: import its class"):
        load(tmp_path)


def test_a_newer_format_is_refused_by_saying_so(tmp_path):
    record = {"kind": "r2ec", "format": FORMAT + 1, "version": "9.1", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ThinkrankError, match=r"format 3, written by thinkrank 9\.1.*install a newer"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("bare", "kind"),
    [
        ({"thinker": "base"}, "r2ec"),
        ({"thinks": True}, "r2rank"),
        ({"generator": {}}, "eglr"),
        ({"model": "item-knn"}, "item-knn"),
    ],
)
def test_a_bare_configuration_tells_its_kind_by_its_keys(tmp_path, bare, kind):
    (tmp_path / "config.json").write_text(json.dumps(bare))
    with pytest.raises(ThinkrankError, match=f"of kind '{kind}', not 'mine'"):
        read_config(tmp_path, "mine", Config)


def test_a_model_too_large_for_the_device_is_not_called_damaged(tmp_path):
    with pytest.raises(torch.OutOfMemoryError), reading(tmp_path):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": "two"}'])
def test_a_damaged_configuration_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ThinkrankError) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_value_that_does_not_fit_is_named(tmp_path):
    finish(tmp_path, "mine", Config())
    record = json.loads((tmp_path / "config.json").read_text())
    record["config"]["widht"] = 4
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ThinkrankError, match="not of kind 'mine': widht"):
        read_config(tmp_path, "mine", Config)


def test_a_run_is_found_by_its_folder(tmp_path):
    finish(tmp_path / "model", "mine", Config())
    assert local_folder(tmp_path) == tmp_path / "model"
    with pytest.raises(ThinkrankError, match="no saved model here"):
        local_folder(tmp_path / "elsewhere")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_where_it_is_said_to_be(kind):
    stage = imported(KINDS[kind])
    assert stage.kind == kind


@pytest.mark.parametrize("name", ["", "thinkrank", "thinkrank:", "a b:c", "thinkrank:Nothing", "nowhere:X", "../x:y"])
def test_a_dotted_name_that_leads_nowhere_is_refused(name):
    with pytest.raises(ThinkrankError):
        imported(name)


def test_a_saved_stage_loads_by_its_folder_alone(tmp_path):
    from thinkrank.retrieve import Popularity
    from thinkrank.testing.worlds import two_tribes

    dataset = two_tribes()
    Popularity().fit(dataset).save_pretrained(tmp_path)
    stage = thinkrank.load(tmp_path)
    assert isinstance(stage, Popularity)
    table = stage.retrieve([["i00"]], 3).table(stage.catalogue)
    assert isinstance(table, pl.DataFrame)
    assert table["title"].to_list()[0] in dataset.catalogue.titles


def popularity():
    from thinkrank.retrieve import Popularity
    from thinkrank.testing.worlds import two_tribes

    return Popularity().fit(two_tribes())


def cascade():
    from thinkrank.cascade import Cascade

    return Cascade(popularity())


def r2rank():
    from thinkrank.rank import R2Rank, R2RankConfig
    from thinkrank.testing.worlds import two_tribes

    return R2Rank.create(R2RankConfig(backbone="tiny", dtype="float32", lora={"rank": 2}), two_tribes().catalogue)


def eglr():
    from thinkrank.rerank import EGLR, EGLRConfig
    from thinkrank.testing import random_lists

    return EGLR.create(EGLRConfig(), random_lists(), device="cpu")


@pytest.mark.parametrize("make", [popularity, cascade, r2rank, eglr])
def test_a_folder_in_which_saving_was_cut_short_holds_no_whole_model(tmp_path, monkeypatch, make):
    stage = make()
    stage.save_pretrained(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ThinkrankError, match="No space left"):
        stage.save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="no saved model here"):
        load(tmp_path)
