#!/bin/sh
# Installs the judges that come by npm, and the Node that they need, into tests/node/node_modules, once for each
# lock file. Where that can't be done the tests that need them say so when they are skipped.
set -eu
cd "$(dirname "$0")/node"
if cmp -s package-lock.json node_modules/.installed; then exit 0; fi
command -v npm >/dev/null || { echo "npm is not there: what needs the MCP judges is skipped" >&2; exit 0; }
echo "installing the MCP judges …" >&2
rm -f node_modules/.installed
if npm ci >/dev/null; then
    cp package-lock.json node_modules/.installed
else
    echo "the MCP judges can't be installed: what needs them is skipped" >&2
fi
