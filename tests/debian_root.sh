# Roots of Debian's suites, for tests/matrix/matrix.sh and tests/engines/run.sh, which source this.

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
