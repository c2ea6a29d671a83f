#!/usr/bin/env bash
# Starts the cluster, waits until each part of it is healthy, sends a process to the server as any WPS client would, and
# shows the job in Slurm's queue and then its result. Exits with another code than 0 if anything fails.
#   try.sh               with docker compose, podman-compose or podman compose, whichever is there
#   COMPOSE=... try.sh   with that command
#   WPS_PORT=... SSH_PORT=... try.sh    on other ports than 8095 and 2222
set -euo pipefail
cd "$(dirname "$0")"

patience=${PATIENCE:-300}
seconds=8
base=http://127.0.0.1:${WPS_PORT:-8095}

fail() {
  echo "try.sh: $*" >&2
  exit 1
}

find_compose() {
  if docker compose version && docker info; then
    found="docker compose"
  elif command -v podman-compose; then
    found="podman-compose"
  elif podman compose version; then
    found="podman compose"
  else
    return 1
  fi >/dev/null 2>&1
}

found=${COMPOSE:-}
[ -n "$found" ] || find_compose || fail "neither docker compose nor podman-compose nor podman compose works here"
read -ra compose <<<"$found"
command -v curl >/dev/null || fail "curl is missing: it is the client"

# Run a command in the container of a service: inside SERVICE COMMAND [ARGUMENT ...]
inside() { "${compose[@]}" exec -T "$@" </dev/null; }

await_that() {
  local what=$1 deadline=$((SECONDS + patience))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "$what: not there after $patience s; look at: $found logs"
    sleep 0.5
  done
}

# The first text that stands before and after these words in a document.
between() { sed -n "s|.*$1\([^\"<]*\)$2.*|\1|p" | head -n 1; }

await_health() {
  local service
  for service in slurmdbd slurmctld c1 c2 login postgres wps; do
    await_that "$service" inside "$service" cluster healthy "$(role_of "$service")"
    echo "  $service is healthy"
  done
}

role_of() { case $1 in c[0-9]) echo slurmd ;; *) echo "$1" ;; esac; }

# What is shown is what was seen: asked again, the queue may be empty. Jobs from before are somebody else's.
in_the_queue() {
  queue=$(inside login squeue --noheader --format='job %i of %u: %T on %N, %M' |
    awk -v before=" $before " '/RUNNING/ && !index(before, " " $2 " ")')
  [ -n "$queue" ]
}

document() { curl --fail --silent --show-error --max-time 30 "$1"; }

finished() {
  answer=$(document "$status") || return
  grep -qE 'ProcessSucceeded|ProcessFailed' <<<"$answer"
}

echo "starting (the first time it builds an image, which takes some minutes) ..."
"${compose[@]}" up --detach
await_health

before=$(inside login squeue --noheader --format=%i | tr '\n' ' ')
echo "an Execute of the process «node», asynchronous, with status:"
query="service=WPS&version=1.0.0&request=Execute&identifier=node&datainputs=seconds=$seconds"
answer=$(document "$base/wps?$query&storeExecuteResponse=true&status=true")
status=$(between 'statusLocation="' '"' <<<"$answer")
[ -n "$status" ] || fail "the answer has no status location: $answer"
echo "  $status"

await_that "the job in Slurm's queue" in_the_queue
echo "in Slurm's queue:"
sed 's/^/  /' <<<"$queue"

await_that "the job's end" finished
grep -q ProcessSucceeded <<<"$answer" || fail "the job has failed: $answer"
result=$(between '<wps:LiteralData[^>]*>' '</wps:LiteralData>' <<<"$answer")
[ -n "$result" ] || fail "the job has no result: $answer"
echo "result:"
echo "  $result"
echo "the server is at $base/; it is stopped by: $found down (with --volumes, everything is forgotten)"
