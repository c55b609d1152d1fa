"""Folders written before they told their kind load and answer as they did; each stands in `tests/fixtures`."""

import json

import pytest
import torch

import thinkrank
from golden.answers import answer
from golden.compare import FOLDER, assert_same_json

FIXTURES = FOLDER.parent / "fixtures"
KINDS = sorted(folder.name for folder in FIXTURES.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_folder_answers_as_it_did(kind):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        record = json.loads((FIXTURES / kind / "rankings.json").read_text(encoding="utf-8"))
        assert_same_json(answer(kind, FIXTURES / kind, record["questions"]), record["answers"])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_folder_is_known_by_its_kind_and_saved_anew(kind, tmp_path):
    stage = thinkrank.load(FIXTURES / kind, device="cpu")
    stage.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == stage.kind
    again = thinkrank.load(tmp_path, device="cpu")
    assert type(again) is type(stage)
    assert again.catalogue.ids == stage.catalogue.ids
