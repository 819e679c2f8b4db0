#!/bin/sh
# Runs a plugin on its example and compares what it emits with what the example says; then again with an end and a
# snapshot behind each record. Usage: example_test.sh WEIR PLUGIN.so EXAMPLE_FOLDER
set -eu
weir=$1 plugin=$2 example=$3
role=processor
grep -q '"to"' "$example/config.json" || role=fold
got=$(mktemp)
trap 'rm -f "$got"' EXIT
for restart in "" "--restart-every 1"; do
    "$weir" plugin test --role $role --config-file "$example/config.json" --after 600000 $restart "$plugin" \
        < "$example/records.jsonl" > "$got"
    diff -u "$example/emitted.jsonl" "$got"
done
echo "example: fine"
