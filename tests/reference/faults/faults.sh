#!/usr/bin/env bash
# What `olmoe` leaves behind when a call fails or a signal ends it, call by call: every command that
# writes, on a tiny checkpoint, with the Nth call of a kind failing (shim.cpp).
#
#   faults.sh OLMOE SHIM MODEL_DIRECTORY [STEP [PART/PARTS]]
#
# STEP 1 tries every N, 7 every seventh and fewer effects. Allocations, of which there are very many, are
# sampled: up to 100 / STEP of each command. PART/PARTS, such as 2/8, takes every eighth of these runs,
# from the second on, so that several processes share them.
#
# A run with a fault ends with exit code 1 and one line "olmoe: ...", leaves no temporary file and no
# file that differs from a whole run's; and the same command, with --resume for a sweep, then gives
# the bytes of a whole run. One with a signal ends with 128 + its number. There is no gnuplot here: it
# would take most of the time.
set -euo pipefail
olmoe=$(realpath "$1")
shim=$(realpath "$2")
model=$(realpath "$3")
step=${4:-1}
part=${5:-1/1}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export SOURCE_DATE_EPOCH=1700000000  # reports name the day
mkdir no_gnuplot
env=$(command -v env) # also where PATH has no tools
candidates=0
runs=0

fail() {
  echo "faults: $*" >&2
  [ ! -e err ] || sed 's/^/  stderr: /' err >&2
  exit 1
}

# A checkpoint of 2 layers of 2 experts with the bundled tokenizer.
sed -e 's/"hidden_size": [0-9]*/"hidden_size": 16/' \
  -e 's/"intermediate_size": [0-9]*/"intermediate_size": 8/' \
  -e 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 2/' \
  -e 's/"num_attention_heads": [0-9]*/"num_attention_heads": 2/' \
  -e 's/"num_key_value_heads": [0-9]*/"num_key_value_heads": 2/' \
  -e 's/"num_experts": [0-9]*/"num_experts": 2/' \
  -e 's/"num_experts_per_tok": [0-9]*/"num_experts_per_tok": 1/' \
  "$model/config.json" >config.json
"$olmoe" make-random --config config.json --out tiny --dtype f32 >/dev/null 2>&1
cp "$model/tokenizer.json" tiny
head -c 250 "$model/text/bible.txt" >prose.txt
head -c 1500 "$model/text/bible.txt" >long.txt
echo '[{"class": "simple", "text": "The house"}]' >prompts.json
echo 'bh:alpha=0.3,null=normal,max_k=2' >grid.txt
echo '[1, 2, 3, 4, 5]' >ids.json

# Each command writes to $1; `sweep` continues what is there.
sweep() {
  local resume=()
  [ ! -e "$1/sweep.json" ] || resume=(--resume)
  command_line=("$olmoe" sweep --model tiny --text prose.txt --prompts prompts.json --grid grid.txt
    --new-tokens 2 --shuffles 1 --window 16 --threads 1 --out "$1" "${resume[@]}")
}
shard() {
  sweep "$1"
  command_line+=(--shard 2/3)
}
merge() {
  rm -rf "$1" # a merge does not continue one
  command_line=("$olmoe" merge --out "$1" shard1 shard2 shard3)
}
calibrate() {
  command_line=("$olmoe" calibrate --model tiny --text long.txt --trim 1 --window 16 --threads 1
    --out "$1/nulls.safetensors")
}
logits() {
  command_line=("$olmoe" logits --model tiny --ids ids.json --threads 1
    --out "$1/logits.safetensors")
}
make-random() {
  command_line=("$olmoe" make-random --config config.json --out "$1" --max-shard-size 100kB
    --threads 1)
}

run() { PATH=$dir/no_gnuplot "$@"; }

