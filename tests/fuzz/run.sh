#!/bin/sh
# Builds the fuzz targets with clang and runs one of them, or all of them in turn.
#
#   tests/fuzz/run.sh [TARGET|all] [SECONDS]
#
# New inputs go to build/fuzz/corpus/TARGET/, and those that fail to build/fuzz/faults/. An input is
# replayed by `build/fuzz/tests/fuzz/fuzz_replay TARGET FILE`. With FUZZ_PRESET=fuzz-fast in the
# environment there are no sanitizers, and the folder is build/fuzz-fast.
set -eu
cd "$(dirname "$0")/../.."
wanted=${1:-all}
seconds=${2:-60}
preset=${FUZZ_PRESET:-fuzz}
build=build/$preset
cmake --preset "$preset"
cmake --build --preset "$preset"
programs=$build/tests/fuzz
mkdir -p "$build/faults"
# Files of targets are written and read again at once.
if [ -w /dev/shm ]; then
  TMPDIR=/dev/shm
  export TMPDIR
fi
found=0
for pack in tests/fuzz/corpus/*.pack; do
  target=$(basename "$pack" .pack)
  [ "$wanted" = all ] || [ "$wanted" = "$target" ] || continue
  found=1
  corpus=$build/corpus/$target
  [ -d "$corpus" ] || "$programs/fuzz_replay" unpack "$pack" "$corpus"
  echo "fuzz: $target, $seconds s"
  "$programs/fuzz_$target" -timeout=5 -malloc_limit_mb=512 -rss_limit_mb=4096 \
    -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$build/faults/$target-" "$corpus"
done
[ $found = 1 ] || {
  echo "fuzz: no target $wanted; there are $(ls tests/fuzz/corpus | sed 's/.pack$//' | tr '\n' ' ')" >&2
  exit 2
}
