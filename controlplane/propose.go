package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// Limits of proposals.
const (
	appliesMax     = 64 // under way at a time: a long uncommitted tail can make an InstallSnapshot loop for ever
	applyTimeout   = 3 * time.Second
	proposeTimeout = 5 * time.Second
	attemptTimeout = 4 * time.Second
	retryMin       = 20 * time.Millisecond
	retryMax       = 500 * time.Millisecond
)

// proposeBody carries a command in its encoded form.
type proposeBody struct {
	Command []byte `json:"command"`
}

// proposeAnswer says where the entry is.
type proposeAnswer struct {
	Index uint64 `json:"index"`
}

// request returns a request of this node; body may be nil.
func (p *Plane) request(o op, body any) *request {
	req := &request{Op: o, Group: p.cfg.Group, RingID: p.realm.Load(), From: p.cfg.Self.ID, Slave: p.cfg.Slave, Boot: p.boot}
	if id := p.raftID.Load(); id != nil {
		req.RaftID = string(*id)
	}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			panic("BUG: controlplane: a request cannot be encoded: " + err.Error())
		}
		req.Body = b
	}
	return req
}

// leads reports whether raft on this node leads.
func (p *Plane) leads() bool {
	n := p.node.Load()
	return n != nil && n.State() == raft.Leader
}

// leader returns id and address of the leader, 0 and "" when none is known.
func (p *Plane) leader() (ring.ID, string) {
	n := p.node.Load()
	if n == nil {
		return 0, ""
	}
	_, rid := n.LeaderWithID()
	id, ok := ownerOf(rid)
	if !ok {
		return 0, ""
	}
	return id, p.addressOf(id)
}

// addressOf returns the host:port of a server: as our configuration has it,
// else as it said when it came up.
func (p *Plane) addressOf(id ring.ID) string {
	if m := p.configuredServer(id); m != nil {
		return m.Addr
	}
	if s := p.view().Server(id); s != nil {
		return s.Addr
	}
	return ""
}

// toLeader brings a request to the leader, wherever it is by now, until ctx
// ends. ErrUncertain: an attempt may have been heard that was not answered.
func (p *Plane) toLeader(ctx context.Context, req *request) (*response, error) {
	last := ErrNoLeader
	wait := retryMin
	hint, heard := "", false
	for i := 0; ctx.Err() == nil; i++ {
		_, addr := p.leader()
		if hint != "" {
			addr = hint
		}
		if addr == "" {
			addr = p.findLeader(ctx)
		}
		if addr == "" {
			sleep(ctx, wait)
			wait = min(2*wait, retryMax)
			continue
		}
		resp, err := p.ask(ctx, addr, req)
		hint = ""
		if req.Op != opRead {
			heard = heard || err != nil && !errors.Is(err, errNoConnection) || err == nil && resp.Uncertain
		}
		switch {
		case err != nil:
			last = err
		case resp.Code == codeNotLeader && resp.Leader != "" && resp.Leader != addr:
			hint = resp.Leader
			last = resp.err()
		case resp.Code == codeNotLeader || resp.Code == codeFailed:
			last = resp.err()
		case heard && resp.Code != codeOK && resp.Refusal == "":
			return nil, uncertain(resp.err()) // refused by somebody who does not know what became of it
		default:
			p.answeredBy.Store(&addr)
			return resp, resp.err()
		}
		if i > 0 || hint == "" {
			sleep(ctx, wait)
			wait = min(2*wait, retryMax)
		}
	}
	if heard {
		last = uncertain(last)
	}
	return nil, fmt.Errorf("%s: no success before the time was over: %w", req.Op, last)
}

