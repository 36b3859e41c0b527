#!/bin/sh
# Compiles and runs, in a chroot of matrix.sh, what a toolchain must do:
#
#   check.sh full|quick COMPILER native|no-exceptions|portable|aarch64
#
# Full depth adds the tests of kernels and rules to the digest of routings, but without exceptions,
# which those need. The digest is of all policies and forms: it says whether kernels are right, these
# say where they are not.
# Prints "fact NAME: VALUE" lines for the table. Warnings are counted in headers.cpp, whose fdroute
# comes by a plain -I; a warning is a failure.
set -eu
depth=$1
compiler=$2
kind=$3
cd /matrix
mkdir -p out
seconds() { # of processor time, of all that ran
  times >out/times
  echo "fact seconds: $(awk -F '[ms ]' 'NR == 2 { printf "%d", 60 * ($1 + $4) + $2 + $5 }' out/times)"
}
trap seconds EXIT

version() { dpkg-query -W -f '${Version}' "$1" | sed 's/^[0-9]*://; s/[-+~].*//'; }
echo "fact compiler: $($compiler --version | head -n 1 | sed 's/ *(.*)//; s/Debian //')"
echo "fact xsimd: $(version libxsimd-dev)"
echo "fact Eigen: $(version libeigen3-dev)"

include="-I include -isystem /usr/include/eigen3"
warn="-Wall -Wextra -Wconversion -Wshadow"
flags=""     # of everything
kernels=""   # of the translation units that hold kernels
native=-march=native
run=""
link=""
fuse=""  # what g++ needs at -O1 to fuse products and sums where it may; clang does
case $compiler in clang*) ;; *) fuse=-fexpensive-optimizations ;; esac
case $kind in
  no-exceptions) kernels="-fno-exceptions -fno-rtti" ;;
  portable) flags="-DFDROUTE_PORTABLE -pedantic-errors" ;;
  aarch64)
    native=""
    run=qemu-aarch64
    link=-static
    ;;
esac

# ---- Compile: a command a line -------------------------------------------------------------------

# headers NAME FLAGS...
headers() {
  name=$1
  shift
  echo "$compiler $warn $flags $kernels $include $* tests/matrix/headers.cpp 2>out/$name.txt ||" \
    "{ cat out/$name.txt; exit 255; }"
}
# unit NAME FLAGS... -c FILE: of a test program. Files before the last come by -include: what several
# units hold of the library would be compiled in each of them.
units=""
unit() {
  units="$units out/$1.o"
  name=$1
  shift
  echo "$compiler -std=c++20 -O1 $flags -DFDROUTE_TEST_NATIVE $include -I tests $* -o out/$name.o ||" \
    "exit 255"
}
{
  if [ "$kind" = no-exceptions ]; then  # which doctest is compiled with
    unit native $fuse $kernels $native -c tests/simd/native.cpp
    unit digest -include tests/main.cpp -c tests/simd/routing_digest_test.cpp
  else
    unit digest $fuse $native -include tests/main.cpp -include tests/simd/native.cpp \
      -c tests/simd/routing_digest_test.cpp
    [ "$depth" != full ] ||
      unit tests -include tests/simd/scalar.cpp -include tests/simd/simd_test.cpp \
        -include tests/simd/generic_test.cpp -c tests/library/rules/rules_test.cpp
  fi
  headers native -std=c++20 -O2 $native -c -o out/headers.o
  if [ "$depth" = full ]; then
    if [ "$kind" = native ]; then
      headers avx512 -std=c++20 -O2 -march=sapphirerapids -c -o out/headers_avx512.o
    fi
    headers cpp23 -std=c++2b -fsyntax-only  # as clang 14 calls it
  fi
} >out/commands
# shellcheck disable=SC2016
xargs -P "${JOBS:-$(nproc)}" -d '\n' -n 1 bash -c 'TIMEFORMAT="%U s: $0"; time eval "$0"' <out/commands
cat out/native.txt out/avx512.txt out/cpp23.txt 2>/dev/null || true
warnings=$(cat out/*.txt | grep -c 'warning:') || true
echo "fact warnings: $warnings"

# ---- Run -----------------------------------------------------------------------------------------

# shellcheck disable=SC2086
$compiler $link $units -o out/test
$run out/test >out/test.txt 2>&1 || { cat out/test.txt; exit 1; }
cat out/test.txt
digest=$(sed -n 's/.*digest of all routings: *//p' out/test.txt)
echo "fact digest: $digest"
[ -n "$digest" ]

if [ "$kind" = no-exceptions ]; then
  for handler in own default; do
    define=""
    [ $handler = default ] || define=-DFDROUTE_ERROR_HANDLER=engine_error
    # shellcheck disable=SC2086
    $compiler -std=c++20 -O1 $warn -Werror $kernels $define $include \
      tests/embedding/no_exceptions.cpp -o out/$handler
    out/$handler route
    out/$handler bh:alpha=2 >out/$handler.txt 2>&1 || echo "exit code $?" >>out/$handler.txt
    cat out/$handler.txt
  done
  sentence='BenjaminiHochberg: alpha must lie in (0, 1), got 2'
  grep -qxF "engine: $sentence" out/own.txt
  grep -qxF 'exit code 3' out/own.txt
  grep -qxF "fdroute: $sentence" out/default.txt
  grep -qxF 'exit code 134' out/default.txt
fi

[ "$warnings" = 0 ] || { echo "$warnings warnings"; exit 1; }
