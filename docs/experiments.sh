#!/usr/bin/env bash
# Measures what docs/experiments.md and docs/nulls.md show, and puts it on these pages.
#
#   docs/experiments.sh [OUT]          builds olmoe, runs both grids, calibrate and ablate, then --tables
#   docs/experiments.sh --tables OUT   puts on the pages what a run has left in OUT
#
# OUT is build/experiments unless given. A run that was stopped goes on where it was. PROCESSES, 4
# unless set, share the cores of the machine: each measures its shard of a grid. OLMOE names a
# program that is built already.
#
# On a page, `<!-- from FILE: SECTION -->` and `<!-- end -->` enclose a section of a report, or only
# its list with `SECTION, list`; without a section, a file of text. FILE lies in OUT.
set -euo pipefail
cd "$(dirname "$0")/.."

# Replaces what the marks of a page enclose.
tables() {
  local page=$1 out=$2
  awk -v out="$out" '
    function fail(what) { print "experiments: " FILENAME ": " what >"/dev/stderr"; exit failed = 1 }
    function show(file, section, list,    line, inside, shown) {
      print ""
      while ((status = (getline line <file)) > 0) {
        if (section == "") { print (line == "" ? "" : "    " line); shown = 1; continue }
        if (line ~ /^## /) { inside = line == "## " section; continue }
        if (inside && (!list || line ~ /^\* /)) { if (shown || line != "") print line; shown = 1 }
      }
      if (status < 0 || !shown) fail("there is no \"" section "\" in " file)
      close(file)
      if (list || section == "") print ""
    }
    /^<!-- from .* -->$/ {
      print
      file = section = substr($0, 11, length($0) - 14)
      sub(/:.*/, "", file)
      if (!sub(/^[^:]*: /, "", section)) section = ""
      list = sub(/, list$/, "", section)
      show(out "/" file, section, list)
      within = 1
      next
    }
    /^<!-- end -->$/ { if (!within) fail("an end without a beginning"); within = 0 }
    !within
    END { if (!failed && within) fail("a mark without an end"); exit failed }
  ' "$page" >"$page.new" || { rm -f "$page.new"; return 1; }
  mv "$page.new" "$page"
}

all_tables() {
  tables docs/experiments.md "$1"
  tables docs/nulls.md "$1"
}

if [ "${1-}" = --tables ]; then
  all_tables "$2"
  exit
fi

out=${1:-build/experiments}
processes=${PROCESSES:-4}
model=reference/model
if [ -z "${OLMOE-}" ]; then
  cmake --preset release >/dev/null
  cmake --build build/release --target olmoe
  OLMOE=build/release/reference/olmoe
fi
threads=$(($(nproc) / processes))
[ "$threads" -ge 1 ] || threads=1
mkdir -p "$out"

for grid in bh21 frontier; do
  [ ! -e "$out/$grid/sweep.json" ] || continue
  pids=()
  for i in $(seq "$processes"); do
    "$OLMOE" sweep --model $model --grid $grid --new-tokens 0 --threads "$threads" --resume \
      --shard "$i/$processes" --out "$out/$grid.$i" >"$out/$grid.$i.log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || { echo "experiments: a shard of $grid failed: $out/$grid.*.log" >&2; exit 1; }
  done
  if [ "$processes" = 1 ]; then
    mv "$out/$grid.1" "$out/$grid"
  else
    "$OLMOE" merge --out "$out/$grid" "$out/$grid".*[0-9]
  fi
done

if [ ! -e "$out/calibrate.txt" ]; then
  "$OLMOE" calibrate --model $model --text $model/development --held-out $model/text --window 512 \
    --out "$out/nulls.safetensors" --max-loss 1.005 --confidence 0.95 >"$out/calibrate.new"
  mv "$out/calibrate.new" "$out/calibrate.txt"
fi
if [ ! -e "$out/ablate.txt" ]; then
  "$OLMOE" ablate --model $model --text $model/development --tokens 80 >"$out/ablate.new"
  mv "$out/ablate.new" "$out/ablate.txt"
fi
all_tables "$out"
