package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// commands brings what operators ask of the control port to the ring. Its
// methods may be called from any goroutine.
type commands struct {
	self   ring.ID
	ring   *controlplane.Plane
	table  func() *ring.Table // of the data plane: newest
	called *directory
	log    *slog.Logger
	asking chan struct{} // tokens: bound of what waits for the ring
}

// askingMax leaves half of the control port's connections to those who only
// look, while the ring answers nobody.
const askingMax = 32

// errBusy says that askingMax are waiting.
var errBusy = fmt.Errorf("%d commands wait for the ring at this node already; nothing was done", askingMax)

// begin takes a token; end gives it back.
func (c *commands) begin() error {
	select {
	case c.asking <- struct{}{}:
		return nil
	default:
		return errBusy
	}
}

func (c *commands) end() { <-c.asking }

func (n *Node) newCommands() *commands {
	c := &commands{self: n.id, ring: n.control, table: func() *ring.Table { return n.data.View().Table }, log: n.log, asking: make(chan struct{}, askingMax)}
	c.called = &directory{group: n.conf().Group, idType: n.idType, self: n.id, servers: func() []config.Server { return n.conf().Servers }, table: c.table, lookup: lookupHost}
	return c
}

// change does what an operator asks for, within the time that an answer may take.
func (c *commands) change(ctx context.Context, what ctlport.Change) ctlport.Outcome {
	if err := c.begin(); err != nil {
		return ctlport.Outcome{Verdict: ctlport.Failed, Reason: err.Error()}
	}
	defer c.end()
	ctx, cancel := context.WithTimeout(ctx, controlplane.CommandTimeout)
	defer cancel()
	target, by, err := c.targets(ctx, what)
	if err != nil {
		return ctlport.Outcome{Verdict: ctlport.NoSuchServer, Reason: err.Error()}
	}
	if what.Name == "UPDATESTATUS" {
		err = c.ring.Refresh(ctx)
	} else {
		err = c.ring.Command(ctx, bodyOf(what, target, by))
	}
	o := outcomeOf(what.Name, err, target == c.self)
	if o.Verdict == ctlport.Done && alone(c.table(), c.self) {
		o.Verdict = ctlport.DoneAlone
	}
	reply, _, _ := strings.Cut(o.Reply(what.Name), "\n")
	c.log.Info("control command", "command", what.Name, "force", what.Force, "server", what.Server.String(), "reply", reply, "reason", o.Reason)
	return o
}

// targets finds the servers that a command is about: who is named, else this node.
func (c *commands) targets(ctx context.Context, what ctlport.Change) (target, by ring.ID, err error) {
	if !ctlport.ChangesServer(what.Name) || what.Server == (ctlport.ServerRef{}) {
		return c.self, 0, nil
	}
	if target, err = c.called.find(ctx, what.Server); err == nil && what.Name == "NODEREPLACE" {
		by, err = c.called.find(ctx, what.By)
	}
	return target, by, err
}

// bodyOf returns the entry of a command about a server, and for NODEREPLACE by
// whom; nil for UPDATESTATUS, which has none.
func bodyOf(what ctlport.Change, about, by ring.ID) fsm.Body {
	switch what.Name {
	case "NODERESTART":
		return fsm.ServerRestart{ID: about, HoldUs: what.Hold.Microseconds()}
	case "NODEREPLACE":
		return fsm.ServerReplace{Old: about, New: by}
	case "NODEFORGET":
		return fsm.ServerForget{ID: about}
	case "SERVICEIN":
		return fsm.ServiceIn{ID: about}
	case "SERVICEOUT":
		return fsm.ServiceOut{ID: about}
	case "MERGE":
		return fsm.MergeRequest{}
	case "COMPMERGE":
		return fsm.MergeComplete{Force: what.Force}
	case "ABORTMERGE":
		return fsm.MergeAbort{Operator: true, Reason: "ABORTMERGE"}
	case "SUSPENDMERGE", "NOSUSPENDMERGE":
		return fsm.SuspendMerge{On: what.Name == "SUSPENDMERGE"}
	}
	return nil
}

// outcomeOf says how a command went by the error of the control plane; self:
// it is about this node.
func outcomeOf(command string, err error, self bool) ctlport.Outcome {
	is := func(refusals ...error) bool {
		for _, r := range refusals {
			if errors.Is(err, r) {
				return true
			}
		}
		return false
	}
	o := ctlport.Outcome{Verdict: ctlport.Failed, Reason: plain(err)}
	switch {
	case err == nil:
		return ctlport.Outcome{}
	case is(controlplane.ErrUncertain):
	case is(fsm.ErrUnknownNode) && command == "SERVICEOUT" && !self:
		o.Verdict = ctlport.AlreadyOut // configured and never a member: shown as SERVICE OUT and DOWN
	case is(fsm.ErrUnknownNode) && ctlport.ChangesServer(command) && command != "SERVICEOUT":
		o = ctlport.Outcome{Verdict: ctlport.NoSuchServer, Reason: "it is configured, and no member of the ring"}
	case is(fsm.ErrUnknownNode):
		o = ctlport.Outcome{Verdict: ctlport.WrongStatus, Reason: "the ring has not admitted this server yet"}
	case is(fsm.ErrAlreadyOut):
		o.Verdict = ctlport.AlreadyOut
	case is(fsm.ErrOperating) && command != "MERGE":
		o.Verdict = ctlport.Operating
	case is(fsm.ErrStatusNotAllowed):
		o.Verdict = ctlport.WrongStatus
	case is(fsm.ErrLastServer):
		o.Verdict = ctlport.LastServer
	case is(fsm.ErrOperating, fsm.ErrNotReady, fsm.ErrHeld, fsm.ErrDonorMissing, fsm.ErrReceiverMissing, fsm.ErrTooManyParts):
		o.Verdict = ctlport.SomeServers
	}
	return o
}

// plain returns an error as operators read it: without the names of packages
// and what every status begins with.
func plain(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ReplaceAll(err.Error(), "SAFE -> ", "")
	if _, after, ok := strings.Cut(text, "fsm: "); ok && errors.Is(err, controlplane.ErrRefused) {
		return after
	}
	return strings.ReplaceAll(text, "controlplane: ", "")
}

// alone reports whether no other server is up.
func alone(t *ring.Table, self ring.ID) bool {
	if t == nil {
		return true
	}
	for _, s := range t.Servers {
		if s.ID != self && s.Status.Live() == ring.Up {
			return false
		}
	}
	return true
}

// consistent waits until this node shows what is committed, for as long as an
// answer may take.
func (c *commands) consistent(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.end()
	ctx, cancel := context.WithTimeout(ctx, controlplane.CommandTimeout)
	defer cancel()
	if err := c.ring.Consistent(ctx); err != nil {
		return fmt.Errorf("what is committed is not known here: %s", plain(err))
	}
	return nil
}
