#!/bin/sh
# Compiles and runs, in a chroot of matrix.sh, what a toolchain must do:
#
#   check.sh native|no-exceptions|portable|aarch64 full|quick COMPILER
#
# Prints "fact NAME: VALUE" lines for the table. Warnings are counted in headers.cpp, whose fdroute
# comes by a plain -I; a warning is a failure.
set -eu
kind=$1
depth=$2
compiler=$3
cd /fdroute
mkdir -p out

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
tests="main simd/scalar simd/native simd/routing_digest_test simd/simd_test simd/generic_test"
[ "$depth" = quick ] || tests="$tests library/rules/rules_test"
{
  for test in $tests; do
    own=-O1
    case $test in
      main) own=-O0 ;;
      simd/scalar) own="-O1 $kernels" ;;
      simd/native) own="-O1 $kernels $native" ;;
    esac
    echo "$compiler -std=c++20 $flags $own -DFDROUTE_TEST_NATIVE $include -I tests" \
      "-c tests/$test.cpp -o out/${test##*/}.o || exit 255"
  done
  headers native -std=c++20 -O2 "$native" -c -o out/headers.o
  if [ "$depth" = full ]; then
    if [ "$kind" = native ]; then
      headers avx512 -std=c++20 -O2 -march=sapphirerapids -c -o out/headers_avx512.o
    fi
    headers cpp23 -std=c++2b -fsyntax-only  # as clang 14 calls it
  fi
} >out/commands
cat out/commands
xargs -P "${JOBS:-$(nproc)}" -d '\n' -n 1 sh -c <out/commands
cat out/native.txt out/avx512.txt out/cpp23.txt 2>/dev/null || true
warnings=$(cat out/*.txt | grep -c 'warning:') || true
echo "fact warnings: $warnings"

# ---- Run -----------------------------------------------------------------------------------------

# shellcheck disable=SC2046,SC2086
$compiler $link $(for test in $tests; do echo "out/${test##*/}.o"; done) -o out/test
# Without exceptions, what is refused ends the program.
leave_out=none
[ "$kind" != no-exceptions ] || leave_out='*is refused'
$run out/test --test-case-exclude="$leave_out" >out/test.txt 2>&1 || { cat out/test.txt; exit 1; }
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
