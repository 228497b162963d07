#!/usr/bin/env bash
# The option references in README.md are what the programs' --help prints.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0
for program in papa-train papa-soup papa-align papa-eval; do
  diff <(sed -n "/^Usage: $program/,/^\`\`\`/p" README.md | sed '$d') <("$PAPA_BIN/$program" --help) && continue
  echo "README.md: the options of $program differ from $program --help (< README, > program)"
  failed=1
done
exit $failed
