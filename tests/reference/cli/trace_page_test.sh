#!/bin/sh
# Opens a page of `olmoe trace` in a headless Chromium and runs trace_page_test.js in it:
#   trace_page_test.sh OLMOE MODEL SCRATCH
# Exit 77 if there is no Chromium.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
olmoe=$1 model=$2 scratch=$3
for browser in chromium chromium-browser google-chrome ""; do
  command -v "$browser" >/dev/null 2>&1 && break
done
[ -n "$browser" ] || { echo "skipped: there is no Chromium here" >&2; exit 77; }
rm -rf "$scratch"
mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)
"$olmoe" trace -m "$model" -p 'In the beginning God created' --route bh:alpha=0.05,min_k=1,max_k=16 --route native \
  -o "$scratch/trace.html"
{ cat "$scratch/trace.html"; echo "<script>"; cat "$here/trace_page_test.js"; echo "</script>"; } >"$scratch/page.html"
HOME=$scratch "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$scratch/profile" --dump-dom \
  "file://$scratch/page.html" >"$scratch/dom.html" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
grep -q "<title>the page is as it must be</title>" "$scratch/dom.html" || {
  sed -n "s|^<title>\(.*\)</title>.*|\1|p" "$scratch/dom.html" | cut -c1-2000 >&2
  exit 1
}
