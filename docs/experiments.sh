#!/usr/bin/env bash
# Measures what docs/experiments.md and docs/nulls.md show, and puts it on these pages.
#
#   docs/experiments.sh [OUT]          builds olmoe and bench_model, measures, then --tables
#   docs/experiments.sh --tables OUT   puts on the pages what a run has left in OUT
#
# OUT is build/experiments unless given. A run that was stopped goes on where it was. PROCESSES, 4
# unless set, share the cores of the machine: each measures its shard of a grid. OLMOE and BENCH name
# programs that are built already. MODELS are the directories of further trained models, of which
# there are two or none (reference/hf/adapt_study.py trains base1 and base2).
#
# The adaptation study (reference/hf/adapt_study.py) has a script of its own, as it needs GPUs.
#
# On a page, `<!-- from FILE: SECTION -->` and `<!-- end -->` enclose a section of a report; with
# `SECTION, list` only its list, with `SECTION, first table` what there is up to the end of its first
# table, with `SECTION, rows REGEX` of its tables only the rows whose first cell matches. Without a
# section, a file of text. FILE lies in OUT.
set -euo pipefail
cd "$(dirname "$0")/.."

# Replaces what the marks of a page enclose.
tables() {
  local page=$1 out=$2
  awk -v out="$out" '
    function fail(what) { print "experiments: " FILENAME ": " what >"/dev/stderr"; exit failed = 1 }
    function show(file, section, part,    line, inside, shown, rows, tables, head) {
      print ""
      while ((status = (getline line <file)) > 0) {
        if (section == "") { print (line == "" ? "" : "    " line); shown = 1; continue }
        if (line ~ /^## /) { inside = line == "## " section; continue }
        if (!inside || (part == "list" && line !~ /^\* /)) continue
        rows = line ~ /^\|/ ? rows + 1 : 0
        if (rows == 1) ++tables
        if (part == "first table" && tables > 0 && (rows == 0 || tables > 1)) continue
        if (part ~ /^rows /) {
          if (rows > 2 && line ~ "^[|] `?(" substr(part, 6) ")") print head line
          else if (rows < 3) { head = rows > 0 ? head line "\n" : ""; continue }
          else continue
          head = ""
          shown = 1
          continue
        }
        if (shown || line != "") print line
        shown = 1
      }
      if (status < 0 || !shown) fail("there is no \"" section "\" in " file)
      close(file)
      if (part != "" || section == "") print ""
    }
    /^<!-- from .* -->$/ {
      print
      file = section = substr($0, 11, length($0) - 14)
      sub(/:.*/, "", file)
      if (!sub(/^[^:]*: /, "", section)) section = ""
      part = ""
      if (match(section, /, (list|first table|rows .*)$/)) {
        part = substr(section, RSTART + 2)
        section = substr(section, 1, RSTART - 1)
      }
      show(out "/" file, section, part)
      within = 1
      next
    }
    /^<!-- end -->$/ { if (!within) fail("an end without a beginning"); within = 0 }
    !within
    END { if (!failed && within) fail("a mark without an end"); exit failed }
  ' "$page" >"$page.new" || { rm -f "$page.new"; return 1; }
  mv "$page.new" "$page"
}

# The claims of alpha 0.2 ... 0.01 with max_k 16 for each model, and the mean over the models.
models_table() {
  local out=$1 alpha name
  echo "## Models"
  echo
  echo "| alpha | model | experts | saving | delta | non-inferior | randomised top-k | threshold |"
  echo "|---|---|---:|---:|---:|---|---:|---:|"
  for alpha in 0.2 0.1 0.05 0.01; do
    for name in $(cat "$out/models"); do
      # In a quoted field, a comma is no separator.
      awk -F '"' -v OFS='"' '{ for (i = 2; i <= NF; i += 2) gsub(",", ";", $i) } 1' \
        "$out/$name/"*_summary.csv |
        awk -F, -v OFS=, -v name="$name" -v policy="\"bh:alpha=$alpha;min_k=1;max_k=16;" '
          NR == 1 { for (i = 1; i <= NF; ++i) at[$i] = i; next }
          index($at["policy"], policy) == 1 {
            print name == "bh21" ? "bundled" : name, $at["mean_experts"], $at["reduction"], $at["delta"], $at["delta_error"],
                  $at["claimed"], $at["against_topk"], $at["against_topk_error"],
                  $at["against_threshold"], $at["against_threshold_error"]
          }'
    done | awk -F, -v alpha="$alpha" '
      function mean_of(x,    i, sum, squares) {
        for (i = 1; i <= NR; ++i) sum += x[i]
        sum /= NR
        for (i = 1; i <= NR; ++i) squares += (x[i] - sum) ^ 2
        half = NR > 1 ? t[NR - 1] * sqrt(squares / (NR - 1) / NR) : 0
        return sum
      }
      BEGIN { split("12.706 4.303 3.182 2.776 2.571", t, " ") }  # 97.5 % of Student, 1 ... 5 df
      {
        printf "| %s | %s | %.2f | %.1f %% | %.4f ± %.4f | %s | %.4f ± %.4f | %.4f ± %.4f |\n", alpha, $1,
          $2, 100 * $3, $4, $5, $6 == "true" ? "yes" : "no", $7, $8, $9, $10
        experts[NR] = $2; saving[NR] = 100 * $3; delta[NR] = $4; topk[NR] = $7; threshold[NR] = $9
      }
      END {
        printf "| | **mean, 95 %% interval** | %.2f | %.1f %% |", mean_of(experts), mean_of(saving)
        d = mean_of(delta); printf " %.4f ± %.4f | |", d, half
        d = mean_of(topk); printf " %.4f ± %.4f |", d, half
        d = mean_of(threshold); printf " %.4f ± %.4f |\n", d, half
      }'
  done
}

all_tables() {
  models_table "$1" >"$1/models.md"
  python3 docs/weights_table.py "$1/weights" >"$1/weights.md"
  python3 reference/hf/adapt_study.py report reference/hf/adaptation.json >"$1/adaptation.md"
  python3 reference/hf/adapt_study.py report reference/hf/adaptation_2400.json >"$1/adaptation_2400.md"
  gnuplot -e "format = 'svg'; target = 'docs/loads.svg'" "$1/loads/visualizations/loads_analysis.gp"
  gnuplot -e "format = 'svg'; target = 'docs/oracle.svg'" "$1/oracle/visualizations/loads_analysis.gp"
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

# sweep NAME OPTION...: in shards, merged to $out/NAME.
sweep() {
  local name=$1 pids=() pid i
  shift
  [ ! -e "$out/$name/sweep.json" ] || return 0
  for i in $(seq "$processes"); do
    "$OLMOE" sweep "$@" --new-tokens 0 --threads "$threads" --resume \
      --shard "$i/$processes" --out "$out/$name.$i" >"$out/$name.$i.log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || { echo "experiments: a shard of $name failed: $out/$name.*.log" >&2; exit 1; }
  done
  if [ "$processes" = 1 ]; then
    mv "$out/$name.1" "$out/$name"
  else
    "$OLMOE" merge --out "$out/$name" "$out/$name".*[0-9]
  fi
}

[ -e "$out/loads/loads_full_results.json" ] ||
  "$OLMOE" sweep --model $model --grid loads --out "$out/loads"
[ -e "$out/oracle/loads_full_results.json" ] ||
  "$OLMOE" sweep --model $model --grid oracle --max-tokens 2048 --out "$out/oracle"
sweep bh21 --model $model --grid bh21
# Counts are not dealt here: ten shuffles of 81 rows would take longer than all the rest.
sweep frontier --model $model --grid frontier --shuffles 0

# weights NAME POLICY: perplexity on the held-out text.
weights() {
  [ -e "$out/weights/$1.json" ] && return
  mkdir -p "$out/weights"
  "$OLMOE" perplexity --quiet --model $model --text $model/text --window 512 --stride 512 --json \
    --nulls "$out/weights.safetensors" --route "$2" >"$out/weights.new"
  mv "$out/weights.new" "$out/weights/$1.json"
}
[ -e "$out/weights.safetensors" ] ||
  "$OLMOE" calibrate --quiet --model $model --text $model/development --window 512 \
    --out "$out/weights.safetensors" >/dev/null
for k in 3 4 5; do weights "topk_$k" "topk:k=$k"; done
weights topk_mass_3 topk:k=3,temperature=1.067,mass_exponent=0.45
weights topk_mass_4 topk:k=4,temperature=1.063,mass_exponent=0.5
weights threshold_3 threshold:t=0.0476459,min_k=2,max_k=12,temperature=1.067,mass_exponent=0.403
weights threshold_4 threshold:t=0.040858,min_k=3,max_k=12,temperature=1.063,mass_exponent=0.493
weights bh_3 bh:alpha=2.04076648e-05,min_k=2,max_k=12,temperature=1.077,mass_exponent=0.472
weights bh_4 bh:alpha=0.000559313734,min_k=2,max_k=12,temperature=1.063,mass_exponent=0.416

printf 'bh_%s = bh:alpha=%s,min_k=1,max_k=16\n' a020 0.2 a010 0.1 a005 0.05 a001 0.01 >"$out/models.grid"
echo bh21 >"$out/models.new"
for directory in ${MODELS-}; do
  name=$(basename "$directory")
  [ -e "$out/$name.safetensors" ] ||
    "$OLMOE" calibrate --model "$directory" --text $model/development --window 512 \
      --out "$out/$name.safetensors"
  sweep "$name" --model "$directory" --nulls "$out/$name.safetensors" --text $model/text \
    --calibration-text $model/development --grid "$out/models.grid" --shuffles 0
  echo "$name" >>"$out/models.new"
done
mv "$out/models.new" "$out/models"

if [ ! -e "$out/bench.txt" ]; then
  if [ -z "${BENCH-}" ]; then
    cmake --preset bench >/dev/null
    cmake --build build/bench --target bench_model
    BENCH=build/bench/bench/model/bench_model
  fi
  sed 's/"num_hidden_layers": 16/"num_hidden_layers": 6/' bench/model/olmoe-1b-7b.json >"$out/six.json"
  : >"$out/bench.new"
  for compute in bf16 f32; do # not all processors have products in bf16
    "$BENCH" --make "$out/six.json" --model "$out/six" --parts batch --contexts 16 --threads 16 \
      --batches 1,4,16,32 --policies "topk:k=3 topk:k=4" --free-window 8 --repeats 9 \
      --compute $compute >>"$out/bench.new" || [ $compute = bf16 ]
  done
  mv "$out/bench.new" "$out/bench.txt"
fi
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
