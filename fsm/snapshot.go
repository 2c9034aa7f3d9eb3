package fsm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// A snapshot is a header of 16 bytes and a JSON object:
//
//	 0        8       10       12       16
//	| "CHMPXFSM" | version | zero | CRC-32 of the JSON | JSON ...
//
// Numbers are big-endian. A program reads its own version and older ones.
const (
	snapshotMagic   = "CHMPXFSM"
	snapshotVersion = 1
	snapshotHeader  = 16
)

// snapshotJSON is the state as a snapshot holds it.
type snapshotJSON struct {
	Index      uint64     `json:"index"`
	RingID     uint64     `json:"ring_id"`
	Era        uint32     `json:"era"`
	Group      string     `json:"group"`
	Params     Params     `json:"params"`
	Epoch      ring.Epoch `json:"epoch"`
	Version    uint64     `json:"version"`
	NextNumber uint16     `json:"next_number"`

	Servers   []server   `json:"servers"`
	Slaves    []Slave    `json:"slaves"`
	Stood     []StoodIn  `json:"stood,omitempty"`
	Proposals []proposal `json:"proposals"`

	Base        []byte      `json:"base,omitempty"`    // ring.Assignment.Delta(nil)
	Pending     []byte      `json:"pending,omitempty"` // the same
	Merge       *ring.Merge `json:"merge,omitempty"`
	MergeTimeUs int64       `json:"merge_time_us"`
	Unsealed    bool        `json:"unsealed"`
	Held        bool        `json:"held"`
	Suspend     bool        `json:"suspend_merge"`
	LevelUsed   int         `json:"level_used,omitempty"` // 0: 1
}

// Snapshot returns the whole state, versioned. Equal states give equal bytes.
func (s *State) Snapshot() []byte {
	j := snapshotJSON{
		Index: s.index, RingID: s.ringID, Era: s.era, Group: s.group, Params: s.params,
		Epoch: s.epoch, Version: s.tableVersion, NextNumber: s.nextNumber,
		Servers: s.servers, Slaves: s.slaves, Stood: s.stood, Proposals: s.proposals,
		Merge: s.merge, MergeTimeUs: s.mergeTimeUs, Unsealed: s.unsealed, Held: s.held, Suspend: s.suspendOn,
		LevelUsed: s.levelUsed,
	}
	if s.base != nil {
		j.Base = s.base.Delta(nil)
	}
	if s.pending != nil {
		j.Pending = s.pending.Delta(nil)
	}
	body, err := json.Marshal(j)
	if err != nil {
		panic("BUG: fsm: the state does not encode: " + err.Error())
	}
	b := make([]byte, snapshotHeader, snapshotHeader+len(body))
	copy(b, snapshotMagic)
	binary.BigEndian.PutUint16(b[8:], snapshotVersion)
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(body))
	return append(b, body...)
}

// Restore replaces the state by that of a snapshot. On error (ErrSnapshot) the
// state is as before. Views taken before stay as they are.
func (s *State) Restore(b []byte) error {
	j, err := s.build.decodeSnapshot(b)
	if err != nil {
		return err
	}
	n := &State{
		build: s.build, levelUsed: j.LevelUsed,
		index: j.Index, ringID: j.RingID, era: j.Era, group: j.Group, params: j.Params,
		epoch: j.Epoch, tableVersion: j.Version, nextNumber: j.NextNumber,
		servers: j.Servers, slaves: j.Slaves, stood: j.Stood, proposals: j.Proposals,
		merge: j.Merge, mergeTimeUs: j.MergeTimeUs, unsealed: j.Unsealed, held: j.Held, suspendOn: j.Suspend,
	}
	n.suspendOn = n.suspendOn && !fault.Bug(fault.ForgetSuspend)
	if n.base, err = decodeAssignment(j.Base); err != nil {
		return fmt.Errorf("%w: base: %w", ErrSnapshot, err)
	}
	if n.pending, err = decodeAssignment(j.Pending); err != nil {
		return fmt.Errorf("%w: pending: %w", ErrSnapshot, err)
	}
	if err := n.rebuild(); err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	*s = *n
	return nil
}

