#!/usr/bin/env bash
# Lets apt find Apptainer. A Debian release that has none gets unstable's, and of that suite nothing but this package: it
# needs glibc 2.38, so Debian 13 or newer. Run it after `apt-get update`.
set -euo pipefail

[ -z "$(apt-cache madison apptainer)" ] || exit 0
# From the mirror that this system uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | head -n 1)
cat >/etc/apt/sources.list.d/apptainer.sources <<EOF
Types: deb
URIs: $mirror
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
cat >/etc/apt/preferences.d/apptainer <<EOF
Package: *
Pin: release n=sid
Pin-Priority: -1

Package: apptainer
Pin: release n=sid
Pin-Priority: 500
EOF
apt-get update
