#!/usr/bin/env bash
# Each folder may include only what stands below it. The table is the one in README.md ("Layers"); this test holds the code to it.
# Also: file names are unique in the whole tree, so that one may be named without its folder.
set -euo pipefail
cd "$(dirname "$0")/.."

# FOLDER: the folders it may include from (its own is understood). papa.h is everybody's, the schemas are onnx's and what stands on it.
below() {
  case $1 in
  src/base) echo "" ;;
  src/device) echo "base" ;;
  kernels) echo "base device" ;;
  src/onnx) echo "base" ;;
  src/graph) echo "base device kernels onnx" ;;
  src/ops) echo "base device kernels onnx graph" ;;
  src/model) echo "base device kernels onnx graph" ;;
  src/data) echo "base device kernels" ;;
  src/soup) echo "base device kernels onnx graph model data" ;;
  src/align) echo "base device kernels onnx graph model data" ;;
  src/train) echo "base device kernels onnx graph model data soup" ;;
  src/jobs) echo "base device kernels onnx graph model data soup align train" ;;
  tools) echo "cli" ;;
  esac
}

failed=0
for folder in src/base src/device kernels src/onnx src/graph src/ops src/model src/data src/soup src/align src/train src/jobs tools; do
  [ -d "$folder" ] || continue # git keeps no empty folder
  own=${folder#src/}
  allowed=" $own $(below "$folder") "
  for file in $(find "$folder" -type f); do
    case $file in *.c | *.h | *.cu | *.cuh) ;; *) continue ;; esac
    while read -r include; do
      case $include in
      papa.h | *.pb-c.h | cli*.h) continue ;;
      */*) from=${include%%/*} ;;
      *) continue ;;
      esac
      if [[ $allowed != *" $from "* ]]; then
        echo "$file includes \"$include\": $own must not know $from"
        failed=1
      fi
    done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include "\([^"]*\)".*/\1/p' "$file")
  done
done

# The emulator's headers have NVIDIA's names.
twice=$(find . -path './build*' -prune -o -path ./tests/cudaemu/include -prune -o -type f -regex '.*\.\(c\|h\|cpp\|cu\|cuh\)' -print | sed 's|.*/||' | sort | uniq -d)
if [ -n "$twice" ]; then
  echo "file names that occur more than once:" $twice
  failed=1
fi
exit $failed
