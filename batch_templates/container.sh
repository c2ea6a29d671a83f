# Starts a command in a container on the node. No value stands in this text; its arguments are
#   family program key image attempts number before between behind  [NAME | NAME=VALUE | --version]... -- options... -- command...
# where the options have @attempt in the place of the attempt that may be written to (as before, number, between, number and
# behind make it), and @here in that of the current directory. With a plus sign behind it, the number still lacks the
# restarts that the command names. Exit code 74: the attempt cannot be written; 255: not started, as Apptainer has it.
family=$1 program=$2 key=$3 image=$4 attempts=$5 number=$6 before=$7 between=$8 behind=$9
shift 9
umask 077

case $number in
*+)
    number=${number%+}
    previous=
    for word; do
        case $previous:$word in
        --restarts:*[!0-9]*) ;;
        --restarts:?*) number=$((number + word)) ;;
        esac
        previous=$word
    done
    ;;
esac
attempt=$attempts/$number
# What is written or run outside lies where no job can write: a link or a program of its own would lead out.
outside=$attempt.container
mkdir -p "$attempt" "$outside" || exit 74

# Both as they really are: the way to the storage may be a link.
within=$(cd "$attempt" && pwd -P) now=$(pwd -P)
case $now/ in
"$within"/*) here=$attempt${now#"$within"} ;;
*)
    # The launcher, and not one of its commands: nobody else keeps what the runtime says.
    here=$attempt
    exec >>"$outside/log" 2>&1
    ;;
esac

if [ -n "$family" ]; then
    # What stands in the environment is for somebody else: binds, images, options.
    for name in $(env | sed -n -e "s/^\(APPTAINER[A-Za-z0-9_]*\)=.*/\1/p" -e "s/^\(SINGULARITY[A-Za-z0-9_]*\)=.*/\1/p"); do
        unset "$name"
    done
    # A scheduler that signals every process of a job must not end the one that mounts the image: whatever the process
    # needs for its last words is still in there. What is ignored stays so: libfuse takes no signal that is.
    # Several commands of a process may start at once: what is there stays.
    mounts=$(command -v squashfuse_ll) &&
        { [ -e "$outside/mounts" ] || ln -s "$mounts" "$outside/mounts" 2>/dev/null || [ -e "$outside/mounts" ]; } &&
        printf "%s\n" "#!/bin/sh" "trap \"\" TERM HUP INT USR1 USR2 XCPU" "exec \"\${0%/*}/mounts\" \"\$@\"" >"$outside/.$$" &&
        chmod 700 "$outside/.$$" &&
        mv -f "$outside/.$$" "$outside/squashfuse_ll" &&
        PATH=$outside:$PATH
fi

part=environment
for word; do
    shift
    case $part:$word in
    environment:--version)
        "$program" --version >&2
        continue
        ;;
    environment:--)
        part=options
        continue
        ;;
    environment:*=*)
        export "${family}ENV_$word"
        continue
        ;;
    environment:*)
        eval "[ -z \"\${$word+set}\" ] || export \"\${family}ENV_$word=\$$word\""
        continue
        ;;
    options:--)
        part=command
        word=$image
        ;;
    options:@attempt) word=$before$number$between$number$behind ;;
    options:@here) word=$here ;;
    esac
    set -- "$@" "$word"
done

if [ -n "$key" ] && ! "$program" verify --key "$key" "$image" >&2; then
    echo "The image is not signed with $key." >&2
    exit 255
fi
exec "$program" "$@"
