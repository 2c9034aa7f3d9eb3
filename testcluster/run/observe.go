package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/chmpx/chmpx/node"
	"github.com/chmpx/chmpx/testcluster"
	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/testcluster/rig"
)

const (
	observeEvery    = 250 * time.Millisecond
	observeWait     = 2 * time.Second // a paused node says nothing
	statusBytesMax  = 8 << 20
	observationsMax = 20_000 // of one round; what comes beyond is not kept
)

// observer asks all nodes for their status again and again.
type observer struct {
	rig *rig.Rig

	mu   sync.Mutex // guards what follows
	seen []check.Observation
	last map[string]check.Observation // of each node, from the rounds before
}

func newObserver(r *rig.Rig) *observer {
	return &observer{rig: r, last: map[string]check.Observation{}}
}

// start observes until ctx ends.
func (o *observer) start(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, h := range o.rig.Hosts {
		wg.Go(func() {
			for pause(ctx, observeEvery) {
				at := check.Now()
				var st check.State
				if !h.Node.Running() || get(ctx, h, "/v1/status", observeWait, &st) != nil {
					continue // dead, paused or busy
				}
				o.add(check.Observation{AtNs: at, DoneNs: check.Now(), Node: h.Name, State: st})
			}
		})
	}
	return &wg
}

func (o *observer) add(seen check.Observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) < observationsMax {
		o.seen = append(o.seen, seen)
	}
}

// take returns what was seen since the last call, and before it the last that
// was seen of each node in the rounds before.
func (o *observer) take() (all []check.Observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, seen := range o.last {
		all = append(all, seen)
	}
	for _, seen := range o.seen {
		o.last[seen.Node] = seen
	}
	all = append(all, o.seen...)
	o.seen = nil
	return all
}

// get asks a node's control port for JSON.
func get(ctx context.Context, h *rig.Host, path string, wait time.Duration, to any) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", h.Node.Host, h.Node.CtlPort, path), nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", h.Name, err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", h.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, statusBytesMax))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, to)
	}
	if err != nil {
		return fmt.Errorf("ask %s: %w", h.Name, err)
	}
	return nil
}

// detachWait bounds how long nodes may hold what they hold for the dead.
const detachWait = 25 * time.Second

// settledStandIns waits until no node stands in for another one, and the ring
// knows of all that did.
func (o *observer) settledStandIns(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, detachWait)
	defer cancel()
	return o.await(ctx, "notes of stand-ins", func(h *rig.Host, st *node.Status) error {
		if len(st.Data.StandIns) > 0 {
			return fmt.Errorf("%s stands in for another server, or its note is not known to the ring: %+v", h.Name, st.Data.StandIns)
		}
		return nil
	})
}

// detached waits until no node holds anything for more programs than given.
func (o *observer) detached(ctx context.Context, alive func(*rig.Host) int) error {
	ctx, cancel := context.WithTimeout(ctx, detachWait)
	defer cancel()
	return o.await(ctx, "messages", func(h *rig.Host, st *node.Status) error {
		if n := alive(h); len(st.Data.Attached) > n {
			return fmt.Errorf("%s holds %d programs of which %d live", h.Name, len(st.Data.Attached), n)
		}
		return nil
	})
}

// await waits until each node has once been settled, or ctx ends.
func (o *observer) await(ctx context.Context, what string, settled func(*rig.Host, *node.Status) error) error {
	for _, h := range o.rig.Hosts {
		for {
			var st node.Status
			err := get(ctx, h, "/v1/status", observeWait, &st)
			if err == nil {
				err = settled(h, &st)
			}
			if err == nil {
				break
			}
			if !pause(ctx, 50*time.Millisecond) {
				return fmt.Errorf("%w for %s to settle: %w", testcluster.ErrTimeout, what, err)
			}
		}
	}
	return nil
}

// usageWait is how long a node may take to give back what it used.
const usageWait = 30 * time.Second

// usages returns what each node uses, when that is within what it used before or
// does not become so. A node that does not answer is left out.
func (o *observer) usages(ctx context.Context, before map[string]check.Usage) map[string]check.Usage {
	ctx, cancel := context.WithTimeout(ctx, usageWait)
	defer cancel()
	all := map[string]check.Usage{}
	for _, h := range o.rig.Hosts {
		for {
			u, err := h.Node.Usage(ctx)
			if err == nil {
				all[h.Name] = u
			}
			b, ok := before[h.Name]
			if err == nil && (!ok || len(u.Exceeds(b)) == 0) || !pause(ctx, observeEvery) {
				break
			}
		}
	}
	return all
}
