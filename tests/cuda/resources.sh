#!/usr/bin/env bash
# resources.sh CUOBJDUMP LIBRARY: what each kernel needs on each architecture: a line for each architecture, and an error for local memory or a
# stack, which are spills, and for more registers than a block's threads can have. Every kernel states its block's size with __launch_bounds__,
# so that ptxas keeps to the latter; one that doesn't is an error too.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -x "$1" ] || { echo "skipped: no cuobjdump"; exit 77; }
failed=0
if grep -n '__global__' kernels/*.cu kernels/*.cuh | grep -v '__launch_bounds__'; then
  echo "kernels without __launch_bounds__"
  failed=1
fi
"$1" --dump-resource-usage "$2" 2>/dev/null | awk '
  /^arch = / { arch = $3 }
  /^ *Function / { name = $2; sub(/:$/, "", name) }
  /REG:/ {
    for (i = 1; i <= NF; i++) { split($i, part, ":"); value[part[1]] = part[2] }
    n[arch]++
    if (value["REG"] > most[arch]) { most[arch] = value["REG"]; which[arch] = name }
    if (value["STACK"] + value["LOCAL"] > 0) { print name " on " arch ": " $0; failed = 1 }
  }
  END {
    for (arch in n) { total += n[arch]; printf "%s: %d kernels, at most %d registers (%s)\n", arch, n[arch], most[arch], which[arch] }
    if (!total) { print "no kernels were found"; failed = 1 }
    exit failed
  }' || failed=1
exit $failed
