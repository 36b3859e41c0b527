#!/bin/bash
# The headers and their tests with other compilers and libraries, in chroots of Debian:
#
#   ./bootstrap matrix            all of them
#   ./bootstrap matrix NAME...    those named
#   ./bootstrap matrix quick [NAME...]   those named, or those of .ci/run, in their quick form
#
# A chroot per suite is made once, below build/roots, with the Debian mirror that this machine's own
# apt uses. Then check.sh compiles and runs in it, and a table says what came of it, and the seconds
# of processor time that took. Needs root.
# A suite whose packages cannot be downloaded is SKIPPED, with apt's own words; all else that does
# not work is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$PWD/build/matrix
roots=$PWD/build/roots

# name | suite | packages | compiler | what it is: see check.sh
table="
bookworm-gcc12      | bookworm | g++                            | g++                   | native
bookworm-clang14    | bookworm | g++ clang                      | clang++               | native
trixie-gcc14        | trixie   | g++                            | g++                   | native
sid-gcc16           | sid      | g++-16                         | g++-16                | native
sid-clang-libstdc++ | sid      | g++ clang                      | clang++               | native
sid-clang-libc++    | sid      | clang libc++-dev libc++abi-dev | clang++ -stdlib=libc++ | native
no-exceptions       | bookworm | g++                            | g++                   | no-exceptions
portable            | bookworm | g++                            | g++                   | portable
aarch64             | bookworm | g++-aarch64-linux-gnu qemu-user | aarch64-linux-gnu-g++ | aarch64
"
quick="sid-gcc16 sid-clang-libc++"
common="libxsimd-dev libeigen3-dev doctest-dev"

trim() { sed 's/^ *//; s/ *$//'; }
all=$(cut -d'|' -f1 <<<"$table" | trim | grep .)
column() { grep -E "^${1//+/[+]} *[|]" <<<"$table" | cut -d'|' -f"$2" | trim; }

set -- "${@:-all}"
names=""
depth=full
for name in "$@"; do
  case "$name" in
    all) names+=" $all" ;;
    quick) depth=quick ;;
    *)
      if ! grep -qxF -e "$name" <<<"$all"; then
        echo "bootstrap matrix: '$name' is none of: quick ${all//$'\n'/ }" >&2
        exit 2
      fi
      names+=" $name"
      ;;
  esac
done
names=${names:-$quick}

if [ "$(id -u)" != 0 ]; then
  echo "bootstrap matrix: needs root, to make chroots with debootstrap" >&2
  exit 1
fi
for program in debootstrap chroot; do
  if ! command -v $program >/dev/null; then
    echo "bootstrap matrix: $program is missing: apt-get install debootstrap" >&2
    exit 1
  fi
done

. tests/debian_root.sh
mirror=$(debian_mirror)
if [ -z "$mirror" ]; then
  echo "bootstrap matrix: apt has no source of Debian" >&2
  exit 1
fi

mounted=""
unmount() { for place in $mounted; do umount "$place" || true; done; }
trap unmount EXIT

# prepare SUITE PACKAGES...: a chroot with these packages.
prepare() {
  local suite=$1 log=$build/$1.log
  local chroot=$roots/$suite
  shift
  if [ ! -d "$chroot" ]; then
    make_root "$suite" "$chroot" "$mirror" >"$log" 2>&1 || return
  fi
  add_packages "$chroot" "$@" >"$log" 2>&1 || return
  if ! mountpoint -q "$chroot/proc"; then
    mount -t proc proc "$chroot/proc" || return
    mounted+=" $chroot/proc"
  fi
}

mkdir -p "$build" "$roots"
failed=0
row() { printf '%-20s %-29s %-7s %-6s %-20s %-8s %-7s %s\n' "$@"; }
lines=$(row name compiler xsimd Eigen digest warnings seconds verdict)
for name in $names; do
  suite=$(column "$name" 2)
  echo "matrix: $name"
  # shellcheck disable=SC2046,SC2086 # one word per package
  if prepare "$suite" $common $(column "$name" 3); then
    rm -rf "$roots/$suite/matrix"
    mkdir "$roots/$suite/matrix"
    cp -r include tests "$roots/$suite/matrix"
    log=$build/$name.log
    if chroot "$roots/$suite" env LC_ALL=C sh /matrix/tests/matrix/check.sh \
      "$depth" "$(column "$name" 4)" "$(column "$name" 5)" >"$log" 2>&1; then
      verdict=ok
    else
      verdict="FAILED: $log"
      failed=1
      tail -n 20 "$log"
    fi
    fact() { sed -n "s/^fact $1: //p" "$log" | tail -n 1; }
    line=$(row "$name" "$(fact compiler)" "$(fact xsimd)" "$(fact Eigen)" "$(fact digest)" \
      "$(fact warnings)" "$(fact seconds)" "$verdict")
  else
    words=$(grep -E "^(E|W): |$offline" "$build/$suite.log" | head -n 3) || true
    if grep -qE "$offline" <<<"$words"; then
      line=$(row "$name" - - - - - - "SKIPPED: $(tr '\n' ' ' <<<"$words")")
    else
      line=$(row "$name" - - - - - - "FAILED: $build/$suite.log")
      failed=1
      tail -n 20 "$build/$suite.log"
    fi
  fi
  lines+=$'\n'$line
done

echo "$lines"
digests=$(awk 'NR > 1 && / ok$/ { print $(NF - 3) }' <<<"$lines" | sort -u | wc -l)
if [ "$digests" -gt 1 ]; then
  echo "bootstrap matrix: the routing digests differ" >&2
  failed=1
fi
exit $failed