func (build Build) decodeSnapshot(b []byte) (snapshotJSON, error) {
	var j snapshotJSON
	if len(b) < snapshotHeader || string(b[:8]) != snapshotMagic {
		return j, fmt.Errorf("%w: no snapshot of this program", ErrSnapshot)
	}
	switch v := binary.BigEndian.Uint16(b[8:]); {
	case v > snapshotVersion:
		return j, fmt.Errorf("%w: %w: version %d, this build reads %d", ErrSnapshot, ErrLevel, v, snapshotVersion)
	case v != snapshotVersion:
		return j, fmt.Errorf("%w: version %d, this program reads %d", ErrSnapshot, v, snapshotVersion)
	}
	body := b[snapshotHeader:]
	if binary.BigEndian.Uint32(b[12:]) != crc32.ChecksumIEEE(body) {
		return j, fmt.Errorf("%w: checksum of %d bytes is wrong", ErrSnapshot, len(body))
	}
	var used struct {
		Level int `json:"level_used"`
	}
	if err := json.Unmarshal(body, &used); err == nil && used.Level > build.Speaks().Max { // else what it does not know would be said to be damage
		return j, fmt.Errorf("%w: %w: the ring has used level %d, this build speaks up to %d", ErrSnapshot, ErrLevel, used.Level, build.Speaks().Max)
	}
	switch err := strict(body, &j); {
	case errors.Is(err, errUnknownField):
		return j, fmt.Errorf("%w: %w: decode: %w", ErrSnapshot, ErrLevel, err)
	case err != nil:
		return j, fmt.Errorf("%w: decode: %w", ErrSnapshot, err)
	}
	return j, nil
}

func decodeAssignment(b []byte) (*ring.Assignment, error) {
	if b == nil {
		return nil, nil
	}
	return ring.ApplyDelta(nil, b)
}

// rebuild makes what a snapshot does not hold, and checks what it does.
func (s *State) rebuild() error {
	if s.ringID == 0 {
		if s.index != 0 && len(s.servers)+len(s.slaves) > 0 || s.base != nil || s.merge != nil {
			return fmt.Errorf("members without a ring")
		}
		return nil
	}
	for i := range s.slaves {
		if err := s.slaves[i].Levels.validate(); err != nil {
			return fmt.Errorf("slave %v: %w", s.slaves[i].ID, err)
		}
	}
	if s.levelUsed < 0 || s.levelUsed > levelMax {
		return fmt.Errorf("feature level %d", s.levelUsed)
	}
	init := RingInit{RingID: s.ringID, Era: s.era, Group: s.group, Params: s.params}
	if err := init.validate(); err != nil {
		return err
	}
	if (s.merge == nil) != (s.pending == nil) {
		return fmt.Errorf("a merge and a pending table go together")
	}
	for _, a := range []*ring.Assignment{s.base, s.pending} {
		if a == nil {
			continue
		}
		if err := s.checkShape(a); err != nil {
			return err
		}
	}
	var parts division
	if s.pending != nil {
		if err := s.checkPending(s.pending); err != nil {
			return err
		}
		var err error
		if parts, err = divide(s.base, s.pending); err != nil {
			return err
		}
	}
	servers := make([]ring.Server, len(s.servers))
	s.members = make([]Member, len(s.servers))
	for i, v := range s.servers {
		if err := v.Levels.validate(); err != nil {
			return fmt.Errorf("server %v: %w", v.ID, err)
		}
		if v.Number >= s.nextNumber || !v.Status.Safe() {
			return fmt.Errorf("server %v: number %d, status %v", v.ID, v.Number, v.Status)
		}
		servers[i] = v.Server
		s.members[i] = v.member()
	}
	if s.merge != nil {
		for _, t := range slices.Concat(s.merge.Transfers, s.merge.Partial) {
			if t.Slots == nil || t.Slots.Slots() != parts.parts || s.find(t.Donor) == nil || s.find(t.Receiver) == nil {
				return fmt.Errorf("transfer from %v to %v", t.Donor, t.Receiver)
			}
		}
	}
	t, err := ring.NewTable(s.tableOf(servers))
	if err != nil {
		return err
	}
	s.table = t
	return nil
}
