#!/usr/bin/env bash
# Prints figures of the whole path (client program, slave node, server node,
# server program and back) as JSON lines. With a command behind it, runs that
# command in turns with ours, so that both see the same machine:
#
#   bench/compare.sh                        one round of ours
#   bench/compare.sh 5 other-bench -n 5000  five rounds, ours and the other's in turns
#
# SIZES="128 65536" and DURATION=5s change the cases. Compare medians of ratios
# of the same round; one run alone says little.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-1}
shift || true
sizes=()
for size in ${SIZES:-128}; do
	sizes+=(--size "$size")
done
for ((round = 1; round <= rounds; round++)); do
	bin/chmpx-testcluster bench --duration "${DURATION:-3s}" "${sizes[@]}"
	if [ $# -gt 0 ]; then
		"$@"
	fi
done
