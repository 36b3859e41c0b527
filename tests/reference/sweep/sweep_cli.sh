#!/usr/bin/env bash
# What `olmoe sweep` promises of long work, on the bundled model and a little text: all 21 rows, a
# killed sweep that goes on, shards that merge to the same files, and errors before any work.
# usage: sweep_cli.sh OLMOE MODEL_DIRECTORY
set -euo pipefail
# shellcheck source=tests/reference/sweep/expect.sh
. "$(dirname "$0")/expect.sh"
olmoe=$1
model=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export SOURCE_DATE_EPOCH=1700000000  # reports name the day

# Two sweeps gave the same files, timings apart.
same() {
  diff -r --exclude=timings --exclude='*_timings.csv' --exclude='*.tmp*' "$1" "$2" ||
    fail "$1 and $2 differ"
}

head -c 500 "$model/text/bible.txt" >prose.txt
head -c 500 "$model/text/python.txt" >code.txt
echo '[{"class": "simple", "text": "The house"}, {"class": "technical", "text": "def f(x):"}]' \
  >prompts.json
cat >grid.txt <<'GRID'
# four policies
bh:alpha=0.05,max_k=8   # of a fitted null
bh:alpha=0.3,null=normal,max_k=16
top_p:p=0.5,max_k=16

relative:t=0.2
native                  # the baseline: adds nothing
GRID
base=("$olmoe" sweep --model "$model" --prompts prompts.json --new-tokens 3 --shuffles 2 --threads 1)
sweep=("${base[@]}" --text prose.txt --text code.txt --window 64)

# bh21: every row, the baseline with exactly the model's own number of experts.
"${sweep[@]}" --out bh21 >bh21.out 2>bh21.err
[ "$(cat bh21.out)" = bh21/bh_routing_report.md ] || fail "no report: $(cat bh21.out bh21.err)"
for file in full_results.json summary.csv report.md timings.csv; do
  [ -s "bh21/bh_routing_$file" ] || fail "no bh_routing_$file"
done
[ "$(tail -n +2 bh21/bh_routing_summary.csv | wc -l)" = 21 ] || fail "not 21 rows"
cut -d, -f1 bh21/bh_routing_summary.csv | tail -n +2 | sort >names
for cap in 4 8 16 32 64; do
  for alpha in 001 005 010 020; do echo "bh_k${cap}_a$alpha"; done
done | cat - <(echo topk_8_baseline) | sort | diff - names || fail "the rows are not those of bh21"
grep -q '| `topk_8_baseline` | 8.00 ± 0.00 | 0.0 % |' bh21/bh_routing_report.md ||
  fail "the baseline has not 8.00 experts"
if command -v gnuplot >/dev/null; then
  [ -s bh21/visualizations/bh_routing_analysis.png ] || fail "no picture"
  [ -s bh21/visualizations/bh_routing_analysis.svg ] || fail "no picture"
fi

# The same again, and after kill -9 at random moments.
sweep+=(--grid grid.txt)
"${sweep[@]}" --out whole >/dev/null 2>&1
"${sweep[@]}" --out again >/dev/null 2>&1
same whole again
finished() { { find killed/configs -name "*.json" 2>/dev/null || true; } | wc -l; }
resume=()
for round in 1 2; do
  before=$(finished)
  "${sweep[@]}" --out killed "${resume[@]}" >/dev/null 2>&1 &
  child=$!
  until [ "$(finished)" -ge $((before + 1 + RANDOM % 5)) ] || ! kill -0 $child 2>/dev/null; do
    sleep 0.05
  done
  kill -9 $child 2>/dev/null || fail "round $round: the sweep ended before it could be killed"
  wait $child 2>/dev/null || true
  resume=(--resume)
done
[ ! -e killed/grid_report.md ] || fail "a report before the end"
"${sweep[@]}" --out killed --resume >/dev/null 2>&1
same whole killed

