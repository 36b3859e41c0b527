# Roots of Debian's suites, for tests/matrix, tests/engines and the packages' checks, which source this.

# Prints where this machine's apt gets Debian; nothing if it has no such source.
debian_mirror() {
  # shellcheck disable=SC2016 # names of apt's own
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' |
    sed -n 's/ Debian Debian$//p' | sed -n 1p
}

# make_root SUITE FOLDER MIRROR: a minimal root, which is there as a whole or not at all.
make_root() {
  rm -rf --one-file-system "$2.new"
  debootstrap --variant=minbase "$1" "$2.new" "$3" || return 1
  # What this machine's apt was told of proxies, dates and the like holds there, too.
  apt-config dump Acquire | grep -v '^Acquire::IndexTargets' >"$2.new/etc/apt/apt.conf.d/99machine"
  echo force-unsafe-io >"$2.new/etc/dpkg/dpkg.cfg.d/unsafe-io"  # it need not survive a power failure
  mv "$2.new" "$2"
}

# add_packages FOLDER PACKAGES...: installs in a root what it lacks of them.
add_packages() (
  root=$1
  shift
  missing=""
  for package in "$@"; do
    state=$(chroot "$root" dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=absent
    [ "$state" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  inside() { chroot "$root" env LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
  # shellcheck disable=SC2086 # one word per package
  inside dpkg --configure -a &&  # what an interrupted run left
    inside apt-get update &&
    inside apt-get install -y --no-install-recommends $missing
)

# What debootstrap and apt say when a thing cannot be downloaded.
offline='Failed to fetch|Unable to fetch|Temporary failure resolving|Could not (connect|resolve)'
offline="$offline|Failed getting release|Couldn.t download"
