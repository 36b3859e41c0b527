# A root of Debian unstable with some packages in it, build/roots/sid, for tests/engines and
# bench/peers, which source this from the root folder after setting `name`, by which messages begin,
# and `here`, a folder for logs. Who is not root ends here.
. tests/debian_root.sh

root=build/roots/sid
start=$(date +%s)

if [ "$(id -u)" != 0 ]; then
  echo "$name: root is needed, to make a root folder of Debian unstable in $root and to enter it" >&2
  exit 1
fi

say() {
  echo "$name: $(($(date +%s) - start)) s: $*"
}

# skip WHAT LOG: ends with 77 and the words of the log's end.
skip() {
  echo "SKIPPED: $name: $1"
  if grep -q -E '^(E|Err):' "$2"; then grep -E '^(E|Err):' "$2"; else tail -n 5 "$2"; fi
  exit 77
}

inside() {
  chroot "$root" env LC_ALL=C.UTF-8 HOME=/tmp OMP_NUM_THREADS=1 "$@"
}

# open_sid PACKAGES...: makes the root if there is none, installs what it lacks of the packages, and
# mounts /dev and /proc there until the script ends. Exits with 77 if the packages cannot be had.
open_sid() {
  mkdir -p "$here" build/roots
  trap close_sid EXIT
  trap 'exit 1' INT TERM HUP
  if [ ! -d "$root" ]; then
    url=$(debian_mirror)
    if [ -z "$url" ]; then
      echo "SKIPPED: $name: apt on this machine has no source of Debian"
      exit 77
    fi
    say "debootstrap of Debian unstable"
    make_root sid "$root" "$url" >"$here/debootstrap.log" 2>&1 ||
      skip "debootstrap failed" "$here/debootstrap.log"
  fi
  mount --bind /dev "$root/dev"
  mount -t proc proc "$root/proc"

  # A Python module is compiled when it is first imported: of most of these packages' none ever is.
  printf '#!/bin/sh\n' >"$root/usr/local/bin/py3compile"
  chmod +x "$root/usr/local/bin/py3compile"
  echo 'DPkg::Path "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";' >"$root/etc/apt/apt.conf.d/98path"
  say "installing what is missing of: $*"
  add_packages "$root" "$@" >"$here/apt.log" 2>&1 || skip "apt-get failed" "$here/apt.log"
}

close_sid() {
  wait || true
  umount "$root/proc" 2>/dev/null || true
  umount "$root/dev" 2>/dev/null || true
}
