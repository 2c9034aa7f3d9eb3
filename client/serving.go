package client

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// serving is the number of servers in service as the node last told.
type serving struct {
	mu      sync.Mutex // guards what follows; nothing is called under it
	n       int64      // -1: the node has not told yet
	changed chan struct{}
}

func (s *serving) set(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n = n
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (s *serving) get() (n int64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.n, s.changed
}

// waitOwner waits until a server is in service, at most for wait.
func (c *Client) waitOwner(ctx context.Context, wait time.Duration) error {
	n, changed := c.serving.get()
	if n > 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	c.in.blocked.Add(1)
	defer c.unblock()
	c.needLeader()
	for {
		select {
		case <-changed:
			if n, changed = c.serving.get(); n > 0 {
				return nil
			}
		case <-t.C:
			return fmt.Errorf("%w: %w for %v", ErrNotDelivered, ErrNoOwner, wait)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w: %w", ErrNotDelivered, ErrNoOwner, ctx.Err())
		case <-c.closing:
			return fmt.Errorf("%w: %w", ErrNotDelivered, ErrClosed)
		}
	}
}
