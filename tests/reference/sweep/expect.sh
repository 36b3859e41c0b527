# What the scripts about `olmoe sweep` share: they source this.

fail() {
  echo "$(basename "$0" .sh): $*" >&2
  exit 1
}

# The command fails with this exit code and one line on stderr that holds the fact.
fails() {
  local code=$1 fact=$2 got=0
  shift 2
  "$@" >out 2>err || got=$?
  [ "$got" = "$code" ] || fail "exit code $got, not $code: $*"
  grep -qF -- "$fact" err || fail "'$fact' is not in: $(cat err)"
  [ "$(wc -l <err)" = 1 ] || fail "more than one line: $(cat err)"
}
