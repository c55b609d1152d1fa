import subprocess
import sys

import thinkrank.data


def test_the_public_names_are_these():
    assert set(dir(thinkrank.data)) == {
        "LIST_SOURCES",
        "SOURCES",
        "CandidateLists",
        "CandidateSets",
        "Candidates",
        "Catalogue",
        "Checked",
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
        "check_source",
        "expected_ndcg",
        "from_frames",
        "k_core",
        "load_dataset",
        "load_impressions",
        "read_candidate_lists",
        "register_source",
        "relay_split",
        "split_dataset",
        "with_popularity",
        "with_running_features",
    }


def test_torch_is_not_needed_to_look_at_data():
    code = "import sys, thinkrank.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
