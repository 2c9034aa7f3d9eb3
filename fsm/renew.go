package fsm

import "github.com/chmpx/chmpx/ring"

// Renew makes this the state of a new ring that goes on from where the old one
// was: another ring id, so that nobody who still has the old log can speak in
// it, and the next era, so that its tables replace those of the old ring. The server
// by which it goes on is not forgotten: what was asked for before is overtaken.
// ErrNoRing without a ring.
func (s *State) Renew(ringID uint64, by ring.ID) error {
	if s.ringID == 0 {
		return ErrNoRing
	}
	s.ringID = ringID
	s.era++
	if v := s.find(by); v != nil {
		v.Forget = false
	}
	s.epoch = ring.Epoch{Era: s.era, Index: s.index}
	return s.rebuild()
}
