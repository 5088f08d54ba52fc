#!/bin/sh
# sh install.sh FOLDER [ROLE]: verify this archive, then install ROLE into the new FOLDER. Needs Python 3.11 with venv
# (PYTHON names it) and no network. ROLE: embedded (default: everything one machine needs, with a private Redis),
# service, gateway, worker-cpu or training.
set -eu

[ $# -ge 1 ] || { echo "usage: sh install.sh FOLDER [embedded|service|gateway|worker-cpu|training]" >&2; exit 2; }
role=${2:-embedded}
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$1" ] || { echo "$1 is there already; each version has a folder of its own" >&2; exit 2; }
[ -f "$here/requirements/$role.txt" ] || { echo "no such role: $role" >&2; exit 2; }

echo "Verifying ..."
(cd "$here" && sha256sum --check --strict --quiet SHA256SUMS) || { echo "the archive is damaged; nothing was done" >&2; exit 1; }

echo "Installing $role into $1 ..."
"${PYTHON:-python3.11}" -m venv "$1"
# pip asks no index and heeds no setting of this machine; a wheel with another hash than the list's is refused
PIP_CONFIG_FILE=/dev/null "$1/bin/pip" --isolated --disable-pip-version-check install --quiet --no-cache-dir \
  --no-index --find-links "$here/wheels" --require-hashes -r "$here/requirements/$role.txt"
"$1/bin/pip" --disable-pip-version-check check

# bundles lie beside the packages, as in the images; REACQUIRE_BUNDLE or --bundle names others
cp -R "$here/bundles" "$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
echo "Done: $1/bin. docs/operations.md, section Air-gap, says how to go on."
