//go:build !race

package flow

// simShare of the runs is played: a third of them.
const simShare = 3
