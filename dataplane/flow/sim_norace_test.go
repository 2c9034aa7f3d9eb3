//go:build !race

package flow

// simShare of the runs is played: all of them.
const simShare = 1
