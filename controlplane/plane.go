// Package controlplane keeps the ring agreed: it runs raft, decides who is
// alive, drives merges, and answers operators. Every change of the ring is a
// command in the raft log, applied by package fsm on every node; the states
// that result leave through Config.OnView.
//
// It carries no messages and knows no data plane: evidence about links and
// programs comes in by methods of Plane, tables go out by OnView, and the data
// plane goes on without it.
//
// All methods of Plane may be called from any goroutine, at any time between
// New and the end of Run; none of them waits for a commit except Leave.
package controlplane

import (
	"context"

	"github.com/chmpx/chmpx/ring"
)

// Plane is the control plane of one node.
type Plane struct {
	cfg Config
}

// New checks cfg and opens the data directory (ErrLocked when another process
// holds it; ErrConfig for mistakes). A Plane that is not Run must be Closed.
func New(cfg Config) (*Plane, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Plane{cfg: cfg}, nil
}

// Run takes part in the ring until ctx ends (nil) or the node must stop
// because it can no longer follow the log (ErrStateMachine). It returns when
// everything it started has ended and the data directory is closed. Call it once.
func (p *Plane) Run(ctx context.Context) error {
	<-ctx.Done()
	return p.Close()
}

// Close gives the data directory back. Run does it; idempotent.
func (p *Plane) Close() error { return nil }

// Programs tells how many server programs are attached to this server now.
// More than before is reported to the ring at once; none is reported after
// SuspendGrace, if it is still so. It does not block.
func (p *Plane) Programs(n int) {}

// Link tells what this node observes of another server. Only the newest
// observation of each peer counts. It does not block.
func (p *Plane) Link(e ring.Evidence) {}

// TransferReady tells that this node, as receiver, has caught up with the
// donor. It is reported until the state shows it or the merge is another. It
// does not block.
func (p *Plane) TransferReady(mergeID uint64, donor, receiver ring.ID) {}

// TransferFinal tells that a transfer is complete under the given seal (Merge.Seal
// of the view in which the donor stopped): the receiver has everything
// and the donor serves those slots no more. As TransferReady.
func (p *Plane) TransferFinal(mergeID, seal uint64, donor, receiver ring.ID) {}

// Status returns what this node knows. It does not block on the network or the
// disk.
func (p *Plane) Status() Status { return Status{} }

// Leave takes the node out of the ring in order: it reports itself down
// (clean) and, if it leads, hands the lead over within 2 s. Bounded by ctx; an
// error says what did not work, the node may end all the same. Run goes on.
func (p *Plane) Leave(ctx context.Context) error { return nil }