// uncertain says that what failed with err may have happened all the same.
func uncertain(err error) error {
	if errors.Is(err, ErrUncertain) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// findLeader asks all other servers at once who leads and returns the first
// answer, "" when there is none within a second: a host that answers nothing
// must not cost the time of the others.
func (p *Plane) findLeader(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	all := p.known()
	found := make(chan string, len(all))
	for _, m := range all {
		wg.Go(func() { // ended by cancel
			a := answer{member: m}
			if m.ID != p.cfg.Self.ID {
				p.probe(ctx, &a)
			}
			found <- a.Leader
		})
	}
	for range all {
		if addr := <-found; addr != "" {
			return addr
		}
	}
	return ""
}

// ask sends a request to one server, which may be this one. What operators ask,
// and what is proposed, goes over a connection of its own: one that could not be
// made has changed nothing, while a kept one may break after the request has
// arrived.
func (p *Plane) ask(ctx context.Context, addr string, req *request) (*response, error) {
	timeout, call := attemptTimeout, p.client.call
	switch req.Op {
	case opCommand, opRead:
		timeout, call = commandAttempt, p.client.callAnew
	case opPropose:
		call = p.client.callAnew
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if addr == p.cfg.Self.Addr {
		return p.handle(ctx, req), nil
	}
	return call(ctx, addr, req)
}

// propose has the leader commit a command of this node about itself. It
// retries until ctx ends; ErrRefused is final.
func (p *Plane) propose(ctx context.Context, body fsm.Body) error {
	_, err := p.proposeAs(ctx, &p.own, opPropose, body)
	return err
}

// proposeAs is propose under any name of this node. It returns the log index
// of the entry.
func (p *Plane) proposeAs(ctx context.Context, as *proposer, o op, body fsm.Body) (uint64, error) {
	select {
	case as.turn <- struct{}{}:
		defer func() { <-as.turn }()
	case <-ctx.Done():
		return 0, fmt.Errorf("propose %s: wait for earlier proposals: %w", body.Type(), ctx.Err())
	}
	as.number++
	var at proposeAnswer
	b, err := fsm.Encode(fsm.Command{Proposer: as.name, Number: as.number, TimeUs: fault.Now().UnixMicro(), Body: body})
	if err == nil {
		var resp *response
		if resp, err = p.toLeader(ctx, p.request(o, proposeBody{Command: b})); err == nil {
			if err = json.Unmarshal(resp.Body, &at); err != nil {
				err = uncertain(fmt.Errorf("decode where the entry is: %w", err))
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("propose %s: %w", body.Type(), err)
	}
	return at.Index, nil
}

// proposeHere commits a command of the leader itself, once. Such commands carry
// no proposer: each names the state it was made for, so that a late or second
// one is refused, and the leader must not wait behind this node's own reports,
// which wait for the leader.
func (p *Plane) proposeHere(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	res, err := p.apply(ctx, fsm.Command{TimeUs: fault.Now().UnixMicro(), Body: body})
	if err == nil {
		err = res.Err
	}
	if err != nil {
		return res, fmt.Errorf("propose %s: %w", body.Type(), err)
	}
	return res, nil
}

// apply commits a command on the leader. Refusals are in the result; ErrUncertain
// means that the command may be in the log all the same, any other error that it
// is not, as fsm.ErrLevel.
func (p *Plane) apply(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	b, err := fsm.Encode(c)
	if err != nil {
		return fsm.Result{}, err
	}
	release, err := p.inOrder(ctx, p.dependsOnLevels(c))
	if err != nil {
		return fsm.Result{}, err
	}
	return p.applyEncoded(ctx, c, b, release)
}

// applyEncoded is apply of an encoded command. It calls decided when raft has
// decided, which may be later than it returns.
func (p *Plane) applyEncoded(ctx context.Context, c fsm.Command, b []byte, decided func()) (fsm.Result, error) {
	n := p.node.Load()
	if n == nil {
		decided()
		return fsm.Result{}, ErrNoLeader
	}
	select {
	case p.applying <- struct{}{}:
	case <-ctx.Done():
		decided()
		return fsm.Result{}, fmt.Errorf("wait for earlier proposals: %w", ctx.Err())
	}
	type outcome struct {
		res fsm.Result
		err error
	}
	done := make(chan outcome, 1)
	p.asked.Add(1)
	go func() { // ended by raft: commit, loss of the lead or shutdown; bounded by the tokens
		defer p.asked.Add(-1)
		defer func() { <-p.applying }()
		defer decided()
		if err := p.mayApply(c); err != nil { // after all waiting, in which the lead may have gone and come back
			done <- outcome{err: err}
			return
		}
		f := n.Apply(b, applyTimeout)
		if err := f.Error(); err != nil {
			err = fmt.Errorf("commit: %w", err)
			if !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, raft.ErrEnqueueTimeout) && !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
				err = uncertain(err)
			}
			done <- outcome{err: err}
			return
		}
		res, ok := f.Response().(fsm.Result)
		if !ok {
			done <- outcome{err: errors.New("BUG: controlplane: raft returned no result")}
			return
		}
		if res.Changed {
			p.commits.raise()
		}
		done <- outcome{res: res}
	}()
	select {
	case o := <-done:
		return o.res, o.err
	case <-ctx.Done():
		return fsm.Result{}, uncertain(fmt.Errorf("wait for the commit: %w", ctx.Err()))
	}
}
