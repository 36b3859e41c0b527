#!/bin/sh
# fdroute in the packages of llama.cpp, ONNX Runtime and PyTorch that Debian unstable has, each beside
# the reference `olmoe`: ./bootstrap engines
#
# Makes a root of Debian unstable, build/roots/sid, from where this machine's apt gets Debian, compiles
# there what needs the engines' headers, and runs each engine's check in it. The last lines are a
# table and what it took; the exit status is 0 if every difference in it is within its tolerance, 77 if the
# packages cannot be had ("SKIPPED:", with the words of debootstrap or apt), and 1 otherwise.
set -eu
cd "$(dirname "$0")/../.."
name=engines
here=build/engines
. tests/sid_root.sh

packages="g++ nlohmann-json3-dev libxsimd-dev libllama-dev libggml-dev python3-numpy python3-safetensors
  libonnxruntime-dev python3-onnxruntime python3-torch libtorch-dev python3-transformers"
model=reference/model
olmoe=build/release/reference/olmoe

# ---- The root, while the reference is being built ----

mkdir -p $here
(
  cmake --preset release
  cmake --build build/release --target olmoe fdroute_c
) >$here/build.log 2>&1 &
build=$!

# shellcheck disable=SC2086 # one word per package
open_sid $packages

say "building olmoe and the C library"
wait $build || {
  tail -n 40 $here/build.log >&2
  exit 1
}

work=$root/fdroute
rm -rf --one-file-system "$work"
mkdir -p "$work/tests/data" "$work/work"
cp -a include reference "$work/"
cp -a tests/engines "$work/tests/"
cp -a tests/data/tiny "$work/tests/data/"
cp -aL build/release/reference/c_api/libfdroute_c.so* "$work/"

# ---- What the reference says, while the engines' programs are compiled ----

cat >"$work/compile.sh" <<'EOF'
set -eu
cd /fdroute
flags="-std=c++20 -O1 -I include"
g++ $flags -fPIC -shared -isystem /usr/include/onnxruntime tests/engines/onnxruntime/route_op.cpp \
  -L . -lfdroute_c -Wl,-rpath,'$ORIGIN' -o libfdroute_onnxruntime.so
g++ $flags -I reference tests/engines/llama_cpp/main.cpp tests/engines/llama_cpp/routing_hook.cpp \
  reference/formats/json.cpp reference/formats/mapped_file.cpp reference/formats/regular_file.cpp \
  reference/formats/safetensors.cpp reference/formats/tensor.cpp reference/routing/nulls.cpp \
  -lllama -lggml -lggml-base -o fdroute_llama
EOF
say "compiling with the engines' headers"
inside sh /fdroute/compile.sh &
compiling=$!

for text in $model/text/*.txt; do
  head -n 12 "$text"
done >$here/text.txt
$olmoe tokenize --model $model --file $here/text.txt >"$work/work/ids.json"
grep -v '^#' tests/engines/policies.txt | while IFS="$(printf '\t')" read -r name policy; do
  [ "$name" != native ] || policy=native
  $olmoe perplexity --threads 1 --model $model --text $here/text.txt --window 512 --route "$policy" \
    >"$work/work/$name.perplexity"
  $olmoe logits --threads 1 --model $model --ids $model/capture.safetensors --route "$policy" \
    --out "$work/work/$name.safetensors"
done
say "the reference's perplexities and logits are there"
wait $compiling

# ---- The engines, llama.cpp beside those in Python ----

check() { # the folder of an engine, and what its check takes
  engine=$1
  shift
  say "checking $engine"
  inside sh -c "cd /fdroute && python3 tests/engines/$engine/check.py $*" >"$work/work/$engine.rows" 2>"$here/$engine.log" || {
    tail -n 20 "$here/$engine.log" >&2
    return 1
  }
}
check_python() {
  status=0
  check onnxruntime --library libfdroute_onnxruntime.so --model $model --reference work || status=1
  check torch --library libfdroute_c.so --root . --reference work || status=1
  say "checking reference/hf"
  inside sh -c "cd /fdroute/reference/hf && python3 selfcheck.py && python3 adapt_selfcheck.py" >"$here/hf.log" 2>&1 || {
    tail -n 20 "$here/hf.log" >&2
    status=1
  }
  return $status
}
failed=0
check llama_cpp --program fdroute_llama --model $model --reference work --work work &
llama=$!
check_python || failed=1
wait $llama || failed=1
inside sh -c "cd /fdroute/work && python3 ../tests/engines/report.py llama_cpp.rows onnxruntime.rows torch.rows" || failed=1
times >"$work/times"  # here: a subshell has children of its own
say "done, in $(sed -n '2s/[.][0-9]*s/s/gp' "$work/times") of processor time (user and system)"
exit $failed
