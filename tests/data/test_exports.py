import subprocess
import sys

import thinkrank.data


def test_the_public_names_are_these():
    assert thinkrank.data.__all__ == [
        "SOURCES",
        "Catalogue",
        "Dataset",
        "FilterOptions",
        "History",
        "Sample",
        "Samples",
        "Split",
        "SplitKind",
        "apply_filters",
        "k_core",
        "load_dataset",
        "split_dataset",
    ]


def test_torch_is_not_needed_to_look_at_data():
    code = "import sys, thinkrank.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
