#!/bin/sh
# Writes olmoe's manual page and the completions of bash, zsh and fish, from its own --help:
#   manual.sh OLMOE FOLDER
set -eu
olmoe=$1 folder=$2 here=$(dirname "$0")
mkdir -p "$folder"
help=$folder/help.txt

echo "####" >"$help"
COLUMNS=1000 "$olmoe" --help >>"$help"
version=$("$olmoe" --version)
# The subcommands: the first column of its entries that are no options.
commands=$(sed -nE 's/^  ([a-z][a-z-]*)  .*/\1/p' "$help")
for command in $commands; do
  echo "#### $command"
  COLUMNS=1000 "$olmoe" "$command" --help
done >>"$help"

# write FORM FILE: whole or not at all
write() {
  LC_ALL=C awk -v form="$1" -v version="$version" -f "$here/manual.awk" "$help" >"$folder/$2.new"
  mv "$folder/$2.new" "$folder/$2"
}
write man olmoe.1
write bash olmoe.bash
write zsh _olmoe
write fish olmoe.fish
