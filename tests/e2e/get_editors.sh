#!/usr/bin/env bash
# Unpacks newer editors than the system's from Debian's newest packages, for the tests; nothing is
# installed and no root is needed.
#
# usage: get_editors.sh nvim|hx...
# They become $QCODER_EDITORS/sid/wrap/nvim and .../hx; those that are there already are left alone.
# This nvim has no window of its own (it would start itself without its loader): --embed, --headless.
# QCODER_DEBIAN_MIRROR names another archive than deb.debian.org.
set -euo pipefail

home=${QCODER_EDITORS:-${XDG_CACHE_HOME:-$HOME/.cache}/qcoder-editors}/sid
mirror=${QCODER_DEBIAN_MIRROR:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

packages=()
for editor in "$@"; do
    case $editor in
        nvim) package=neovim ;;
        hx) package=hx ;;
        *) echo "get_editors.sh: nvim or hx, not '$editor'" >&2; exit 2 ;;
    esac
    [ -x "$home/wrap/$editor" ] || packages+=("$package")
done
[ ${#packages[@]} -gt 0 ] || exit 0

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || {
        echo "get_editors.sh unpacks Debian packages and needs $tool (Debian, Ubuntu)." >&2
        echo "Elsewhere name your own editors: QCODER_NVIM=..., QCODER_NVIM_OLD=..., QCODER_HX=..." >&2
        exit 2
    }
done
[ -r "$keys" ] || { echo "get_editors.sh needs Debian's keys: apt-get install debian-archive-keyring" >&2; exit 2; }

# An apt of our own: it knows one archive, believes that nothing is installed, so that every library
# comes along, and keeps to this folder.
state=$home/.apt
mkdir -p "$state/lists/partial" "$state/archives/partial" "$home/wrap"
: > "$state/status"
echo "deb [signed-by=$keys] $mirror sid main" > "$state/sources.list"
cat > "$state/apt.conf" <<CONF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache::archives "$state/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
CONF
echo "Unpacking ${packages[*]} from $mirror into $home" >&2
export APT_CONFIG=$state/apt.conf
apt-get -qq update
apt-get -qq -y --download-only install "${packages[@]}" >&2
for file in "$state"/archives/*.deb; do
    dpkg-deb --extract "$file" "$home"
done
rm -f "$state"/archives/*.deb

# The programs run with the loader and the libraries that they were built with.
loader=$(find "$home/usr/lib" "$home/usr/lib64" -name 'ld-linux*.so.*' 2>/dev/null | head -n 1)
libraries=$(dirname "$(find "$home/usr/lib" -name 'libc.so.6' | head -n 1)")
for editor in "$@"; do
    # Its parsers lie where the package wants to be installed.
    options=""
    [ "$editor" = nvim ] && options="--cmd 'set runtimepath+=$home/usr/lib/nvim'"
    cat > "$home/wrap/$editor" <<WRAP
#!/bin/sh
export VIM='$home/usr/share/nvim' VIMRUNTIME='$home/usr/share/nvim/runtime'
export HELIX_RUNTIME='$home/usr/lib/hx/runtime'
exec '$loader' --library-path '$libraries' '$home/usr/bin/$editor' $options "\$@"
WRAP
    chmod +x "$home/wrap/$editor"
done
