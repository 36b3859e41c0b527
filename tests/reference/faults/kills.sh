#!/usr/bin/env bash
# A sweep that is killed at random moments, again and again, gives in the end the files of one that was
# not.
#
#   kills.sh OLMOE MODEL_DIRECTORY KILLS
#
# After every kill each finished file is byte for byte that of a whole sweep (timings apart), and what
# was left half-written has a name of its own, which the next run removes. Every fifth process is ended
# by SIGTERM, not by SIGKILL; every seventh start is of two processes at once, in one directory.
set -euo pipefail
olmoe=$(realpath "$1")
model=$(realpath "$2")
kills=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export SOURCE_DATE_EPOCH=1700000000  # reports name the day
mkdir no_gnuplot

fail() {
  echo "kills: $*" >&2
  exit 1
}

head -c 1200 "$model/text/bible.txt" >prose.txt
echo '[{"class": "simple", "text": "The house"}]' >prompts.json
printf 'bh:alpha=0.05,max_k=8\ntop_p:p=0.5,max_k=16\n' >grid.txt
# $1: the directory
sweep() {
  local resume=()
  [ ! -e "$1/sweep.json" ] || resume=(--resume)
  PATH=$dir/no_gnuplot exec "$olmoe" sweep --model "$model" --text prose.txt --prompts prompts.json \
    --grid grid.txt --new-tokens 2 --shuffles 1 --window 64 --threads 1 --out "$1" "${resume[@]}"
}
check_files() {
  local file
  while IFS= read -r file; do
    case $file in
      *.tmp*) ;;
      */timings/* | *_timings.csv) [ -s "$file" ] || fail "$file is empty" ;;
      *) cmp -s "$file" "whole/${file#killed/}" || fail "$file is not that of a whole sweep" ;;
    esac
  done < <(find killed -type f)
}

start=$(date +%s%N)
(sweep whole) >/dev/null 2>err || fail "a sweep fails: $(cat err)"
took=$((($(date +%s%N) - start) / 1000000)) # milliseconds
done_kills=0
sweeps=0
while [ "$done_kills" -lt "$kills" ]; do
  (sweep killed) >/dev/null 2>&1 &
  child=$!
  second=
  if [ $((done_kills % 7)) = 6 ]; then
    (sweep killed) >/dev/null 2>&1 &
    second=$!
  fi
  sleep "$(printf '0.%03d' $((RANDOM % 1000 * (took < 900 ? took : 900) / 1000)))"
  signal=9
  [ $((done_kills % 5)) != 4 ] || signal=15
  if kill -"$signal" $child 2>/dev/null; then done_kills=$((done_kills + 1)); fi
  wait $child 2>/dev/null || true
  if [ -n "$second" ]; then
    kill -9 "$second" 2>/dev/null || true
    wait "$second" 2>/dev/null || true
  fi
  [ ! -d killed ] || check_files
  # A sweep that is finished begins anew.
  if [ -e killed/grid_report.md ]; then
    sweeps=$((sweeps + 1))
    rm -rf killed
  fi
done
(sweep killed) >/dev/null 2>err || fail "the last sweep fails: $(cat err)"
check_files
[ -z "$(find killed -name '*.tmp*')" ] || fail "$(find killed -name '*.tmp*') is left"
diff <(cd killed && find . -type f | sort) <(cd whole && find . -type f | sort) ||
  fail "not the same files"
echo "kills: $done_kills kills, $sweeps sweeps finished meanwhile, all files whole"
