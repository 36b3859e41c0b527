#!/usr/bin/env bash
# Standard output or a disk that is full, a directory that goes, a reader that leaves: `olmoe` ends with
# exit code 1 and one line, or by the signal, and leaves nothing half-written.
#
#   output.sh OLMOE MODEL_DIRECTORY
set -euo pipefail
olmoe=$(realpath "$1")
model=$(realpath "$2")
dir=$(mktemp -d)
mounted=
trap '[ -z "$mounted" ] || umount "$dir/small"; rm -rf "$dir"' EXIT
cd "$dir"

fail() {
  echo "output: $*" >&2
  [ ! -e err ] || sed 's/^/  stderr: /' err >&2
  exit 1
}
one_line() {
  [ "$(grep -c '^olmoe: ' err)" = 1 ] && [ "$(tail -n 1 err | cut -c 1-7)" = 'olmoe: ' ] ||
    fail "not one line: $1"
}

head -c 1200 "$model/text/bible.txt" >prose.txt
echo '[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]' >ids.json
for command in "--version" "sweep --help" "inspect --model $model" \
  "tokenize --model $model --text house" \
  "generate --model $model --prompt house --max-new-tokens 3" \
  "perplexity --model $model --text prose.txt --window 64" \
  "calibrate --model $model --text prose.txt --window 64 --trim 8 --out n.safetensors"; do
  got=0
  # shellcheck disable=SC2086 # words
  "$olmoe" $command >/dev/full 2>err || got=$?
  [ "$got" = 1 ] || fail "exit code $got with a full standard output: $command"
  one_line "$command"
  grep -q 'cannot write to standard output' err || fail "$command"
done

# A reader that leaves: SIGPIPE, as of any filter, but tidy.
set +o pipefail
codes=$(
  set +e
  "$olmoe" generate --model "$model" --prompt house --max-new-tokens 200 --threads 1 2>err | head -c 1 \
    >/dev/null
  echo "${PIPESTATUS[0]}"
)
set -o pipefail
[ "$codes" = 141 ] || [ "$codes" = 0 ] || fail "exit code $codes after a reader left"

# No space: a file system of 64 KiB, if this user may mount one.
mkdir small
if mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
  mounted=1
  for command in "logits --model $model --ids ids.json --out small/logits.safetensors" \
    "make-random --config $model/config.json --out small/random" \
    "calibrate --model $model --text prose.txt --window 64 --trim 8 --out small/n.safetensors"; do
    dd if=/dev/zero of=small/full bs=1k 2>/dev/null || true
    [ "${command%% *}" = calibrate ] || rm small/full
    got=0
    # shellcheck disable=SC2086 # words
    "$olmoe" $command >/dev/null 2>err || got=$?
    [ "$got" = 1 ] || fail "exit code $got on a full disk: $command"
    one_line "$command"
    rm -f small/full
    [ -z "$(find small -type f)" ] || [ "${command%% *}" = make-random ] ||
      fail "left $(find small -type f): $command"
    [ -z "$(find small -name '*.tmp*')" ] || fail "left $(find small -name '*.tmp*'): $command"
    rm -rf small/*
  done
  echo "output: a full disk was tried"
else
  echo "output: no right to mount a small file system: a full disk was not tried"
fi

# A directory that goes while the sweep runs.
"$olmoe" sweep --model "$model" --text prose.txt --window 64 --new-tokens 1 --shuffles 0 --threads 1 \
  --out gone >/dev/null 2>err &
child=$!
until [ -e gone/configs ] || ! kill -0 $child 2>/dev/null; do sleep 0.02; done
rm -rf gone || rm -rf gone
got=0
wait $child || got=$?
[ "$got" = 1 ] || fail "exit code $got after its directory went"
one_line "sweep without its directory"

# A second process in one directory is told so; one that is killed leaves no lock.
if command -v flock >/dev/null; then
  mkdir locked
  got=0
  flock locked "$olmoe" sweep --model "$model" --text prose.txt --window 64 --new-tokens 0 --shuffles 0 \
    --threads 1 --out locked >/dev/null 2>err || got=$?
  [ "$got" = 1 ] || fail "exit code $got in a directory that another process writes to"
  one_line "sweep in a locked directory"
  grep -q 'locked: another process writes to it' err || fail "sweep in a locked directory"
  [ -z "$(ls locked)" ] || fail "left $(ls locked)"
  echo "output: a second process was tried"
fi
echo "output: all as promised"
