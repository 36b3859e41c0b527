#!/bin/bash
# Installs fdroute's Debian packages in a bare Debian 12, uses all of them, removes them, and compares the root with
# what it was before:
#   check.sh [FOLDER]    as root; FOLDER has the packages, build/package by default
# The root, made by debootstrap, is kept in FOLDER/bare for another run.
set -euo pipefail
cd "$(dirname "$0")/../.."
source=$PWD
packages=$(cd "${1-build/package}" && pwd)
root=$packages/bare

fail() {
  echo "check.sh: $*" >&2
  exit 1
}
said() { echo "== $*"; }

if [ ! -d "$root" ]; then
  . tests/debian_root.sh
  said "a bare Debian 12"
  make_root bookworm "$root" "$(debian_mirror)" >"$packages/debootstrap.log" 2>&1 || {
    cat "$packages/debootstrap.log" >&2
    fail "no root"
  }
  # minbase leaves the documentation in: manual pages are wanted here.
  chroot "$root" apt-get update -qq
fi
trap 'umount "$root/proc" 2>/dev/null || true' EXIT
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }
apt() { inside DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends "$@" >"$packages/apt.log" 2>&1 || {
  cat "$packages/apt.log" >&2
  fail "apt-get $*"
}; }
# Every file with its size and sum, but for what apt, the dynamic linker and we ourselves keep of what happened.
snapshot() {
  inside find / -xdev \( -path /proc -o -path /tmp -o -path /var/cache -o -path /var/log -o -path /var/lib/apt \
    -o -path /var/lib/dpkg \) -prune -o -type d -printf '%p\n' -o -printf '%p %s %l\n' |
    grep -vE '^/etc/ld\.so\.cache |/__pycache__' | sort
}

# What a user needs beside: installed before, so that what is left afterwards is fdroute's own.
said "a compiler, CMake and the rest"
apt install g++ cmake make pkg-config man-db bash-completion python3-numpy libxsimd-dev libssl3 libgomp1 libutf8proc2
snapshot >"$packages/before"

said "apt install ./*.deb"
rm -rf "$root/tmp/fdroute"
mkdir "$root/tmp/fdroute"
cp "$packages"/*.deb "$root/tmp/fdroute/"
rm -f "$root"/tmp/fdroute/*dbgsym*
inside sh -c 'DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /tmp/fdroute/*.deb' \
  >"$packages/apt.log" 2>&1 || { cat "$packages/apt.log" >&2; fail "the packages are not installed"; }

said "the README's program, by pkg-config and by CMake"
inside cp -r /usr/share/doc/libfdroute-dev/examples /tmp/fdroute/example
sed -n '/^```text$/,/^```$/p' README.md | sed '1d;/^```$/,$d' >"$packages/readme.text"
inside make -s -C /tmp/fdroute/example CXXFLAGS=-O0
inside /tmp/fdroute/example/example | cmp - "$packages/readme.text"
inside /tmp/fdroute/example/example_c | grep -qx "expert 1, weight 0.5839"
inside sh -c 'cd /tmp/fdroute/example && cmake -B build . && cmake --build build' >"$packages/cmake.log" 2>&1 ||
  { cat "$packages/cmake.log" >&2; fail "the example is not built by CMake"; }
inside /tmp/fdroute/example/build/example | cmp - "$packages/readme.text"
inside /tmp/fdroute/example/build/example_c | grep -qx "expert 4, weight 0.3542"

said "olmoe, its manual and its completion"
cp -r "$source/reference/model" "$root/tmp/fdroute/model"
inside olmoe --help | grep -q generate
inside olmoe verify --model /tmp/fdroute/model --capture /tmp/fdroute/model/capture.safetensors >"$packages/verify.log" ||
  { cat "$packages/verify.log"; fail "olmoe verify"; }
inside MANWIDTH=80 man olmoe | grep -q "OLMOE GENERATE" || fail "man olmoe"
# As if one typed olmoe gen and pressed Tab, in an interactive shell that loads completions on demand.
inside bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader olmoe
  COMP_WORDS=(olmoe gen) COMP_CWORD=1; _olmoe; echo "${COMPREPLY[*]}"' | grep -qx generate || fail "completion"
inside test -s /usr/share/zsh/vendor-completions/_olmoe
inside test -s /usr/share/fish/vendor_completions.d/olmoe.fish

said "import fdroute"
inside python3 -c 'import fdroute, numpy
ids, weights, counts = fdroute.route(numpy.eye(4, 8, dtype="f4"), "topk:k=1")
print(fdroute.__version__, ids.ravel().tolist())' | grep -qx "$(sed -n 's/^#define FDROUTE_VERSION_[A-Z]* //p' \
  include/fdroute/version.hpp | paste -sd .) \[0, 1, 2, 3\]" || fail "import fdroute"

said "apt purge"
rm -rf "$root/tmp/fdroute"
names=$(inside dpkg-query -W -f '${Package} ${db:Status-Status}\n' '*fdroute*' | sed -n 's/ installed$//p')
[ "$(wc -w <<<"$names")" -eq 4 ] || fail "not four packages: $names"
# shellcheck disable=SC2086 # one word per package
apt purge $names
snapshot >"$packages/after"
diff "$packages/before" "$packages/after" || fail "removed with a trace"
said "removed without a trace"
rm "$packages"/{before,after,readme.text,apt.log,cmake.log,verify.log}
