#!/bin/sh
# Builds the Debian packages and the .tar.gz of fdroute into build/package/:
#   reference/package/package.sh          here, with what is installed
#   reference/package/package.sh clean    in a new root of Debian 12, which needs root
# DEBFULLNAME and DEBEMAIL name the packages' maintainer. DEB_BUILD_OPTIONS=parallel=N is followed.
set -eu
cd "$(dirname "$0")/../.."
out=$PWD/build/package
number() { sed -n "s/^#define FDROUTE_VERSION_$1 //p" include/fdroute/version.hpp; }
soversion=$(number MAJOR).$(number MINOR)
version=$soversion.$(number PATCH)
maintainer="${DEBFULLNAME:-The fdroute authors} <${DEBEMAIL:-fdroute@fdroute.invalid}>"

rm -rf --one-file-system "$out"
mkdir -p "$out"

# The source, with a debian/ of its own.
tree=$out/fdroute-$version
mkdir "$tree"
if git rev-parse --git-dir >/dev/null 2>&1; then
  git ls-files -z --cached --others --exclude-standard
else
  find . -path ./build -prune -o -type f -print0
fi | tar --null -T - -c --ignore-failed-read 2>/dev/null | tar -x -C "$tree"
cp -r reference/package/debian "$tree/debian"
mkdir -p "$tree/debian/source"
echo "3.0 (native)" >"$tree/debian/source/format"
cat >"$tree/debian/changelog" <<END
fdroute ($version) unstable; urgency=medium

  * What changed is in CHANGELOG.md.

 -- $maintainer  $(date -R)
END
sed -i "s/@SOVERSION@/$soversion/; s/@MAINTAINER@/$maintainer/" "$tree/debian/control"
copyright=$(sed -n 's/^Copyright (c) //p' LICENSE)
sed '1,/^Copyright/d; /./!s/^/./; s/^/ /' LICENSE | sed 1d >"$out/licence"
sed -i "s/@COPYRIGHT@/$copyright/; /@LICENSE@/{r $out/licence
d}" "$tree/debian/copyright"
rm "$out/licence"
mv "$tree/debian/libfdroute-c.install" "$tree/debian/libfdroute-c$soversion.install"

# In the tree: the packages beside it, then the .tar.gz from the same objects.
cat >"$out/build.sh" <<'END'
set -eu
cd "$1"
dpkg-buildpackage -b -us -uc
cmake -S . -B obj-* -DCMAKE_INSTALL_PREFIX=/usr/local -DCMAKE_INSTALL_LIBDIR=lib \
  -DCMAKE_INSTALL_SYSCONFDIR=etc -DCMAKE_INSTALL_LOCALSTATEDIR=var \
  -DCMAKE_INSTALL_DOCDIR=share/doc/fdroute >/dev/null
cpack --config obj-*/CPackConfig.cmake -B ..
rm -rf ../_CPack_Packages
lintian --fail-on error,warning --info ../*.changes
END

if [ "${1-}" = clean ]; then
  . tests/debian_root.sh
  root=$out/root
  make_root bookworm "$root" "$(debian_mirror)"
  trap 'umount "$root/proc" 2>/dev/null || true' EXIT
  mount -t proc proc "$root/proc"
  needed=$(sed -n '/^Build-Depends:/,/^[^ B]/p' "$tree/debian/control" | sed '$d; s/^Build-Depends://; s/,$//; s/debhelper-compat.*/debhelper/; s/dh-sequence-python3/dh-python/; s/(.*)//')
  chroot "$root" apt-get update -qq
  # shellcheck disable=SC2086 # one word per package
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends build-essential lintian $needed >"$out/apt.log" 2>&1 || {
    cat "$out/apt.log" >&2
    exit 1
  }
  mkdir "$root/build"
  mv "$tree" "$root/build/"
  cp "$out/build.sh" "$root/build/"
  chroot "$root" env LC_ALL=C.UTF-8 DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS-}" \
    sh /build/build.sh "/build/fdroute-$version"
  mv "$root"/build/*.deb "$root"/build/*.tar.gz "$root"/build/*.changes "$root"/build/*.buildinfo "$out/"
  umount "$root/proc"
  trap - EXIT
  rm -rf --one-file-system "$root" "$out/apt.log"
else
  sh "$out/build.sh" "$tree"
fi
rm "$out/build.sh"
ls -l "$out"
