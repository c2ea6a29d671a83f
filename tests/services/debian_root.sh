#!/usr/bin/env bash
# Makes a folder with another Debian release and its Slurm: debian_root.sh <suite> <folder>
# Once made, it is kept. Root only; needs debootstrap. What is mounted while it is being made is seen by this program
# alone, and is gone with it however it ends.
set -euo pipefail

suite=$1 folder=$2 draft="$2.part"
[ -e "$folder" ] && exit 0
[ -n "${OWN_MOUNTS:-}" ] || OWN_MOUNTS=1 exec unshare --mount --propagation=private "$0" "$@"

# Where this host gets Debian from: as its apt is configured, unless DEBIAN_MIRROR says otherwise.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | head -n 1)}
if [ -z "$mirror" ]; then
  echo "apt knows no mirror of Debian here; name one: DEBIAN_MIRROR=http://…/debian/" >&2
  exit 1
fi

echo "making $folder: Debian $suite and its Slurm (about a gigabyte, some minutes; once)"
rm -rf --one-file-system "$draft"
mkdir -p "$draft"
log=$(mktemp)
trap 'code=$?; [ $code = 0 ] || tail -n 30 "$log" >&2; rm -f "$log"' EXIT
debootstrap --variant=minbase --include=ca-certificates "$suite" "$draft" "$mirror" >>"$log" 2>&1

cp /etc/resolv.conf /etc/hosts "$draft/etc/"
apt-config dump | grep -E '^Acquire::(https?|Retries|Check-)' >"$draft/etc/apt/apt.conf.d/00host" || true
printf '#!/bin/sh\nexit 101\n' >"$draft/usr/sbin/policy-rc.d" # no daemon of it starts by itself
chmod 755 "$draft/usr/sbin/policy-rc.d"
mount -t proc proc "$draft/proc"
mount --bind /dev "$draft/dev"
inside() {
  chroot "$draft" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" \
    </dev/null >>"$log" 2>&1
}
inside apt-get update
inside apt-get install --yes --no-install-recommends munge slurm-client slurmctld slurmd slurmdbd \
  slurm-wlm-basic-plugins slurm-wlm-mysql-plugin mariadb-server python3 procps
inside apt-get clean
umount "$draft/dev" "$draft/proc"
mv "$draft" "$folder"
