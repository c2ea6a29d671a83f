#!/usr/bin/env bash
# Installs the system packages that the tests and the demo use: install.sh [package ...]
# As root on Debian, what is missing is installed; anywhere else, it is named. Quick when all is there. What a release does
# not have is named, too: the tests that need it say so.
#
# What it leaves on the host: the installed packages; what it has unpacked, in /usr/local/lib/wps-hpc-tests; the link
# /usr/lib/gridengine into that; and /dev/fuse for all accounts, as udev has it. Before Grid Engine itself is installed
# there, remove the first two: dpkg would follow the link.
set -euo pipefail

# Where packages are unpacked that are not installed: installed, they would start daemons, bring a mail server along, and
# keep each other away (both have a qsub).
unpacked=/usr/local/lib/wps-hpc-tests

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
  [gridengine]='ls /usr/lib/gridengine/{sge_qmaster,sge_execd,qsub,qstat,libspoolc.so} /usr/lib/*/libjemalloc.so.2'
  [slurm-wlm-torque]="ls $unpacked/slurm-wlm-torque/usr/bin/qsub"
  [apptainer]='apptainer --version && [[ $(stat -c %a /dev/fuse) == *6 ]]'
  [openssh-server]="(ls /usr/sbin/sshd || ls $unpacked/openssh-server/usr/sbin/sshd) && command -v ssh ssh-keygen"
  [podman]='ls /usr/bin/{podman,newuidmap} /usr/sbin/{runc,iptables} /usr/lib/podman/{netavark,aardvark-dns}'
  [mmdebstrap]='command -v mmdebstrap'
  [zsh]='command -v zsh'
  [tcsh]='command -v tcsh'
  [fish]='command -v fish'
  [ksh]='command -v ksh'
)
# A Slurm with accounting. Where Debian would start its daemons, the tests' own ones still have their own ports.
slurm=(munge slurm-client slurmctld slurmd slurmdbd slurm-wlm-basic-plugins slurm-wlm-mysql-plugin mariadb-server)

[ $# -gt 0 ] || set -- postgresql gdal-bin "${slurm[@]}" gridengine slurm-wlm-torque apptainer podman openssh-server mmdebstrap zsh tcsh fish ksh
# What is unpacked for one name, and what is installed for it.
declare -A unpacks=(
  [gridengine]='gridengine-master gridengine-exec gridengine-client gridengine-common gridengine-drmaa1.0'
  [slurm-wlm-torque]='slurm-wlm-torque libslurm-perl libslurmdb-perl libswitch-perl libslurm38'
  [openssh-server]='openssh-server openssh-sftp-server'
)
declare -A needs=(
  [gridengine]='libmunge2 libhwloc15 libjemalloc2 libtirpc3 gcc libc6-dev'
  [slurm-wlm-torque]='perl'
  # Its own choice, crun, does not run where both versions of control groups are mounted; the rest is its network.
  [podman]='podman runc uidmap netavark aardvark-dns iptables'
  [openssh-server]='openssh-client libwrap0'
)
# What is more than a package of this release has a program of its own beside this one.
declare -A program=([apptainer]=apptainer.sh)

missing=()
for package in "$@"; do
  if [ -z "${proof[$package]:-}" ]; then
    echo "install.sh does not know the package «$package»; it knows: ${!proof[*]}" >&2
    exit 2
  fi
  bash -c "${proof[$package]}" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

# Each step by «&&»: called with «||», a function goes on after an error.
unpack() {
  local drafts file own
  read -ra own <<<"${unpacks[$1]}"
  drafts=$(mktemp -d) && chmod 755 "$drafts" &&
    (cd "$drafts" && apt-get -qq -o APT::Sandbox::User=root download "${own[@]}" </dev/null) &&
    mkdir -p "$unpacked/$1" &&
    for file in "$drafts"/*.deb; do dpkg-deb --extract "$file" "$unpacked/$1" || return; done &&
    rm -r "$drafts"
}

add() {
  local own
  if [ "$1" = gridengine ] && [ -e /usr/lib/gridengine ] && [ ! -L /usr/lib/gridengine ]; then
    echo "This host has a part of Grid Engine, beside which nothing is unpacked; install: ${unpacks[$1]}" >&2
    return 1
  fi
  if [ -n "${program[$1]:-}" ]; then
    bash "$(dirname "$0")/${program[$1]}"
    return
  fi
  read -ra own <<<"${needs[$1]:-$1}"
  apt-get -qq install --yes --no-install-recommends "${own[@]}" </dev/null || return
  [ -z "${unpacks[$1]:-}" ] || unpack "$1" || return
  # The place of its libraries is compiled into Grid Engine.
  [ "$1" != gridengine ] || [ -e /usr/lib/gridengine ] ||
    ln -s "$unpacked/gridengine/usr/lib/gridengine" /usr/lib/gridengine
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update </dev/null || echo "The lists of packages are not new." >&2
  for package in "${missing[@]}"; do
    add "$package" || echo "Could not be had here: $package. Tests that need it are skipped, or fail and say so." >&2
  done
else
  echo "Not installed here: ${missing[*]}. Tests that need them are skipped; on Debian, run as root: make services"
fi
