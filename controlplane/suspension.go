package controlplane

import (
	"context"
	"errors"
	"log/slog"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// errOvertaken says that a report was given up because a program came.
var errOvertaken = errors.New("controlplane: a program has come meanwhile")

// suspension is what this server has told the ring of having no program, from
// before it is told until the data plane has seen what became of it. In between
// a program may come, and must not be given what the next owner may be given by
// the entry that is under way: the data plane holds. The report loop owns it.
//
// Without a majority it may last: a report that a leader has heard and not
// answered can still be committed. A report that was not heard ends at once
// when a program comes.
type suspension struct {
	held        bool
	incarnation ring.Incarnation // that the reports name
	settledAt   uint64           // log index from which on no earlier report can be applied; 0: none yet
	warned      bool
}

// unsettled reports whether a report of there being no program may still be
// applied, so that the ring must be told again how many there are: a proposal
// that comes later ends all those before it.
func (s *suspension) unsettled() bool { return s.held && s.settledAt == 0 }

// report proposes how many programs there are. errOvertaken: that there is none
// was not, or need not be, told.
func (s *suspension) report(ctx context.Context, p *Plane, b fsm.ProgramsChanged) error {
	before := *s
	if b.Count == 0 {
		var end func()
		if ctx, end = p.suspend(ctx); end == nil {
			return errOvertaken
		}
		defer end()
		*s = suspension{held: true, incarnation: b.Incarnation}
	}
	at, err := p.proposeAs(ctx, &p.own, opPropose, b)
	switch {
	case err == nil:
		s.settledAt = at
	case b.Count == 0 && !logged(err):
		if *s = before; !s.held {
			s.release(p)
		}
	}
	if err != nil && context.Cause(ctx) == errOvertaken {
		return errOvertaken
	}
	return err
}

// logged reports whether what failed with err may be in somebody's log.
func logged(err error) bool {
	var r *refusal // by fsm
	return errors.Is(err, ErrUncertain) || errors.As(err, &r)
}

// look ends the hold when the data plane knows what became of the reports.
func (s *suspension) look(p *Plane) {
	if !s.held {
		return
	}
	v, applied := p.fsm.Load().ViewAt()
	settled := s.settledAt != 0 && applied >= s.settledAt
	if (settled || p.incarnation(v) != s.incarnation) && p.shown.Load() >= v.Index {
		s.release(p)
	}
}

// holdText is what the status says while programs wait for a majority.
const holdText = "the programs of this server are given nothing by hash: the ring may have been told that it has none, and only a majority of it can say what came of that"

// holdOver is what the status says besides where the other servers are of another
// ring: nobody will ever say it. To release the hold would be wrong all the same: that
// ring serves the same keys.
const holdOver = "; it will not, for other servers are of another ring: move the data directory of this server away and start it again"

// noteHold says in the status what programs wait for; unsettled: a report that
// there is none is.
func (p *Plane) noteHold(unsettled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = ""
	if unsettled && p.programs > 0 {
		p.holds = holdText
		if p.foreign {
			p.holds += holdOver
		}
	}
}

// warn says, once, that programs wait for a majority.
func (s *suspension) warn(log *slog.Logger, programs int) {
	if !s.unsettled() || programs == 0 || s.warned {
		return
	}
	s.warned = true
	log.Warn("messages for the programs of this server wait for a majority: the ring may have been told that it has no program, and be about to give them to the next owner")
}

func (s *suspension) release(p *Plane) {
	*s = suspension{}
	if p.cfg.Release != nil {
		p.cfg.Release()
	}
}

// suspend asks the data plane to hold, and returns the context of the report
// that there is no program: it is cancelled with errOvertaken when one comes.
// end is nil if there is one already.
func (p *Plane) suspend(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	end = func() {
		p.mu.Lock()
		p.overtaken = nil
		p.mu.Unlock()
		cancel(nil)
	}
	p.mu.Lock()
	none := p.programs == 0
	p.overtaken = func() { cancel(errOvertaken) }
	p.mu.Unlock()
	if !none || p.cfg.Hold != nil && !p.cfg.Hold() {
		end()
		return ctx, nil
	}
	return ctx, end
}
