#!/usr/bin/env bash
# The option reference in README.md is what papa-train --help prints.
set -euo pipefail
cd "$(dirname "$0")/.."
diff <(sed -n '/^Usage: papa-train/,/^```/p' README.md | sed '$d') <("$PAPA_BIN/papa-train" --help) && exit 0
echo "README.md: 'Options of papa-train' differs from papa-train --help (< README, > program)"
exit 1
