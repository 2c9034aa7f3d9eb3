//go:build race

package client

// raceEnabled: sync.Pool drops entries at random under the race detector.
const raceEnabled = true
