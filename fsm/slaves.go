package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// SlavesMax bounds the list of slaves.
const SlavesMax = 4096

func compareSlave(v Slave, id ring.ID) int { return cmp.Compare(v.ID, id) }

// slaveUp applies SlaveUp.
func (s *State) slaveUp(e *entry, b SlaveUp) error {
	if b.ID == 0 || b.Boot == 0 || b.Slave.Name == "" {
		return fmt.Errorf("%w: id, boot or name is empty", ErrInvalid)
	}
	if s.find(b.ID) != nil {
		return fmt.Errorf("%w: %v is a server", ErrInvalid, b.ID)
	}
	if err := s.View().Admits(b.ID, b.Levels); err != nil {
		return err
	}
	now := Slave{ID: b.ID, Identity: b.Slave, Boot: b.Boot, Status: ring.Slave | ring.Up, StatusTime: e.timeUs, Levels: b.Levels.Brief()}
	i, known := slices.BinarySearchFunc(s.slaves, b.ID, compareSlave)
	switch {
	case !known && len(s.slaves) >= SlavesMax:
		return fmt.Errorf("%w: %d slaves", ErrTooMany, len(s.slaves))
	case !known:
		s.slaves = slices.Insert(slices.Clone(s.slaves), i, now)
	case s.slaves[i].Boot == b.Boot && s.slaves[i].Status.Live() == ring.Up:
		return nil
	default:
		if s.slaves[i].Boot != b.Boot {
			s.forgetProposer(s.slaves[i].Boot)
		}
		s.slaves = slices.Clone(s.slaves)
		s.slaves[i] = now
	}
	e.changed = true
	return nil
}

// slaveDown applies SlaveDown.
func (s *State) slaveDown(e *entry, b SlaveDown) error {
	i, known := slices.BinarySearchFunc(s.slaves, b.ID, compareSlave)
	if !known {
		return fmt.Errorf("%w: slave %v", ErrUnknownNode, b.ID)
	}
	if s.slaves[i].Boot != b.Boot || s.slaves[i].Status.Live() != ring.Up {
		return fmt.Errorf("%w: slave %v boot %x", ErrStale, b.ID, b.Boot)
	}
	s.slaves = slices.Clone(s.slaves)
	s.slaves[i].Status = ring.Slave | ring.Down
	s.slaves[i].StatusTime = e.timeUs
	e.changed = true
	return nil
}

// slaveForget applies SlaveForget.
func (s *State) slaveForget(e *entry, b SlaveForget) error {
	i, known := slices.BinarySearchFunc(s.slaves, b.ID, compareSlave)
	if !known {
		return fmt.Errorf("%w: slave %v", ErrUnknownNode, b.ID)
	}
	s.forgetProposer(s.slaves[i].Boot)
	s.slaves = slices.Delete(slices.Clone(s.slaves), i, i+1)
	e.changed = true
	return nil
}
