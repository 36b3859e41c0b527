#!/bin/sh
# Runs tests of the Python package that need a Python module, by a python3 that has it and numpy:
#   run.sh LIBRARY MODULE TESTS...
# Exit 77 if there is none.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
library=$1 module=$2
shift 2
for python in python3 /usr/bin/python3; do
  "$python" -c "import numpy, $module" 2>/dev/null || continue
  cd "$here"
  exec env FDROUTE_LIBRARY="$library" PYTHONPATH="$here/../../reference/python" \
    PYTHONDONTWRITEBYTECODE=1 "$python" -m unittest "$@"
done
echo "skipped: no python3 here has numpy and $module" >&2
exit 77
