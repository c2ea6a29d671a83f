#!/usr/bin/env bash
# Installs Debian's own Apptainer where the release is too old for it: apptainer.sh
# Root on Debian. The package is of Debian's unstable release, the only one that has it; all that keeps it from running on
# glibc 2.36 are two functions with a new name (older_glibc.py), so it is made anew with their former names. Everything
# that it depends on comes from this release, and `apt-get purge apptainer` takes it away again. Nothing is added to the
# lists and sources of this host's apt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

# udev lets every account mount by FUSE, as an ordinary user's Apptainer does with an image; where there is no udev, the
# device is root's alone.
[ ! -c /dev/fuse ] || [ -d /run/udev ] || chmod 666 /dev/fuse
! apptainer --version >/dev/null 2>&1 || exit 0

mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | head -n 1)}
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian here; name one: DEBIAN_MIRROR=http://…/debian/" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"

# An apt of its own, which knows the unstable release alone.
mkdir -p "$folder"/{lists/partial,cache/archives/partial,parts}
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$mirror" >"$folder/sources.list"
unstable=(-o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts="$folder/parts"
  -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o Acquire::Languages=none
  -o APT::Sandbox::User=root -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success=)
apt-get -qq "${unstable[@]}" update </dev/null
(cd "$folder" && apt-get -qq "${unstable[@]}" download apptainer </dev/null)
package=$(echo "$folder"/apptainer_*.deb)

if dpkg --compare-versions "$(dpkg-query -W -f '${Version}' libc6)" lt 2.38; then
  dpkg-deb --raw-extract "$package" "$folder/unpacked"
  python3 "$here/older_glibc.py" "$folder/unpacked" >&2
  package=$folder/apptainer.deb
  dpkg-deb --root-owner-group -Zgzip -z1 --build "$folder/unpacked" "$package" >/dev/null
fi
# For an ordinary user: squashfuse mounts an image, uidmap lets one be built.
apt-get -qq install --yes --no-install-recommends "$package" squashfuse fuse3 uidmap squashfs-tools </dev/null >/dev/null
