package fsm

import (
	"fmt"

	"github.com/chmpx/chmpx/ring"
)

// serviceIn applies ServiceIn.
func (s *State) serviceIn(e *entry, b ServiceIn) error {
	v, err := s.forService(b.ID)
	if err != nil {
		return err
	}
	st := v.Status
	switch {
	case st.Live() == ring.Up && st.Ring() == ring.ServiceOut && !st.Suspended():
		st = st.WithRing(ring.ServiceIn).WithAction(ring.Add).WithOperate(ring.Pending)
	case st.Live() == ring.Up && st.Action() == ring.Delete:
		st = st.WithAction(ring.NoAct).WithOperate(ring.Nothing)
	case st.Live() == ring.Up && v.ReplacedBy != 0: // it is in service, and stays
	default:
		return fmt.Errorf("%w: %v", ErrStatusNotAllowed, st)
	}
	v.Status, v.Startup, v.AutoOut, v.ReplacedBy = st, false, false, 0
	s.serviceChanged(e)
	return nil
}

// serviceOut applies ServiceOut.
func (s *State) serviceOut(e *entry, b ServiceOut) error {
	v, err := s.forService(b.ID)
	if err != nil {
		return err
	}
	st := v.Status
	switch {
	case st.Ring() == ring.ServiceOut && st.Live() == ring.Down:
		return ErrAlreadyOut
	case st.Ring() != ring.ServiceIn, st.Action() == ring.Delete && v.ReplacedBy == 0:
		return fmt.Errorf("%w: %v", ErrStatusNotAllowed, st)
	case st.Action() == ring.Add:
		st = st.WithRing(ring.ServiceOut).WithAction(ring.NoAct).WithOperate(ring.Nothing)
	case !s.staysWithout(b.ID):
		return ErrLastServer
	default:
		st = st.WithAction(ring.Delete).WithOperate(ring.Pending)
	}
	v.Status, v.Startup, v.AutoOut, v.ReplacedBy, v.HoldUs = st, false, b.Auto, 0, 0
	s.serviceChanged(e)
	return nil
}

// forService returns the server whose service may change now.
func (s *State) forService(id ring.ID) (*server, error) {
	v := s.find(id)
	if v == nil {
		return nil, fmt.Errorf("%w: server %v", ErrUnknownNode, id)
	}
	if operating(s.merge) {
		return nil, ErrOperating
	}
	return v, nil
}

// serviceChanged voids a plan that was made for other members.
func (s *State) serviceChanged(e *entry) {
	s.dropPlan()
	s.held = false
	e.changed = true
}

// called returns how operators call a server.
func (s *State) called(id ring.ID) string {
	if v := s.find(id); v != nil {
		return fmt.Sprintf("%s:%d", v.Name, v.CtlPort)
	}
	return id.String()
}

// staysWithout reports whether the ring keeps a server in service, or one
// being added, when this one leaves.
func (s *State) staysWithout(id ring.ID) bool {
	for i := range s.servers {
		st := s.servers[i].Status
		if s.servers[i].ID != id && st.Ring() == ring.ServiceIn && st.Action() != ring.Delete {
			return true
		}
	}
	return false
}
