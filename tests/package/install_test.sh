#!/bin/sh
# What a build installs: components that make up the whole, a prefix that can be moved, programs
# against it by pkg-config and by CMake, and nothing left after `uninstall`.
#   install_test.sh CMAKE SOURCE BUILD SCRATCH CC CXX
set -eu
cmake=$1 source=$2 build=$3 scratch=$4 cc=$5 cxx=$6
version=$(awk '/define FDROUTE_VERSION_/ { print $3 }' "$source/include/fdroute/version.hpp" |
  paste -sd .)
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch"

fail() {
  echo "install_test: $*" >&2
  exit 1
}
quietly() { "$@" >log 2>&1 || { cat log >&2; fail "$*"; }; }
files() { (cd "$1" && find . -type f -o -type l | sort); }
has() { [ -e "$1" ] || fail "$1 is missing"; }

# ---- Components ----
quietly "$cmake" --install "$build" --prefix "$PWD/whole"
mkdir manifests
cp "$build/install_manifest.txt" manifests/
for component in headers c tools docs; do
  quietly "$cmake" --install "$build" --prefix "$PWD/$component" --component $component
  files $component >>parts
done
files whole >whole.files
sort -u parts | cmp - whole.files || fail "the components are not the whole"
[ "$(find headers -name '*.so*' -o -name bin)" = "" ] || fail "headers: more than headers"
[ "$(find c -name '*.h*')" = c/include/fdroute/c_api.h ] || fail "c: not its one header"
has tools/bin/olmoe
has tools/share/man/man1/olmoe.1
has tools/share/bash-completion/completions/olmoe
has tools/share/zsh/vendor-completions/_olmoe
has tools/share/fish/vendor_completions.d/olmoe.fish
for component in headers c tools docs; do has $component/share/doc/fdroute/LICENSE; done
has docs/share/doc/fdroute/docs/quickstart.md

# ---- A prefix that was moved ----
mv whole moved
prefix=$PWD/moved
! grep -rIl "$scratch/whole" moved || fail "files name the prefix that they were installed to"
examples=$prefix/share/doc/fdroute/examples
c_prints="expert 1, weight 0.5839
expert 4, weight 0.3542"
sed -n '/^```text$/,/^```$/p' "$source/README.md" | sed '1d;/^```$/,$d' >readme.text
LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name 'libfdroute_c.so')")
export LD_LIBRARY_PATH

if command -v pkg-config >/dev/null; then
  PKG_CONFIG_PATH=$(find "$prefix" -name pkgconfig -printf '%p:')
  export PKG_CONFIG_PATH
  [ "$(pkg-config --modversion fdroute)" = "$version" ] || fail "fdroute.pc: another version"
  [ "$(pkg-config --modversion fdroute-c)" = "$version" ] || fail "fdroute-c.pc: another version"
  cp -r "$examples" by_make
  quietly make -C by_make CC="$cc" CXX="$cxx" CXXFLAGS=-O0
  ./by_make/example | cmp - readme.text || fail "the example prints something else than the README"
  [ "$(./by_make/example_c)" = "$c_prints" ] || fail "example.c prints $(./by_make/example_c)"
else
  echo "install_test: no pkg-config here, so fdroute.pc and fdroute-c.pc were not tried" >&2
fi

quietly "$cmake" -S "$examples" -B by_cmake -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx"
quietly "$cmake" --build by_cmake --target example_c
[ "$(./by_cmake/example_c)" = "$c_prints" ] || fail "example_c prints $(./by_cmake/example_c)"

# ---- Components of the CMake package ----
# asks NAME PREFIX COMPONENTS...: a project in C alone that asks for these, without xsimd.
asks() {
  mkdir "$1"
  echo "cmake_minimum_required(VERSION 3.25)
    project(asks LANGUAGES C)
    set(CMAKE_DISABLE_FIND_PACKAGE_xsimd TRUE)
    find_package(fdroute REQUIRED COMPONENTS $3)
    get_target_property(at fdroute::fdroute_c IMPORTED_LOCATION_NOCONFIG)" >"$1/CMakeLists.txt"
  "$cmake" -S "$1" -B "$1/build" -DCMAKE_PREFIX_PATH="$2" -DCMAKE_C_COMPILER="$cc" >"$1.log" 2>&1
}
asks c_alone "$PWD/c" c || { cat c_alone.log; fail "COMPONENTS c needs more than the component c"; }
! asks no_xsimd "$prefix" headers || fail "COMPONENTS headers does without xsimd"
grep -q "fdroute needs xsimd 8.1 or newer, found none" no_xsimd.log || fail "$(cat no_xsimd.log)"
! asks no_c "$PWD/headers" c || fail "COMPONENTS c is found where it is not"
grep -q "the C interface is not installed" no_c.log || fail "$(cat no_c.log)"
! asks unknown "$prefix" python || fail "an unknown component is found"
grep -q "no component 'python': there are headers and c" unknown.log || fail "$(cat unknown.log)"

# ---- Uninstall ----
mv moved whole
quietly "$cmake" -DBINARY_DIR="$PWD/manifests" -P "$source/reference/package/uninstall.cmake"
[ "$(files whole)" = "" ] || fail "uninstall left $(files whole)"
left=$(find whole -name '*fdroute*')
[ "$left" = "" ] || fail "uninstall left $left"
