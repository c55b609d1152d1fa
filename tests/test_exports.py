"""The names a user counts on: exact, and each of them there."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = [
    "thinkrank",
    *(
        f"thinkrank.{name}"
        for name in ("language", "rank", "rank.teachers", "rerank", "retrieve", "training", "policy")
    ),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_is_there(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = module.absent


def test_the_fixed_names_stand_where_scripts_expect_them():
    import thinkrank
    from thinkrank import metrics

    assert callable(thinkrank.load_dataset)
    assert callable(thinkrank.R2ec.from_pretrained)
    assert callable(thinkrank.R2Rank.from_pretrained)
    assert callable(thinkrank.policy.plackett_luce.expected_ndcg)
    assert callable(thinkrank.EGLR.from_pretrained)
    assert callable(thinkrank.policy.ndcg_reward)
    for name in ("hit", "ndcg", "reciprocal_rank", "average_precision"):
        assert callable(getattr(metrics, name))


def test_importing_the_package_imports_no_torch():
    code = "import sys, thinkrank; assert not {'torch', 'polars', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_evaluation_and_baselines_need_no_torch():
    code = (
        "import sys, thinkrank.data, thinkrank.evaluate, thinkrank.rerank; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
