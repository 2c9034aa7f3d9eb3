#!/usr/bin/env bash
# Runs every fuzz target of the repository, one after the other, for the given
# time (10s) or number of inputs (30000x). A number never ends in the middle of
# an input, which go test reports as a failure now and then when time is up.
set -euo pipefail
cd "$(dirname "$0")/.."
each=${1:-10s}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | awk '{print $2}' | while read -r target; do
		echo "== $dir $target for $each"
		go test -run='^$' -fuzz="^${target}\$" -fuzztime="$each" -fuzzminimizetime=100x "$dir"
	done
done
