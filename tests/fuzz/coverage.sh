#!/bin/sh
# What the corpora and the former faults reach of the readers, by clang's source-based coverage.
#
#   tests/fuzz/coverage.sh [FOLDER]
#
# Replays tests/fuzz/corpus and tests/fuzz/regression, and FOLDER/TARGET/ if a folder of more inputs
# is given, such as build/fuzz/corpus. Writes build/coverage/report.txt, lines by file, and
# build/coverage/uncovered.txt, every line of a reader that nothing reached.
set -eu
cd "$(dirname "$0")/../.."
more=${1:-}
build=build/coverage
readers="reference/formats reference/tokenizer reference/forward/config.cpp reference/forward/config_keys.cpp
  reference/routing reference/sweep reference/measure/texts.cpp reference/cli/batch.cpp reference/cli/cmd_verify.cpp reference/c_api include"
cmake -S . -B $build -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -fprofile-instr-generate -fcoverage-mapping" \
  -DFDROUTE_BUILD_TESTS=OFF -DFDROUTE_FUZZ=ON >/dev/null
cmake --build $build --target fuzz_replay
rm -f $build/*.profraw
for pack in tests/fuzz/corpus/*.pack; do
  target=$(basename "$pack" .pack)
  set -- "$pack"
  [ ! -d "tests/fuzz/regression/$target" ] || set -- "$@" "tests/fuzz/regression/$target"
  [ -z "$more" ] || [ ! -d "$more/$target" ] || set -- "$@" "$more/$target"
  LLVM_PROFILE_FILE=$build/$target.profraw $build/tests/fuzz/fuzz_replay "$target" "$@" 2>/dev/null
done
llvm-profdata merge -o $build/all.profdata $build/*.profraw
programs="$build/tests/fuzz/fuzz_replay -object $build/reference/c_api/libfdroute_c.so"
# shellcheck disable=SC2086 # words
llvm-cov report $programs -instr-profile=$build/all.profdata $readers >$build/report.txt
# shellcheck disable=SC2086 # words
llvm-cov show $programs -instr-profile=$build/all.profdata $readers |
  awk '/^\/.*:$/ { file = $0 } /^ *[0-9]+\| *0\|/ { print file $0 }' >$build/uncovered.txt
echo "$build/report.txt $build/uncovered.txt"
