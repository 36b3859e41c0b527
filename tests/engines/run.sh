#!/bin/sh
# fdroute in the packages of llama.cpp, ONNX Runtime and PyTorch that Debian unstable has, each beside
# the reference `olmoe`: ./bootstrap engines
#
# Makes a root of Debian unstable under build/engines/ from where this machine's apt gets Debian,
# compiles there what needs the engines' headers, and runs each engine's check in it. The last lines
# are a table; the exit status is 0 if every difference in it is within its tolerance, 77 if the
# packages cannot be had ("SKIPPED:", with the words of debootstrap or apt), and 1 otherwise.
set -eu
cd "$(dirname "$0")/../.."
. tests/debian_root.sh

here=build/engines
root=$here/sid
packages="g++ nlohmann-json3-dev libxsimd-dev libllama-dev libggml-dev python3-numpy python3-safetensors
  libonnxruntime-dev python3-onnxruntime python3-torch python3-transformers"
model=reference/model
olmoe=build/release/reference/olmoe

if [ "$(id -u)" != 0 ]; then
  echo "engines: root is needed, to make a root folder of Debian unstable in $root and to enter it" >&2
  exit 1
fi

say() {
  echo "engines: $*"
}
skip() { # what could not be had, and the file whose end says why
  echo "SKIPPED: engines: $1"
  if grep -q -E '^(E|Err):' "$2"; then grep -E '^(E|Err):' "$2"; else tail -n 5 "$2"; fi
  exit 77
}
inside() {
  chroot "$root" env LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/tmp "$@"
}
leave() {
  wait "$build" 2>/dev/null || true
  umount "$root/proc" 2>/dev/null || true
  umount "$root/dev" 2>/dev/null || true
}

# ---- The root, while the reference is being built ----

mkdir -p $here
(
  cmake --preset release
  cmake --build build/release --target olmoe fdroute_c
) >$here/build.log 2>&1 &
build=$!
trap leave EXIT
trap 'exit 1' INT TERM HUP

if [ ! -d "$root" ]; then
  url=$(debian_mirror)
  if [ -z "$url" ]; then
    echo "SKIPPED: engines: apt on this machine has no source of Debian"
    exit 77
  fi
  say "debootstrap of Debian unstable"
  make_root sid "$root" "$url" >$here/debootstrap.log 2>&1 ||
    skip "debootstrap failed" $here/debootstrap.log
fi
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"

# shellcheck disable=SC2086 # one word per package
if ! inside dpkg-query -W -f '${db:Status-Status}\n' $packages >$here/packages 2>/dev/null ||
  grep -qv '^installed$' $here/packages; then
  say "installing $(echo $packages)"
  # What an interrupted run left.
  inside dpkg --configure -a >$here/apt.log 2>&1 || skip "dpkg --configure -a failed" $here/apt.log
  inside apt-get update >$here/apt.log 2>&1 || skip "apt-get update failed" $here/apt.log
  inside apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io $packages \
    >$here/apt.log 2>&1 || skip "apt-get install failed" $here/apt.log
fi

say "building olmoe and the C library"
wait $build || {
  tail -n 40 $here/build.log >&2
  exit 1
}

# ---- What the reference says ----

say "the reference's perplexities and logits"
work=$root/fdroute
rm -rf --one-file-system "$work"
mkdir -p "$work/tests/data" "$work/work"
cp -a include reference "$work/"
cp -a tests/engines "$work/tests/"
cp -a tests/data/tiny "$work/tests/data/"
cp -aL build/release/reference/c_api/libfdroute_c.so* "$work/"
for text in $model/text/*.txt; do
  head -n 12 "$text"
done >$here/text.txt
$olmoe tokenize --model $model --file $here/text.txt >"$work/work/ids.json"
grep -v '^#' tests/engines/policies.txt | while IFS="$(printf '\t')" read -r name policy; do
  [ "$name" != native ] || policy=native
  $olmoe perplexity --model $model --text $here/text.txt --window 512 --route "$policy" \
    >"$work/work/$name.perplexity"
  $olmoe logits --model $model --ids $model/capture.safetensors --route "$policy" \
    --out "$work/work/$name.safetensors"
done

# ---- The engines ----

cat >"$work/compile.sh" <<'EOF'
set -eu
cd /fdroute
flags="-std=c++20 -O1 -I include"
g++ $flags -I reference tests/engines/llama_cpp/main.cpp tests/engines/llama_cpp/routing_hook.cpp \
  reference/formats/json.cpp reference/formats/mapped_file.cpp reference/formats/regular_file.cpp \
  reference/formats/safetensors.cpp reference/formats/tensor.cpp reference/routing/nulls.cpp \
  -lllama -lggml -lggml-base -o fdroute_llama &
llama=$!
g++ $flags -fPIC -shared -isystem /usr/include/onnxruntime tests/engines/onnxruntime/route_op.cpp \
  -L . -lfdroute_c -Wl,-rpath,'$ORIGIN' -o libfdroute_onnxruntime.so
wait $llama
EOF
say "compiling with the engines' headers"
inside sh /fdroute/compile.sh

failed=0
check() { # the folder of an engine, and what its check takes
  engine=$1
  shift
  say "checking $engine"
  inside sh -c "cd /fdroute && python3 tests/engines/$engine/check.py $*" >"$work/work/$engine.rows" 2>"$here/$engine.log" || {
    tail -n 20 "$here/$engine.log" >&2
    failed=1
  }
}
check llama_cpp --program fdroute_llama --model $model --reference work --work work
check onnxruntime --library libfdroute_onnxruntime.so --model $model --reference work
check torch --library libfdroute_c.so --root . --reference work
say "checking reference/hf"
inside sh -c "cd /fdroute/reference/hf && python3 selfcheck.py && python3 adapt_selfcheck.py" >"$here/hf.log" 2>&1 || {
  tail -n 20 "$here/hf.log" >&2
  failed=1
}
inside sh -c "cd /fdroute/work && python3 ../tests/engines/report.py llama_cpp.rows onnxruntime.rows torch.rows" || failed=1
exit $failed
