#!/usr/bin/env bash
# Starts N workers of one command on this machine, which meet over loopback:
#
#     tools/launch_local.sh 2 python -m applications.train \
#         --distribution=multi_worker --output_dir=runs/two …
#
# Each gets TF_CONFIG, for --distribution=multi_worker, and the variables of
# keras.distribution, for --distribution=data_parallel. Lines of output begin with the
# number of the worker. When one ends with an error the others have GRACE seconds to end
# by themselves (default: 60), then they are ended; the exit code is that of the first.
# SIGTERM and SIGINT go to all workers.
set -u

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ || $# -lt 2 ]]; then
    echo "error: the arguments must be a number of workers and a command, got '$*'." >&2
    exit 2
fi
count=$1
shift

ports=$(python3 - "$count" <<'PORTS'
import socket, sys
try:
    found = [socket.socket() for _ in range(int(sys.argv[1]))]
    for one in found:
        one.bind(("127.0.0.1", 0))
except OSError as error:
    sys.exit(f"error: a port must be free for each worker, got: {error.strerror}.")
print(*(one.getsockname()[1] for one in found))
PORTS
) || exit 2
read -ra ports <<<"$ports"
addresses=$(printf '"127.0.0.1:%s",' "${ports[@]}")
cluster="{\"worker\":[${addresses%,}]}"

exec 2>/dev/null # bash has much to say of a worker that was killed
workers=()
received=0
pass_on() {
    received=$2
    kill -s "$1" "${workers[@]}" 2>/dev/null
}
trap 'pass_on TERM 143' TERM
trap 'pass_on INT 130' INT

# Each in a session of its own: Ctrl-C in a terminal must not reach them twice.
for ((i = 0; i < count; i++)); do
    TF_CONFIG="{\"cluster\":$cluster,\"task\":{\"type\":\"worker\",\"index\":$i}}" \
    KERAS_DISTRIBUTION_JOB_ADDRESSES="127.0.0.1:${ports[0]}" \
    KERAS_DISTRIBUTION_NUM_PROCESSES=$count \
    KERAS_DISTRIBUTION_PROCESS_ID=$i \
    PYTHONUNBUFFERED=1 \
        setsid "$@" > >(trap '' INT TERM; sed -u "s/^/[$i] /") 2>&1 &
    workers+=($!)
done

code=0
left=("${workers[@]}")
while ((${#left[@]})); do
    wait -n -p ended "${left[@]}"
    status=$?
    if [[ -z ${ended:-} ]]; then
        continue # a signal woke us up; the workers end by themselves
    fi
    remaining=()
    for worker in "${left[@]}"; do
        [[ $worker == "$ended" ]] || remaining+=("$worker")
    done
    left=(${remaining[@]+"${remaining[@]}"})
    if ((status && !code)); then
        code=$status
        if ((${#left[@]})); then
            setsid bash -c 'sleep "$0"; kill -s KILL "$@"' \
                "${GRACE:-60}" "${left[@]}" >/dev/null 2>&1 &
            grim=$!
        fi
    fi
done
[[ -z ${grim:-} ]] || kill -- "-$grim" "$grim" 2>/dev/null
((code || !received)) || code=$received
exit "$code"
