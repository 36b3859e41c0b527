#!/bin/bash
# Runs the commands of a page's ```console blocks and compares what they print with what the page says.
#   console.sh PAGE OLMOE SCRATCH            in a folder of its own, with reference/ as the tree has it
#   console.sh PAGE OLMOE SCRATCH --update   writes what they print into the page
#
# A command is a line that begins with "$ ", continued behind a backslash; what follows is what it prints: its output,
# or, if it fails, its errors. An assignment holds for the commands after it. Two lines are alike if their words are, and
# their numbers within 1 %: other instruction sets round otherwise. Times are not compared.
set -euo pipefail
page=$(realpath "$1") olmoe=$(realpath "$2") scratch=$3
tree=$(cd "$(dirname "$0")/../.." && pwd)
rm -rf "$scratch"
mkdir -p "$scratch/bin" "$scratch/work" "$scratch/run"
scratch=$(realpath "$scratch")
ln -s "$olmoe" "$scratch/bin/olmoe"
ln -s "$tree/reference" "$scratch/work/reference"

# The commands, in order, a file each.
awk -v folder="$scratch/run" '
  /^```console$/ { inside = 1; next }
  /^```/ { inside = 0; more = 0 }
  inside && (more || /^\$ /) {
    if (!more) { file = sprintf("%s/%03d.sh", folder, ++n) }
    line = $0
    if (!more) line = substr(line, 3)
    print line > file
    more = line ~ /\\$/
  }' "$page"
[ -e "$scratch/run/001.sh" ] || { echo "console.sh: $page has no command" >&2; exit 1; }

cd "$scratch/work"
assignments=
for command in "$scratch"/run/*.sh; do
  text=$(cat "$command")
  if [[ $text =~ ^[a-z_]+=[^\ ]*$ ]]; then
    assignments+="$text;"
    : >"${command%.sh}.out"
    continue
  fi
  if PATH="$scratch/bin:$PATH" LC_ALL=C.UTF-8 bash -c "$assignments $text" \
    >"${command%.sh}.out" 2>"${command%.sh}.err" </dev/null; then
    continue
  fi
  mv "${command%.sh}.err" "${command%.sh}.out"
done

awk -v folder="$scratch/run" '
  /^```console$/ { inside = 1; print; next }
  /^```/ { inside = 0 }
  !inside { print; next }
  more { print; more = /\\$/ }
  /^\$ / { print; more = /\\$/; file = sprintf("%s/%03d.out", folder, ++n); pending = 1 }
  pending && !more {
    while ((getline line < file) > 0) print line
    close(file)
    pending = 0
  }' "$page" >"$scratch/page.md"

if [ "${4-}" = --update ]; then
  cp "$scratch/page.md" "$page"
  exit
fi
awk -v page="$page" '
  # A line with numbers cut out into numbers[1..n], and without times.
  function cut(line, numbers,   n, rest, form) {
    gsub(/[0-9.]+ ?(ms|s|min|h)([ ,;)]|$)/, "<time> ", line)
    gsub(/[0-9.]+ (tokens|tok)\/s/, "<rate>", line)
    gsub(/ +/, " ", line)
    gsub(/--+/, "--", line)
    n = 0
    form = ""
    delete numbers
    while (match(line, /[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?/)) {
      numbers[++n] = substr(line, RSTART, RLENGTH) + 0
      form = form substr(line, 1, RSTART - 1) "#"
      line = substr(line, RSTART + RLENGTH)
    }
    count = n
    return form line
  }
  function alike(a, b,   x, y, i, n, apart) {
    if (cut(a, x) != cut(b, y)) return 0
    for (i = 1; i <= count; ++i) {
      apart = x[i] - y[i]
      if (apart < 0) apart = -apart
      if (apart > 0.01 * (x[i] > y[i] ? x[i] : y[i])) return 0
    }
    return 1
  }
  FNR == NR { said[FNR] = $0; lines = FNR; next }
  {
    if (FNR <= lines && !alike(said[FNR], $0)) {
      print page ":" FNR ": the page says\n  " said[FNR] "\nand the command\n  " $0 > "/dev/stderr"
      failed = 1
      exit
    }
  }
  END {
    if (!failed && FNR != lines) {
      print page ": it has " lines " lines, what the commands print makes " FNR > "/dev/stderr"
      failed = 1
    }
    exit failed
  }' "$page" "$scratch/page.md"
