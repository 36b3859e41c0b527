#!/bin/bash
# The manual page and the completions name what olmoe --help names; bash completes by them.
#   manual_test.sh OLMOE SOURCE SCRATCH
set -euo pipefail
export LC_ALL=C  # the order of what is completed
olmoe=$(realpath "$1") source=$2 scratch=$3
rm -rf "$scratch"
sh "$source/reference/cli/manual.sh" "$olmoe" "$scratch"
cd "$scratch"

fail() {
  echo "manual_test: $*" >&2
  exit 1
}

# options NAME: the options that its help lists, one a line, read by other words than manual.awk's.
options() {
  "$olmoe" "$@" --help | grep -E '^ +-' | grep -oE '^ *(-[a-zA-Z], ?)?--[a-z0-9-]+' |
    grep -oE -- '--[a-z0-9-]+'
}

subcommands=$("$olmoe" --help | grep -oE '^  [a-z][a-z-]*  ' | tr -d ' ')
[ "$(wc -w <<<"$subcommands")" -ge 10 ] || fail "the help names only $subcommands"

# The page. A manual escapes dashes.
sed 's/\\-/-/g' olmoe.1 >page
for command in $subcommands; do
  grep -q "^.SH OLMOE ${command^^}$" page || fail "the page has no section for $command"
  section=$(sed -n "/^.SH OLMOE ${command^^}$/,/^.SH /p" page)
  for option in $(options "$command"); do
    grep -qE -- "^\.B (.*,)? ?$option( |=|$)" <<<"$section" || fail "$command $option is not in the page"
    grep -q -- "-l ${option#--} " <(grep "seen_subcommand_from $command'" olmoe.fish) ||
      fail "fish does not complete $command $option"
    grep -qF -- "'*$option[" <(sed -n "/^        $command)$/,/;;$/p" _olmoe) ||
      fail "zsh does not complete $command $option"
  done
done
if command -v man >/dev/null; then
  warnings=$(LC_ALL=C.UTF-8 man --warnings -l olmoe.1 2>&1 >/dev/null)
  [ "$warnings" = "" ] || fail "of the page, man says $warnings"
fi

# Bash, as if one pressed Tab after the last word.
. ./olmoe.bash
completes() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _olmoe 2>/dev/null  # outside of a completion compopt complains
  printf '%s\n' "${COMPREPLY[@]}" | sort
}
for command in $subcommands; do
  grep -qx -- "$command" <(completes olmoe "") || fail "bash does not complete $command"
  diff <(completes olmoe "$command" --) <(options "$command" | sort) ||
    fail "bash completes other options of $command"
done
[ "$(completes olmoe calibrate --score l)" = "log_softmax
logit" ] || fail "the scores: $(completes olmoe calibrate --score l)"
mkdir -p models/nano && touch models/file
[ "$(completes olmoe inspect --model models/)" = models/nano ] || fail "--model completes no directory"
[ "$(completes olmoe calibrate --out mod)" = models ] || fail "--out completes no file"
[ "$(completes olmoe perplexity --window "")" = "" ] || fail "--window completes something"

for shell in zsh fish; do
  command -v $shell >/dev/null || continue
  script=$([ $shell = zsh ] && echo _olmoe || echo olmoe.fish)
  $shell -n "$script" || fail "$shell does not read $script"
done
if command -v fish >/dev/null; then
  fish --no-config -c "source olmoe.fish; complete -C 'olmoe calibrate --score '" >fish.scores
  [ "$(sort fish.scores | cut -f1 | paste -sd ' ')" = "log_softmax logit robust_zscore zscore" ] ||
    fail "fish completes the scores by $(cat fish.scores)"
fi
