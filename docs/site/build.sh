#!/bin/sh
# Builds the documentation site into build/docs/html, from the pages and the headers alone, without network:
#   docs/site/build.sh [FOLDER]    FOLDER: in the place of build/docs
set -eu
cd "$(dirname "$0")/../.."
out=${1:-build/docs}
tree=$out/tree
rm -rf "$tree" "$out/html"
mkdir -p "$tree"
for entry in README.md CONTRIBUTING.md CHANGELOG.md LICENSE CITATION.cff bootstrap CMakeLists.txt CMakePresets.json \
  .ci bench docs include reference tests; do
  ln -s "$PWD/$entry" "$tree/"
done
python=/usr/bin/python3  # the one that Debian's Sphinx is installed for
[ -x "$python" ] || python=python3
"$python" docs/site/api.py include "$tree/api"
# Every warning is an error: a link that leads nowhere, a page that is not in the contents.
"$python" -m sphinx -b html -q -W --keep-going -c docs/site -d "$out/doctrees" "$tree" "$out/html"
# Debian's furo takes this file from where Debian's web servers have it.
css=$out/html/_static/styles/furo.css
normalize=javascript/normalize.css/normalize.css
if grep -q "/$normalize" "$css"; then
  cp -L "/usr/share/$normalize" "$out/html/_static/styles/"
  sed -i "s|/$normalize|normalize.css|" "$css"
fi
cat >"$out/html/index.html" <<'END'
<!doctype html><meta http-equiv="refresh" content="0; url=README.html"><title>fdroute</title>
<a href="README.html">fdroute</a>
END
# Nothing is loaded from elsewhere.
loaded='(src|href)="?(https?:)?//[^"]*\.(js|css|svg|png|woff2?)|url\(.?(https?:)?//|@import url\(/'
if grep -rnE "$loaded" "$out/html"; then
  echo "docs/site/build.sh: a page loads a file from elsewhere" >&2
  exit 1
fi
echo "$out/html/index.html"
