#!/bin/sh
# fdroute's routers beside ggml's operations and torch, in one run: ./bootstrap bench peers [OPTION...]
#
# In a root of Debian unstable (build/roots/sid, that of ./bootstrap engines) it compiles the library
# of peers.cpp for this machine's processor and runs peers.py with the options, --json to
# build/peers/peers.json. The exit status is 0, 77 if the packages cannot be had ("SKIPPED:"), and 1
# where somebody selects other experts or weighs them otherwise.
set -eu
cd "$(dirname "$0")/../.."
name=peers
here=build/peers
. tests/sid_root.sh

open_sid g++ libxsimd-dev libggml-dev python3-numpy python3-torch libtorch-dev
work=$root/peers
rm -rf --one-file-system "$work"
mkdir -p "$work"
cp -a include bench "$work/"
say "compiling"
inside sh -c "cd /peers && g++ -std=c++20 -O3 -DNDEBUG -march=native -fopenmp -fPIC -shared -I include \
  bench/peers/peers.cpp -lggml -lggml-base -o libpeers.so"
say "running peers.py $*"
inside sh -c 'cd /peers && python3 bench/peers/peers.py --library ./libpeers.so --json peers.json "$@"' - "$@"
[ ! -f "$work/peers.json" ] || mv "$work/peers.json" $here/
say "done"
