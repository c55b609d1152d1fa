"""The names a user counts on: exact, and each of them there."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import thinkrank

SOURCE = Path(thinkrank.__file__).parent
STUBS = sorted(SOURCE.rglob("__init__.pyi"))


def package_of(stub: Path) -> str:
    return ".".join(["thinkrank", *stub.parent.relative_to(SOURCE).parts])


each_package = pytest.mark.parametrize("stub", STUBS, ids=package_of)


@each_package
def test_every_exported_name_is_there(stub):
    module = importlib.import_module(package_of(stub))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="absent"):
        _ = module.absent


@each_package
def test_dir_shows_what_the_stub_names(stub):
    named = {
        alias.asname or alias.name
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert named
    assert named <= set(dir(importlib.import_module(package_of(stub))))


def test_the_fixed_names_stand_where_scripts_expect_them():
    from thinkrank import metrics

    for name in ("load", "load_dataset", "Requests", "Candidates", "Ranking", "ThinkrankError"):
        assert callable(getattr(thinkrank, name))
    for stage in (thinkrank.R2ec, thinkrank.R2Rank, thinkrank.EGLR):
        assert callable(stage.from_pretrained)
        assert callable(stage.save_pretrained)
    assert callable(thinkrank.policy.plackett_luce.expected_ndcg)
    assert callable(thinkrank.policy.ndcg_reward)
    for name in ("hit", "ndcg", "reciprocal_rank", "average_precision"):
        assert callable(getattr(metrics, name))


def import_without(code: str, *unwanted: str) -> None:
    """Run code in a process of its own, and look whether a package was imported that it does not need."""
    check = f"import sys\n{code}\nfound = {set(unwanted)!r} & set(sys.modules)\nassert not found, found"
    done = subprocess.run([sys.executable, "-c", check], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_large():
    import_without("import thinkrank; dir(thinkrank)", "torch", "polars", "numpy", "transformers")


@pytest.mark.parametrize("package", ["data", "metrics", "pretrained", "stages", "evaluate", "rerank", "retrieve"])
def test_data_evaluation_and_stages_need_no_torch_to_be_imported(package):
    import_without(f"import thinkrank.{package}", "torch", "transformers", "pytest")


def test_classic_retrievers_and_orders_need_no_torch():
    retrievers = "from thinkrank.retrieve import EASE, ItemKNN, Popularity"
    import_without(f"{retrievers}\nfrom thinkrank.rerank import FeatureOrder, InitialOrder", "torch", "transformers")


def test_everything_evaluation_and_stages_export_needs_no_torch():
    reads_what_engines_wrote = {"thought_of"}
    code = "\n".join(
        f"import thinkrank.{package} as package\n"
        f"for name in {{*package.__all__}} - {reads_what_engines_wrote}: getattr(package, name)"
        for package in ("data", "evaluate", "stages")
    )
    import_without(code, "torch", "transformers")


@pytest.mark.parametrize("stage", ["rerank.EGLR", "rerank.PRM", "retrieve.SASRec", "training.Trainer"])
def test_small_networks_need_no_language_model(stage):
    package, name = stage.split(".")
    import_without(f"from thinkrank.{package} import {name}", "transformers", "peft", "tokenizers")


def test_only_the_contracts_need_pytest():
    modules = [package_of(stub) for stub in STUBS if stub.parent.name != "testing"]
    code = "\n".join(
        f"import {name} as package\nfor name in package.__all__: getattr(package, name)" for name in modules
    )
    import_without(code, "pytest", "_pytest")
