import subprocess
import sys

import thinkrank.data


def test_the_public_names_are_these():
    assert thinkrank.data.__all__ == [
        "SOURCES",
        "CandidateSets",
        "Catalogue",
        "Dataset",
        "FilterOptions",
        "History",
        "NegativeKind",
        "RelayOptions",
        "RelayWorld",
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
        "relay_split",
        "split_dataset",
    ]


def test_torch_is_not_needed_to_look_at_data():
    code = "import sys, thinkrank.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
