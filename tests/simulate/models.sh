#!/bin/bash
# Checks the Spin models beside the runtime: models.sh [SOURCE_DIR]. Each claim exhaustively, and that each seeded
# fault of a model is found, so that the check can fail. As many at a time as there are processors, at most 4. Prints
# the states explored, a line a check as it ends; not 0 when one is not as it should be.
set -u
source_dir=$(cd "${1:-$(dirname "$0")/../..}" && pwd)
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
jobs_max=$(nproc)
[ "$jobs_max" -gt 4 ] && jobs_max=4 # each may need MEMORY_MIB
number=0
# Too small a depth is told from a search's output; a page of a stack or table costs more than a state.
DEPTH=100000
MEMORY_MIB=4096

# check EXPECTED KIND MODEL OPTION...: EXPECTED is holds or fails, KIND safety or liveness (weakly fair). Begins it in a
# folder of its own, once fewer than jobs_max are under way; one that is right leaves a file there.
check() {
    number=$((number + 1))
    [ "$number" -gt "$jobs_max" ] && wait -n
    mkdir "$scratch/$number" || exit 1
    (cd "$scratch/$number" && search "$@") &
}

search() {
    local expected=$1 kind=$2 model=$3 found states verdict=ok
    shift 3
    # A fault is found at once: there the compiler would take longer than the search; with -O2 it takes longer than is
    # gained in millions of states.
    local build=(-w "-DMEMLIM=$MEMORY_MIB") search=("-m$DEPTH" -w20)
    if [ "$expected" = holds ]; then
        build+=(-Og)
        search=("-m$DEPTH" -w23)
    fi
    if [ "$kind" = liveness ]; then
        set -- "$@" -DLIVENESS
        build+=(-DNFAIR=4)
        search+=(-a -f)
    else
        build+=(-DSAFETY)
    fi
    if ! spin -a "$@" "$source_dir/actors/runtime/$model.pml" >spin.out 2>&1 || ! gcc "${build[@]}" -o pan pan.c; then
        cat spin.out
        return
    fi
    ./pan "${search[@]}" >pan.out 2>&1
    states=$(awk '/states, stored/ { print $1; exit }' pan.out)
    found=holds
    grep -q 'errors: [1-9]' pan.out && found=fails
    # A search that was cut short has shown nothing.
    if ! grep -q 'errors: [0-9]' pan.out || grep -q 'depth too small\|out of memory\|reached -DMEMLIM' pan.out; then
        found=unfinished
    fi
    if [ "$found" != "$expected" ]; then
        verdict=WRONG
        cat pan.out
    else
        touch right
    fi
    printf '%-5s %-8s %-8s %-6s %10s states  %s\n' "$verdict" "$model" "$kind" "$found" "$states" "$*"
}

# The word with its workers always found; their sleep with whole turns as one step; both together.
check holds safety mailbox -DWORD -DMESSAGES=1
check holds safety mailbox -DWORD -DPRODUCERS=2
check holds safety mailbox -DWORD -DSTOP -DMESSAGES=1 -DPRODUCERS=2
check holds safety mailbox -DWORD -DLATE -DMESSAGES=1 -DPRODUCERS=2
check holds safety mailbox -DPARK -DMESSAGES=1
check holds safety mailbox -DPARK -DTIMED -DPRODUCERS=2
check holds safety mailbox -DPARK -DGUEST -DTIMED -DPRODUCERS=2 -DMESSAGES=1
check holds safety mailbox -DPRODUCERS=2 -DMESSAGES=1
check holds liveness mailbox -DWORD -DPRODUCERS=2
check holds liveness mailbox -DPARK -DPRODUCERS=2 -DMESSAGES=1
for fault in NO_WAKE WAKE_BY_TOP TAKE_CLEARS NO_SORT BOUND_LATE; do
    check fails safety mailbox -DWORD -DFAULT_$fault
done
for fault in LOOK_ONCE LOOK_FIRST WAKE_FIRST; do
    check fails safety mailbox -DPARK -DMESSAGES=1 -DFAULT_$fault
done
check fails safety mailbox -DPARK -DTIMED -DFAULT_TOKEN_LEFT
check fails safety mailbox -DPARK -DGUEST -DPRODUCERS=2 -DMESSAGES=1 -DFAULT_GUEST_LOOKS_FIRST
for fault in GUEST_UNAWAITED AWAIT_ONCE; do
    check fails safety mailbox -DPARK -DGUEST -DTIMED -DPRODUCERS=2 -DMESSAGES=1 -DFAULT_$fault
done
check fails safety mailbox -DWORD -DSTOP -DPRODUCERS=2 -DFAULT_ORDER_LATE
check fails safety mailbox -DWORD -DLATE -DPRODUCERS=2 -DFAULT_CLEAR_BLIND
check fails liveness mailbox -DWORD -DPRODUCERS=2 -DFAULT_NO_WAKE

# Backpressure: mailboxes of two and of one.
check holds safety credit -DMAILBOX=2
check holds safety credit -DMAILBOX=1 -DWINDOW=1
check holds safety credit -DABSENT -DMAILBOX=1 -DWINDOW=1
check holds liveness credit -DMAILBOX=1 -DPRODUCERS=2
for fault in AWAIT_FULL EARLY_COUNT NO_OFFER NO_FORGET OVERTAKE; do
    check fails safety credit -DFAULT_$fault
done
check fails safety credit -DABSENT -DMAILBOX=1 -DWINDOW=1 -DFAULT_NO_AGAIN
for fault in NO_GRANT GRANT_ALL; do
    check fails safety credit -DMAILBOX=1 -DWINDOW=1 -DFAULT_$fault
done
check fails liveness credit -DMAILBOX=1 -DPRODUCERS=2 -DFAULT_AWAIT_FULL

wait
right=$(find "$scratch" -name right | wc -l)
echo "$right of $number checks as they should be"
[ "$right" -eq "$number" ]
