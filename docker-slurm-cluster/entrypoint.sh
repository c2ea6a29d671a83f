#!/usr/bin/env bash
# What one container of the cluster does:
#   cluster ROLE           start that role's daemons and stay with them; when one ends, so does the container
#   cluster healthy ROLE   whether it does its work
# Roles: slurmdbd, slurmctld, slurmd, login, postgres, wps. Whatever must not be in an image (keys, databases, folders)
# is made here when it is not there yet, in the volumes of compose.yaml. Daemons wait for each other by themselves.
set -euo pipefail

patience=${PATIENCE:-180}
accounting=/var/lib/mysql
database=/var/lib/postgresql/data
postgresql=$(echo /usr/lib/postgresql/*/bin)
# The server's way into its database: written by `postgres`, read by `wps`.
pgpass=/run/database/pgpass
ssh_keys=/etc/ssh/keys

say() { echo "cluster: $*"; }

# Whether something listens there.
listens() { (: <"/dev/tcp/$1/$2") 2>/dev/null; }

# Wait until a command succeeds, but not for ever: await_that WHAT COMMAND [ARGUMENT ...]
await_that() {
  local what=$1 deadline=$((SECONDS + patience))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ]; then
      say "$what: not there after $patience s" >&2
      return 1
    fi
    sleep 0.3
  done
}

as() {
  local account=$1
  shift
  HOME=$(home_of "$account") setpriv --reuid="$account" --regid="$account" --init-groups -- "$@"
}

home_of() { getent passwd "$1" | cut -d: -f6; }

# What is kept in mind must be the daemon itself, not a shell around it: signals are meant for the daemon.
daemons=()
start_as() {
  local account=$1
  shift
  HOME=$(home_of "$account") setpriv --reuid="$account" --regid="$account" --init-groups -- "$@" &
  daemons+=($!)
}

# Stay until a daemon ends or the container is to stop; then end the others.
stay() {
  trap 'say stopping' TERM INT
  local code=0
  wait -n "${daemons[@]}" || code=$?
  trap '' TERM INT
  kill -TERM "${daemons[@]}" 2>/dev/null || true
  wait "${daemons[@]}" || true
  return "$code"
}

# --- what every cluster makes for itself ----------------------------------------------------------------------------

# The first container that comes makes the key, whole or not at all; all others find it.
make_munge_key() {
  local draft
  chown munge:munge /etc/munge
  chmod 700 /etc/munge
  draft=$(mktemp -p /etc/munge)
  head -c 128 /dev/urandom >"$draft"
  chown munge:munge "$draft"
  ln "$draft" /etc/munge/munge.key 2>/dev/null || true
  rm "$draft"
}

start_munge() {
  make_munge_key
  install -d -o munge -g munge /run/munge
  install -d -o slurm -g slurm /run/slurm
  start_as munge munged --foreground
  await_that munged test -S /run/munge/munge.socket.2
}

# /shared is what the file system of a site is: under the same path on every host of the cluster.
make_home() {
  install -d -m 755 /shared/home
  [ -d /shared/home/wps ] || install -d -m 700 -o wps -g wps /shared/home/wps
}

make_ssh_keys() {
  install -d -m 755 "$ssh_keys"
  for name in host wps; do
    [ -e "$ssh_keys/$name" ] || ssh-keygen -q -t ed25519 -N '' -C "$name of the cluster in containers" -f "$ssh_keys/$name"
  done
}

# --- the roles ------------------------------------------------------------------------------------------------------

# MariaDB beside it answers on a socket within this container, and believes the account slurm by that.
run_slurmdbd() {
  install -d -o slurm -g slurm "$accounting" /run/mysqld
  if [ ! -d "$accounting/mysql" ]; then
    say "making the accounting database"
    as slurm mariadb-install-db --no-defaults --datadir="$accounting" --skip-test-db \
      --auth-root-authentication-method=socket --auth-root-socket-user=slurm >/dev/null
  fi
  start_as slurm mariadbd --no-defaults --datadir="$accounting" --socket=/run/mysqld/mysqld.sock --skip-networking \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-snapshot-isolation=OFF --skip-log-bin
  # slurmdbd 24.11 would make its database, but not with MariaDB 11.8's library, which fails after a refused connection.
  await_that mariadbd as slurm mariadb --no-defaults --execute='CREATE DATABASE IF NOT EXISTS slurm_acct'
  start_munge
  start_as slurm slurmdbd -D
  stay
}

run_slurmctld() {
  install -d -o slurm -g slurm /var/lib/slurm/slurmctld
  start_munge
  await_that slurmdbd listens slurmdbd 6819
  # Accounting lets only accounts in that it knows. What it knows already, it says, and that is no error.
  sacctmgr -i add cluster laptop || true
  sacctmgr -i add account everybody Cluster=laptop || true
  sacctmgr -i add user root,wps Account=everybody || true
  start_as slurm slurmctld -D
  stay
}

# One, of the kind that Slurm takes unasked: a network may have both.
own_address() { getent ahostsv4 "$HOSTNAME" | sed -n '1s/ .*//p'; }

# Images are mounted by ordinary accounts, to whom /dev/fuse is closed where the host has no udev. That of a host whose
# root this is not (rootless podman) stays as it is.
open_fuse() {
  [ ! -c /dev/fuse ] || chmod 666 /dev/fuse 2>/dev/null || say "/dev/fuse is the host's own, and stays as it is"
}

run_slurmd() {
  open_fuse
  make_home
  start_munge
  await_that slurmctld scontrol ping
  # A container that was killed may come back with another address.
  scontrol update NodeName="$HOSTNAME" NodeAddr="$(own_address)"
  start_as root slurmd -D
  stay
}

run_login() {
  make_home
  make_ssh_keys
  start_munge
  install -d /run/sshd
  start_as root /usr/sbin/sshd -D -e -f /etc/wps-hpc/sshd_config
  stay
}

run_postgres() {
  install -d -m 700 -o postgres -g postgres "$database" /run/postgresql
  if [ ! -e "$database/PG_VERSION" ]; then
    say "making the server's database"
    as postgres "$postgresql/initdb" -D "$database" --auth-local=peer --auth-host=scram-sha-256 --encoding=UTF8 >/dev/null
    echo 'host wps wps samenet scram-sha-256' >>"$database/pg_hba.conf"
  fi
  start_as postgres "$postgresql/postgres" -D "$database" -c listen_addresses='*'
  await_that postgres pg_isready --quiet
  [ -e "$pgpass" ] || make_database
  stay
}

# With another password for a database that has lost it.
make_database() {
  local password
  password=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
  as postgres psql --quiet -v ON_ERROR_STOP=1 <<EOF
SELECT 'CREATE ROLE wps LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wps') \gexec
ALTER ROLE wps PASSWORD '$password';
SELECT 'CREATE DATABASE wps OWNER wps' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'wps') \gexec
EOF
  echo "postgres:5432:wps:wps:$password" >"$pgpass.new"
  chown wps:wps "$pgpass.new"
  chmod 600 "$pgpass.new"
  mv "$pgpass.new" "$pgpass"
}

