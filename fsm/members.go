package fsm

import (
	"fmt"
	"slices"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// serverRestart applies ServerRestart.
func (s *State) serverRestart(e *entry, b ServerRestart) error {
	v := s.find(b.ID)
	if v == nil {
		return fmt.Errorf("%w: server %v", ErrUnknownNode, b.ID)
	}
	if b.HoldUs < HoldMinUs || b.HoldUs > HoldMaxUs {
		us := time.Microsecond
		return fmt.Errorf("%w: to wait for %v, %v to %v allowed", ErrInvalid, time.Duration(b.HoldUs)*us, HoldMinUs*us, HoldMaxUs*us)
	}
	if v.Status.Live() != ring.Up {
		return fmt.Errorf("%w: %v", ErrStatusNotAllowed, v.Status)
	}
	if operating(s.merge) {
		return ErrOperating
	}
	for i := range s.servers {
		if o := &s.servers[i]; o.HoldUs > 0 && o.ID != b.ID {
			return fmt.Errorf("%w: %s", ErrHeld, s.called(o.ID))
		}
	}
	v.HoldUs = b.HoldUs
	e.changed = true
	return nil
}

// holdEnd applies HoldEnd.
func (s *State) holdEnd(e *entry, b HoldEnd) error {
	v := s.find(b.ID)
	if v == nil {
		return fmt.Errorf("%w: server %v", ErrUnknownNode, b.ID)
	}
	if v.Incarnation != b.Incarnation || v.HoldUs == 0 {
		return fmt.Errorf("%w: server %v incarnation %d is not waited for", ErrStale, b.ID, b.Incarnation)
	}
	v.HoldUs = 0
	e.changed = true
	return nil
}

// showHeld shows which servers are DOWN and waited for. With DOMERGE off nobody
// falls behind, so nobody has to be waited for.
func (s *State) showHeld() {
	for i := range s.servers {
		v := &s.servers[i]
		v.Held = v.HoldUs > 0 && s.params.DoMerge && v.Status.Live() == ring.Down && v.Status.Ring() == ring.ServiceIn
	}
}

// serverReplace applies ServerReplace.
func (s *State) serverReplace(e *entry, b ServerReplace) error {
	if b.New == 0 || b.New == b.Old {
		return fmt.Errorf("%w: a server cannot take its own place", ErrInvalid)
	}
	if s.params.chmpx() {
		return ErrPlacement
	}
	old, err := s.forService(b.Old)
	if err != nil {
		return err
	}
	if old.Status.Ring() != ring.ServiceIn || old.Status.Action() == ring.Add {
		return fmt.Errorf("%w: %s has no place, it is %v", ErrStatusNotAllowed, s.called(b.Old), old.Status)
	}
	if i := slices.IndexFunc(s.servers, func(v server) bool { return v.ReplacedBy == b.New && v.ID != b.Old }); i >= 0 {
		return fmt.Errorf("%w: %s is to take the place of %s", ErrStatusNotAllowed, s.called(b.New), s.called(s.servers[i].ID))
	}
	if v := s.find(b.New); v != nil {
		switch st := v.Status; {
		case v.Forget:
			return fmt.Errorf("%w: %s is being forgotten", ErrStatusNotAllowed, s.called(b.New))
		case st.Ring() == ring.ServiceIn && st.Action() != ring.Add:
			return fmt.Errorf("%w: %s has a place already, it is %v", ErrStatusNotAllowed, s.called(b.New), st)
		case st == ring.ServiceOut|ring.Up|ring.NoSuspend:
			v.Status, v.Startup = st.WithRing(ring.ServiceIn).WithAction(ring.Add).WithOperate(ring.Pending), false
		case st == ring.ServiceOut|ring.Up|ring.Suspend:
			v.Startup = true // AUTOMERGE takes it in once it has a program, also if it was taken out before
		}
	}
	old.ReplacedBy = b.New
	s.serviceChanged(e)
	return nil
}

// showReplaced lets servers leave whose replacement can join, and stay while
// it cannot.
func (s *State) showReplaced() {
	if operating(s.merge) {
		return
	}
	for i := range s.servers {
		v := &s.servers[i]
		if v.ReplacedBy == 0 || v.Status.Ring() != ring.ServiceIn {
			continue
		}
		by := s.find(v.ReplacedBy)
		switch ready := by != nil && by.Status.Action() == ring.Add && able(by.Status); {
		case ready && v.Status.Action() == ring.NoAct:
			v.Status = v.Status.WithAction(ring.Delete).WithOperate(ring.Pending)
			v.AutoOut = false
		case !ready && v.Status.Action() == ring.Delete:
			v.Status = v.Status.WithAction(ring.NoAct).WithOperate(ring.Nothing)
		}
	}
}

// replaced returns base with the servers that leave and are replaced in it
// exchanged for their replacements, so that a plan from it moves nothing else.
func replaced(v View, base *ring.Assignment) *ring.Assignment {
	by := make(map[uint16]uint16)
	for i := range v.Table.Servers {
		s := &v.Table.Servers[i]
		if n := v.Server(v.Members[i].ReplacedBy); n != nil && s.Status.Action() == ring.Delete && mayOwn(n.Status) {
			by[s.Number] = n.Number
		}
	}
	if len(by) == 0 {
		return base
	}
	out := base.Clone()
	for i, n := range out.Owners {
		if to, ok := by[n]; ok {
			out.Owners[i] = to
		}
	}
	return out
}

// serverForget applies ServerForget.
func (s *State) serverForget(e *entry, b ServerForget) error {
	v := s.find(b.ID)
	if v == nil {
		return fmt.Errorf("%w: server %v", ErrUnknownNode, b.ID)
	}
	if v.Status != ring.ServiceOut|ring.Down {
		return fmt.Errorf("%w: %v; only who is out of service and down can be forgotten", ErrStatusNotAllowed, v.Status)
	}
	if v.Forget {
		return nil
	}
	for i := range s.servers {
		if s.servers[i].ReplacedBy == b.ID {
			s.servers[i].ReplacedBy = 0
		}
	}
	v.Forget = true
	e.changed = true
	return nil
}

// serverForgotten applies ServerForgotten.
func (s *State) serverForgotten(e *entry, b ServerForgotten) error {
	v := s.find(b.ID)
	if v == nil {
		return fmt.Errorf("%w: server %v", ErrUnknownNode, b.ID)
	}
	if !v.Forget {
		return fmt.Errorf("%w: nobody wants %s to be forgotten", ErrStatusNotAllowed, s.called(b.ID))
	}
	s.forgetProposer(v.Boot)
	s.servers = slices.DeleteFunc(s.servers, func(o server) bool { return o.ID == b.ID })
	s.stood = slices.DeleteFunc(slices.Clone(s.stood), func(n StoodIn) bool { return n.By == b.ID || n.For == b.ID })
	e.changed = true
	return nil
}
