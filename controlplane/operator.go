package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
)

// Limits of what operators ask for.
const (
	// CommandTimeout is what an operator's command may take, so that it is
	// answered within 5 s whatever the ring does.
	CommandTimeout = 4500 * time.Millisecond
	// commandAttempt bounds one attempt of it: a leader that vanished must leave
	// time for the next one.
	commandAttempt = 1500 * time.Millisecond
	appliedTick    = 2 * time.Millisecond
)

// ErrUncertain says that a command was on its way to the log when the time was
// over, or its leader was lost: it may have happened, or may still happen.
var ErrUncertain = errors.New("controlplane: the change may have happened")

// Command has the leader commit what an operator asks for: ServiceIn of this
// node, ServiceOut, MergeRequest (the leader fills in the plan), MergeComplete,
// MergeAbort with Operator, SuspendMerge, ServerRestart, ServerReplace,
// ServerForget; of a slave ServiceOut only. Nil: the
// entry is committed. It tries again, and with another leader, until ctx ends,
// and counts once all the same.
//
// ErrRefused comes with the refusal of fsm and is final; ErrUncertain says that
// nothing is known; with any other error (ErrNoLeader and others) nothing was
// changed.
func (p *Plane) Command(ctx context.Context, body fsm.Body) error {
	for {
		_, err := p.proposeAs(ctx, &p.operators, opCommand, body)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fsm.ErrBaseChanged) && ctx.Err() == nil:
			sleep(ctx, retryMin) // another change came between the plan and its entry
		default:
			return p.because(err)
		}
	}
}

// Consistent waits until this node has applied everything that was committed
// anywhere in the ring before it was called. The leader proves with a barrier
// that it leads and what that is. Errors as of Command.
func (p *Plane) Consistent(ctx context.Context) error {
	resp, err := p.toLeader(ctx, p.request(opRead, nil))
	if err != nil {
		return p.because(err)
	}
	var at readAnswer
	if err := json.Unmarshal(resp.Body, &at); err != nil {
		return fmt.Errorf("decode what the leader has applied: %w", err)
	}
	tick := time.NewTicker(appliedTick)
	defer tick.Stop()
	for {
		if f := p.fsm.Load(); f.Applied() >= at.Index && f.View().RingID == at.RingID {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("this node has applied the log up to %d, the leader up to %d", p.fsm.Load().Applied(), at.Index)
		}
	}
}

// Refresh is UPDATESTATUS: the leader hears again what this server observes, and
// Refresh returns when the ring shows what this server wants it to and this
// node shows what the ring is. Errors as of Command.
func (p *Plane) Refresh(ctx context.Context) error {
	p.reports.raise()
	p.evidence.raise()
	tick := time.NewTicker(reportTick)
	defer tick.Stop()
	for {
		if err := p.Consistent(ctx); err != nil {
			return err
		}
		now := time.Now()
		v := p.view()
		if p.cfg.Slave || nextReport(v, p.want(v, now)) == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the ring does not show yet what this server reports")
		}
	}
}

// because puts what this node knows about a ring that does not answer in place
// of how its last attempt went.
func (p *Plane) because(err error) error {
	why := p.waiting()
	if why == "" || errors.Is(err, ErrRefused) {
		return err
	}
	if errors.Is(err, ErrUncertain) {
		return fmt.Errorf("%w: %s", ErrUncertain, why)
	}
	return fmt.Errorf("%w: %s", ErrNoLeader, why)
}

// readAnswer is up to where a node must have applied the log of a ring to show
// everything that was committed when it was asked for.
type readAnswer struct {
	RingID uint64 `json:"ring_id"`
	Index  uint64 `json:"index"`
}

// serveRead answers Consistent on the leader.
func (p *Plane) serveRead(ctx context.Context) *response {
	n := p.node.Load()
	if n == nil {
		return &response{Code: codeNotLeader}
	}
	select {
	case p.applying <- struct{}{}:
	case <-ctx.Done():
		return p.reply(nil, fmt.Errorf("wait for earlier proposals: %w", ctx.Err()))
	}
	done := make(chan error, 1)
	p.asked.Add(1)
	go func() { // ended by raft, as that of apply; bounded by the tokens
		defer p.asked.Add(-1)
		defer func() { <-p.applying }()
		done <- n.Barrier(barrierTimeout).Error()
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return p.reply(nil, fmt.Errorf("prove the lead: %w", err))
	}
	f := p.fsm.Load()
	return p.reply(readAnswer{RingID: f.View().RingID, Index: f.Applied()}, nil)
}

// serveCommand answers Command on the leader.
func (p *Plane) serveCommand(ctx context.Context, req *request) *response {
	c, err := p.proposed(req)
	switch {
	case err != nil:
		return p.reply(nil, err)
	case c.Proposer != fsm.Operator(req.Boot) || !mayCommand(req, c.Body):
		return &response{Code: codeRefused, Text: fmt.Sprintf("%s may not ask for this %s", req.From, c.Type())}
	case req.Slave && p.cfg.SlaveMay != nil && !p.cfg.SlaveMay(ctx, req.remote):
		return &response{Code: codeRefused, Text: "the host of this slave may only look: CTLSLAVES of the servers; ask a server"}
	}
	switch b := c.Body.(type) {
	case fsm.MergeRequest:
		c.Body = fsm.RequestMerge(p.view())
	case fsm.ServerForget:
		if b.ID == p.cfg.Self.ID {
			return p.proposeReply(fsm.Result{Err: fmt.Errorf("%w: it leads the ring", fsm.ErrStatusNotAllowed)}, nil)
		}
		defer p.members.raise()
	}
	res, err := p.commitCommand(ctx, c)
	return p.proposeReply(res, err)
}

// commitCommand is where the answer to an operator waits for the commit.
func (p *Plane) commitCommand(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	if fault.Bug(fault.AnswerBeforeCommit) {
		p.applyLater(c)
		return fsm.Result{}, nil
	}
	return p.apply(ctx, c)
}

// applyLater is what a node with the bug fault.AnswerBeforeCommit does: commands
// are put into the log a moment later, as if they were gathered.
func (p *Plane) applyLater(c fsm.Command) {
	time.AfterFunc(30*time.Millisecond, func() { // ends as apply does
		ctx, cancel := context.WithTimeout(context.Background(), proposeTimeout)
		defer cancel()
		_, _ = p.apply(ctx, c)
	})
}

// mayCommand reports whether operators of a node may ask for this: a slave's
// may take servers out, as in CHMPX, and change nothing else.
func mayCommand(req *request, body fsm.Body) bool {
	switch b := body.(type) {
	case fsm.ServiceOut:
		return !b.Auto
	case fsm.ServiceIn:
		return !req.Slave && b.ID == req.From
	case fsm.MergeAbort:
		return !req.Slave && b.Operator
	case fsm.MergeRequest, fsm.MergeComplete, fsm.SuspendMerge, fsm.ServerRestart, fsm.ServerReplace, fsm.ServerForget:
		return !req.Slave
	}
	return false
}

// proposer is a name under which this node proposes. Its proposals go one
// after the other: fsm ignores numbers that come late.
type proposer struct {
	name   uint64
	turn   chan struct{} // token
	number uint64        // of the last proposal; owned by the token's holder
}

func newProposer(name uint64) proposer { return proposer{name: name, turn: make(chan struct{}, 1)} }

// refusal is what fsm refused, as it comes over rpc.
type refusal struct {
	text string
	is   error // sentinel of fsm
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.is }
