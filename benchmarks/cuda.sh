#!/usr/bin/env bash
# Checks a machine with a card in less than nine minutes and without a network, and writes one JSON.
#
#   benchmarks/cuda.sh --weights SMOLLM2 [--json cuda.json] [--films ML100K --shop AMAZON_2018] [--minutes 8.5] [--quick]
#
# Needs torch >= 2.11 and transformers >= 5.17 of the machine, and pytest with what tests import; nothing is installed or
# fetched. SMOLLM2 is a folder of SmolLM2-135M-Instruct (config.json, a tokenizer, *.safetensors). It runs the tests that
# are marked `cuda` (exactness of packed passes in bf16 and fp32, sampling, saving) with these weights, the language
# benchmark, and, where data is given, a plan of a training on it (`train retrieve --dry-run`). What the minutes do not
# suffice for is stopped and told. Without a card all runs on the CPU; --quick makes it tiny, to see that it runs.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
exec "${PYTHON:-python3}" "$here/benchmarks/_cuda.py" "$@"
