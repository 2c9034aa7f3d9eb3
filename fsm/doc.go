// Package fsm is the replicated truth of a ring: the commands of the log, the
// State that every node computes from them, and the pure decision about what
// the leader should propose next for a merge.
//
// State knows no clock, no randomness, no I/O and no goroutine: two nodes that
// apply the same entries hold the same State, byte for byte. Apply never
// plans; an entry carries the plan and the time. Only raft.go knows raft.
//
// State is owned by one goroutine (raft's FSM goroutine). A View is immutable
// and may be handed to any goroutine.
package fsm
