#!/usr/bin/env bash
# `olmoe sweep --grid loads` on the bundled model and a little text: every row, the same files with
# any number of threads, and errors before any work; `--grid oracle` beside it.
# usage: loads_cli.sh OLMOE MODEL_DIRECTORY
set -euo pipefail
# shellcheck source=tests/reference/sweep/expect.sh
. "$(dirname "$0")/expect.sh"
olmoe=$1
model=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export SOURCE_DATE_EPOCH=1700000000  # reports name the day

head -c 700 "$model/text/bible.txt" >prose.txt
head -c 700 "$model/text/python.txt" >code.txt
sweep=("$olmoe" sweep --model "$model" --grid loads --text prose.txt --text code.txt --window 32)

fails 2 'fits its own nulls' "${sweep[@]}" --out bad --nulls "$model/nulls.safetensors"
fails 2 '--shard' "${sweep[@]}" --out bad --shard 1/2
fails 2 '--resume' "${sweep[@]}" --out bad --resume
[ ! -e bad ] || fail "an error left a directory"

"${sweep[@]}" --threads 1 --out one >one.out 2>one.err
report=one/loads_report.md
[ "$(cat one.out)" = $report ] || fail "no report: $(cat one.out one.err)"
for file in full_results.json summary.csv report.md; do
  [ -s "one/loads_$file" ] || fail "no loads_$file"
done
measured=$(tail -n +2 one/loads_summary.csv | wc -l)
missing=$(grep -c '^\* `.*_mean' one/loads_report.md || true)
[ $((measured + missing)) = 147 ] || fail "$measured rows and $missing without a solution"
for group in 'Batch of 16' '8 consecutive tokens' 'Cache of 16 experts a layer'; do
  grep -q "^## $group$" "$report" || fail "no section '$group'"
done
grep -q '^batch16_topk_mean3,batch:16,topk,3,3,' one/loads_summary.csv ||
  fail "top-3 alone has not 3 experts"
if command -v gnuplot >/dev/null; then
  [ -s one/visualizations/loads_analysis.png ] || fail "no picture"
fi

"${sweep[@]}" --threads 3 --out three >/dev/null 2>&1
diff -r one three || fail "the number of threads changes results"
fails 1 'holds a sweep' "${sweep[@]}" --out one

"$olmoe" sweep --model "$model" --grid oracle --text prose.txt --text code.txt --window 32 \
  --out oracle >/dev/null 2>&1
[ "$(tail -n +2 oracle/loads_summary.csv | wc -l)" = 60 ] || fail "the grid oracle has 60 rows"
# Without a completion, the routing does not depend on the group.
[ "$(grep 'topk+oracle,3' oracle/loads_summary.csv | cut -d, -f5,9 | sort -u | wc -l)" = 1 ] ||
  fail "the oracle's experts or perplexity depend on the group"
echo "loads_cli: all as promised"
