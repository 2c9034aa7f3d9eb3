//go:build race

package flow

// simShare of the runs is played: the race detector makes each ten times slower.
const simShare = 12