# Without gnuplot: everything but the pictures, and the report says so.
mkdir no_gnuplot_path
cp -r whole no_gnuplot
PATH=$dir/no_gnuplot_path "${sweep[@]}" --out no_gnuplot --resume >/dev/null 2>err
grep -q 'warning: no pictures: there is no gnuplot' err || fail "no warning: $(cat err)"
[ -s no_gnuplot/visualizations/grid_analysis.gp ] || fail "no gnuplot script"
[ ! -e no_gnuplot/visualizations/grid_analysis.png ] || fail "a picture without gnuplot"
grep -q 'no gnuplot' no_gnuplot/grid_report.md || fail "the report is silent about gnuplot"

# A gnuplot that fails: the results are there, with a warning.
mkdir failing_path
printf '#!/bin/sh\nexit 3\n' >failing_path/gnuplot
chmod +x failing_path/gnuplot
cp -r whole failing
rm failing/grid_*
PATH=$dir/failing_path:$PATH "${sweep[@]}" --out failing --resume >out 2>err ||
  fail "a gnuplot that fails fails the sweep: $(cat err)"
grep -q 'warning: no pictures: gnuplot failed' err || fail "no warning: $(cat err)"
grep -q 'gnuplot failed' failing/grid_report.md || fail "the report is silent about gnuplot"
cmp whole/grid_summary.csv failing/grid_summary.csv || fail "no results without gnuplot"
[ ! -e failing/visualizations/grid_analysis.png ] || fail "a picture of a gnuplot that fails"

# A directory of any name, and commands in it that are not run.
for out in "bob's" "a'; system('id > F'); b='" 'a"`id > F`"b'; do
  cp -r whole "$out"
  rm "$out"/grid_* "$out"/visualizations/*
  "${sweep[@]}" --out "$out" --resume >/dev/null 2>&1 || fail "--out $out fails"
  same whole "$out"
done
[ -z "$(find . -name F)" ] || fail "a directory's name was executed"

# Shards, by GNU parallel if it is there.
if command -v parallel >/dev/null; then
  parallel --will-cite -j 2 "${sweep[@]@Q}" --shard {}/3 --out shard{} ::: 1 2 3 >/dev/null 2>&1
else
  pids=()
  for i in 1 2 3; do
    "${sweep[@]}" --shard $i/3 --out shard$i >/dev/null 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
fi
fails 1 'configurations are missing' "$olmoe" merge --out incomplete shard1 shard3
[ ! -e incomplete ] || fail "an incomplete merge left a directory"
"$olmoe" merge --out merged shard3 shard1 shard2 >/dev/null
same whole merged
fails 1 'are not shards of one sweep' "$olmoe" merge --out bad shard1 bh21

# Errors, before any work starts.
fails 1 'holds a sweep' "${sweep[@]}" --out whole
fails 1 'inputs.window' "${base[@]}" --text prose.txt --text code.txt --grid grid.txt --window 32 \
  --out whole --resume
fails 1 'plain_file' bash -c ': >plain_file; exec "$@" --out plain_file/out' _ "${sweep[@]}"
fails 2 '--shard' "${sweep[@]}" --out bad --shard 3/2
fails 2 '--shard' "${sweep[@]}" --out bad --shard 1of2
: >empty.txt
fails 1 'empty.txt' "${base[@]}" --out bad --text empty.txt
fails 1 'prose.txt' "${base[@]}" --out bad --text prose.txt --window 1000
base+=(--text prose.txt --window 64)
echo 'bh:alpha=0.05,max_q=3' >bad.txt
fails 1 "bad.txt, line 1: policy 'bh:alpha=0.05,max_q=3', position 15" "${base[@]}" --out bad \
  --grid bad.txt
printf 'topk:k=3\n# again\ntopk:k=3,min_k=1\n' >bad.txt
fails 1 'bad.txt, line 3: is the policy of line 1' "${base[@]}" --out bad --grid bad.txt
fails 1 'none.txt' "${base[@]}" --out bad --grid none.txt
fails 1 "$model" "${base[@]}" --out bad --nulls "$model/model.safetensors"
[ ! -e bad ] || fail "an error left a directory"
echo "sweep_cli: all as promised"
