#!/bin/bash
# run.sh BIN CASES: runs the tools through the cases of one file. BIN: the folder of the built programs.
#
# A case begins with "## what it shows" and ends at the next one. Its lines:
#   needs COMMAND   skips the case where this fails; a file with a skipped case is itself skipped (exit 77), if all others passed
#   use NAME...     copies inputs (tests/cli/make_inputs.c) into the empty folder that the case runs in
#   $ COMMAND       set-up
#   > COMMAND       the command under test: a papa tool
#   exit N          its exit status
#   out PATTERN     one line of its standard output, as a shell pattern, in order; "out ..." stands for any further lines
#   err PATTERN     likewise of its standard error. Without such a line the stream must be empty
#   new NAME...     files and folders that it leaves behind. All else must be as before, to the byte: nothing half-written
set -u
bin=$(cd "$1" && pwd) cases=$2
PATH=$bin:$PATH
scratch=$(mktemp -d "${TMPDIR:-/tmp}/papa-cli-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/inputs"
"$bin/cli_inputs" "$scratch/inputs" || exit 1
failures=0 count=0 skipped=0

snapshot() { find . -mindepth 1 \( -type d -printf '%p/\n' -o -type f -exec cksum {} + \) | LC_ALL=C sort; }

complain() {
    printf '%s: %s: %s\n' "$(basename "$cases")" "$title" "$1"
    bad=1
}

# match STREAM PATTERN...: each line of the stream's file against its pattern.
match() {
    local stream=$1 i=0 lines pattern
    shift
    mapfile -t lines < "$scratch/$stream"
    for pattern in "$@"; do
        [[ $pattern == ... ]] && return
        if ((i >= ${#lines[@]})); then
            complain "$stream: no line for: $pattern"
        elif [[ ${lines[i]} != $pattern ]]; then
            complain "$stream: expected: $pattern"
            complain "$stream: found:    ${lines[i]}"
        fi
        ((i++))
    done
    ((i >= ${#lines[@]})) || complain "$stream: one line too many: ${lines[i]}"
}

run_case() {
    local bad=0 name step found
    ((count++))
    if [[ -z $command || -z $status ]]; then
        complain "the case has no command or no exit status"
        ((failures++))
        return
    fi
    if [[ -n $needs ]] && ! bash -c "$needs" > "$scratch/needs" 2>&1 < /dev/null; then
        printf '%s: %s: skipped: %s: %s\n' "$(basename "$cases")" "$title" "$needs" "$(tail -n 1 "$scratch/needs")"
        ((skipped++))
        return
    fi
    rm -rf "$scratch/work"
    mkdir "$scratch/work"
    cd "$scratch/work" || exit 1
    for name in "${uses[@]}"; do
        cp -r "$scratch/inputs/$name" . || complain "no such input"
    done
    for step in "${setup[@]}"; do
        bash -c "$step" || complain "the set-up failed: $step"
    done
    snapshot > "$scratch/before"
    timeout 300 bash -c "$command" > "$scratch/out" 2> "$scratch/err" < /dev/null
    found=$?
    ((found == status)) || complain "exit status $found, expected $status: $(tail -n 1 "$scratch/err")"
    match out "${out[@]}"
    match err "${err[@]}"
    for name in "${new[@]}"; do
        [[ -e $name ]] || complain "did not leave $name behind"
        rm -rf "$name"
    done
    snapshot > "$scratch/after"
    cmp -s "$scratch/before" "$scratch/after" || complain "the folder changed: $(diff "$scratch/before" "$scratch/after" | sed -n 2p)"
    ((failures += bad))
}

begin_case() { title=$1 command= status= needs= uses=() setup=() out=() err=() new=(); }

title=
while IFS= read -r line || [[ -n $line ]]; do
    case $line in
    '## '*)
        [[ -n $title ]] && run_case
        begin_case "${line#\#\# }"
        ;;
    'needs '*) needs=${line#needs } ;;
    'use '*) read -ra words <<< "${line#use }" && uses+=("${words[@]}") ;;
    '$ '*) setup+=("${line#\$ }") ;;
    '> '*) command=${line#> } ;;
    'exit '*) status=${line#exit } ;;
    'out '*) out+=("${line#out }") ;;
    'err '*) err+=("${line#err }") ;;
    'new '*) read -ra words <<< "${line#new }" && new+=("${words[@]}") ;;
    '' | '# '*) ;;
    *)
        echo "$cases: not a line of a case: $line"
        exit 1
        ;;
    esac
done < "$cases"
[[ -n $title ]] && run_case
echo "$count cases, $failures failed, $skipped skipped"
((count > 0 && failures == 0)) || exit 1
((skipped == 0)) || exit 77