run_wps() {
  make_home
  install -d -m 700 -o wps -g wps /shared/wps-hpc /run/wps-hpc
  sed "s|@PUBLIC_URL@|$PUBLIC_URL|" /etc/wps-hpc/wps-hpc.toml >/run/wps-hpc/wps-hpc.toml
  start_munge
  await_that "the database's password" test -e "$pgpass"
  await_that slurmctld scontrol ping
  start_as wps wps-hpc serve
  announce &
  stay
}

announce() {
  await_that "the server" healthy_wps || return
  say "ready: $PUBLIC_URL/"
  say "  capabilities  $PUBLIC_URL/wps?service=WPS&request=GetCapabilities"
  say "  processes     $PUBLIC_URL/processes"
}

# --- their health ---------------------------------------------------------------------------------------------------

healthy_slurmdbd() { listens localhost 6819; }
healthy_slurmctld() { scontrol ping; }
healthy_slurmd() { sinfo --noheader --nodes="$HOSTNAME" --format=%T | grep -qE '^(idle|mixed|allocated|completing)$'; }
healthy_login() { listens localhost 22 && scontrol ping; }
healthy_postgres() { pg_isready --quiet && [ -e "$pgpass" ]; }
# It is as healthy as it says itself; `degraded` is not enough here.
healthy_wps() {
  python3 -c '
import json, sys, urllib.request
with urllib.request.urlopen("http://localhost:8095/health", timeout=5) as answer:
    sys.exit(json.load(answer)["status"] != "ok")'
}

role=${1:-}
action=run
if [ "$role" = healthy ]; then
  action=healthy role=${2:-}
fi
case $role in
  slurmdbd | slurmctld | slurmd | login | postgres | wps) "${action}_$role" ;;
  *)
    echo "cluster: there is no role «$role»; the head of $0 lists them" >&2
    exit 2
    ;;
esac
