#!/usr/bin/env bash
# Runs every fuzz target of the repository for the given time (10s), one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
each=${1:-10s}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | awk '{print $2}' | while read -r target; do
		echo "== $dir $target for $each"
		go test -run='^$' -fuzz="^${target}\$" -fuzztime="$each" "$dir"
	done
done
