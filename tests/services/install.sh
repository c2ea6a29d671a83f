#!/usr/bin/env bash
# Installs the system packages that the tests and the demo use: install.sh [package ...]
# As root on Debian, what is missing is installed; anywhere else, it is named. Quick when all is there.
set -euo pipefail

# The command that shows a package to be there; server binaries are not on Debian's PATH.
declare -A proof=(
  [postgresql]='ls /usr/lib/postgresql/*/bin/initdb || command -v initdb'
  [gdal-bin]='command -v gdal_contour'
  [debootstrap]='ls /usr/sbin/debootstrap'
  [munge]='ls /usr/sbin/munged'
  [slurm-client]='command -v sbatch'
  [slurmctld]='ls /usr/sbin/slurmctld'
  [slurmd]='ls /usr/sbin/slurmd'
  [slurmdbd]='ls /usr/sbin/slurmdbd'
  [slurm-wlm-basic-plugins]='ls /usr/lib/*/slurm*/select_cons_tres.so'
  [slurm-wlm-mysql-plugin]='ls /usr/lib/*/slurm*/accounting_storage_mysql.so'
  [mariadb-server]='ls /usr/sbin/mariadbd'
)
# A Slurm with accounting. Where Debian would start its daemons, the tests' own ones still have their own ports.
slurm=(munge slurm-client slurmctld slurmd slurmdbd slurm-wlm-basic-plugins slurm-wlm-mysql-plugin mariadb-server)

[ $# -gt 0 ] || set -- postgresql gdal-bin "${slurm[@]}"

missing=()
for package in "$@"; do
  if [ -z "${proof[$package]:-}" ]; then
    echo "install.sh does not know the package «$package»; it knows: ${!proof[*]}" >&2
    exit 2
  fi
  bash -c "${proof[$package]}" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update </dev/null
  apt-get -qq install --yes --no-install-recommends "${missing[@]}" </dev/null
else
  echo "Not installed here: ${missing[*]} (Debian's names of the packages)."
  echo "Tests that need them are skipped; on Debian: sudo apt-get install ${missing[*]}"
fi