# Every file under $1 is one of the whole run's; timings are not compared.
check_files() {
  local file
  while IFS= read -r file; do
    case $file in
      *.tmp*) fail "$command, $fault: left $file" ;;
      */timings/* | *_timings.csv) [ -s "$file" ] || fail "$command, $fault: $file is empty" ;;
      *) cmp -s "$file" "whole/$command/${file#out/}" || fail "$command, $fault: $file is not whole" ;;
    esac
  done < <(find out -type f)
}

same_files() {
  diff <(cd out && find . -type f | sort) <(cd "whole/$command" && find . -type f | sort) >/dev/null ||
    fail "$command after $fault: not the same files"
}

# Runs the command with a fault, then without.
try() {
  local effect=${fault##*:} got=0 warned=0
  rm -rf out
  case $command in calibrate | logits) mkdir out ;; esac
  "$command" out
  # A shell ignores SIGINT for what it runs in the background.
  run "$env" --default-signal=INT LD_PRELOAD="$shim" FDROUTE_FAULT_PROGRAM="${olmoe##*/}" \
    FDROUTE_FAULT="$fault" \
    "${command_line[@]}" >/dev/null 2>err || got=$?
  runs=$((runs + 1))
  case $effect in
    short) [ "$got" = 0 ] || fail "$command, $fault: exit code $got" ;;
    signal=9) [ "$got" = 137 ] || fail "$command, $fault: exit code $got" ;;
    signal=*)
      [ "$got" = $((128 + ${effect#signal=})) ] || fail "$command, $fault: exit code $got"
      grep -q '^olmoe: ended by SIG' err || fail "$command, $fault: says nothing"
      ;;
    *)
      # Pictures may fail, with a warning. The report, which then says so, is not the whole run's.
      if [ "$got" = 0 ] && grep -q '^olmoe: warning: no pictures' err; then
        warned=1
      else
        [ "$got" = 1 ] || fail "$command, $fault: exit code $got"
      fi
      [ "$(grep '^olmoe: ' err | grep -vc '^olmoe: warning: ')" = $((1 - warned)) ] ||
        fail "$command, $fault: not one line"
      [ "$(tail -n 1 err | cut -c 1-7)" = 'olmoe: ' ] || fail "$command, $fault: not the last line"
      ;;
  esac
  # A killed process cannot tidy: what it leaves, its successor removes.
  [ "$effect" = signal=9 ] || [ $warned = 1 ] || [ ! -e out ] || check_files
  # A whole checkpoint is not written over.
  if [ "$command" = make-random ] && [ -e out/model.safetensors.index.json ]; then
    same_files
    rm -rf out
  fi
  "$command" out
  run "${command_line[@]}" >/dev/null 2>err || fail "$command after $fault: fails"
  check_files
  same_files
}

mkdir whole
for i in 1 2 3; do
  sweep "shard$i"
  run "${command_line[@]}" --shard "$i/3" >/dev/null 2>err || fail "shard $i"
done
for command in sweep merge calibrate logits make-random; do
  case $command in calibrate | logits) mkdir "whole/$command" ;; esac
  "$command" "whole/$command"
  run "$env" LD_PRELOAD="$shim" FDROUTE_FAULT_PROGRAM="${olmoe##*/}" FDROUTE_FAULT_COUNT="$dir/count" \
    "${command_line[@]}" >/dev/null 2>err || fail "$command"
  mv count "count.$command"
done
for command in sweep merge calibrate logits make-random; do
  while read -r call n <&3; do
    case $call in
      write) effects=(28 short signal=9) ;;
      rename) effects=(5 signal=15 signal=9 signal=2) ;;
      fsync) effects=(5 signal=13) ;;
      mmap) effects=(12) ;;
      open) effects=(24) ;;
      new) effects=(12) ;;
    esac
    # A sample has the first of them, and signals at renames.
    [ "$step" = 1 ] || effects=("${effects[@]:0:1}")
    [ "$step" = 1 ] || [ "$call" != rename ] || effects+=(signal=15)
    stride=$step
    # Progress allocates by the clock: the last few of one run another may not have.
    [ "$call" != new ] || n=$((n * 95 / 100))
    [ "$call" != new ] || stride=$((1 + n * step / 100))
    before=$runs
    for effect in "${effects[@]}"; do
      for ((i = 1; i <= n; i += stride)); do
        fault=$call:$i:$effect
        candidates=$((candidates + 1))
        [ $((candidates % ${part#*/})) != $((${part%/*} - 1)) ] || try
      done
    done
    echo "$command: $call, $n calls, $((runs - before)) faults"
  done 3<"count.$command"
done
echo "faults: $runs runs, all as promised"
