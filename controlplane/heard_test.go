package controlplane

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/ring"
)

// TestHeard proves that a proposal that a leader may have heard is told from one
// that it cannot have, although there is a connection from before, which may
// lead nowhere.
func TestHeard(t *testing.T) {
	for _, tc := range []struct {
		name  string
		heard bool
	}{
		{"the leader ends before it answers", true},
		{"nothing gets through any more", false},
	} {
		t.Run(tc.name, func(t *testing.T) { story(t, 1, func(r *rig) { r.proposal(tc.heard) }) })
	}
}

func (r *rig) proposal(heard bool) {
	addr := r.servers[0].Addr
	m := mux.New(r.net.listen(addr), testLog("leader"))
	ctx, cancel := context.WithCancel(r.t.Context())
	end := func() { r.net.put(addr, nil) }
	m.Handle(mux.KindRPC, func(conn net.Conn) {
		defer conn.Close()
		for req := new(request); readFrame(conn, req) == nil && req.Op == opProbe; {
			if !heard {
				end()
			}
			if writeFrame(conn, &response{}) != nil {
				return
			}
			if !heard {
				<-ctx.Done()
			}
		}
		end()
	})
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	p, err := New(Config{Group: r.group, Params: r.params, Servers: r.servers, Dial: r.net.dial, Logger: testLog("s"), Slave: true,
		Self: Member{ID: 1000, Identity: ring.Identity{Name: "s", CtlPort: 8999}}})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := p.ask(ctx, addr, p.request(opProbe, nil)); err != nil {
		r.t.Fatal(err)
	}
	actx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	_, err = p.ask(actx, addr, p.request(opPropose, proposeBody{}))
	if err == nil || errors.Is(err, errNoConnection) == heard {
		r.t.Errorf("got %v", err)
	}
	cancel()
	if err := errors.Join(p.Close(), <-ended); err != nil {
		r.t.Error(err)
	}
}
