#!/usr/bin/env bash
# sphinx-gallery 0.22.1 (with Sphinx 9.0.4): two pages of a site that needs nobody else ask three hosts.
#
# The page of computing times, which is made for each gallery and for all together unasked, loads style sheets and scripts
# of jQuery, Bootstrap and DataTables from their hosts; without a network its table cannot be sorted. Whether it is made
# hangs on the environment: with SOURCE_DATE_EPOCH set, as in a reproducible build, it is not, so that two builds of the
# same sources have different pages. `write_computation_times = False` in the settings leaves it out.
# Seen with Python 3.11.7.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check sphinx==9.0.4 sphinx-gallery==0.22.1 matplotlib==3.11.2
mkdir -p site/examples
cat > site/conf.py <<'EOF'
extensions = ["sphinx_gallery.gen_gallery"]
sphinx_gallery_conf = {"examples_dirs": "examples", "gallery_dirs": "gallery", "filename_pattern": r"\.py$"}
EOF
printf 'A site\n======\n\n.. toctree::\n\n   gallery/index\n' > site/index.rst
printf 'Examples\n========\n' > site/examples/GALLERY_HEADER.rst
printf '"""\nOne\n===\n"""\n\nprint(1)\n' > site/examples/one.py
for epoch in "" 1700000000; do
  rm -rf out site/gallery site/sg_execution_times.rst
  env -u SOURCE_DATE_EPOCH ${epoch:+SOURCE_DATE_EPOCH=$epoch} venv/bin/python -m sphinx -q -b html site out > log 2>&1
  echo "SOURCE_DATE_EPOCH=$epoch"
  (cd out && grep -rloE '(src|href)="https://(cdn|code)[^"]*"' --include='*.html' . | sort || true)
  (cd out && grep -rhoE '(src|href)="https://(cdn|code)[^/"]*' --include='*.html' . | sed 's/.*"//' | sort -u || true)
done | tee found
diff found - <<'EOF'
SOURCE_DATE_EPOCH=
./gallery/sg_execution_times.html
./sg_execution_times.html
https://cdn.datatables.net
https://cdnjs.cloudflare.com
https://code.jquery.com
SOURCE_DATE_EPOCH=1700000000
EOF
