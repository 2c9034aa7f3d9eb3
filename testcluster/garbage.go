package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chmpx/chmpx/internal/mux"
	"github.com/chmpx/chmpx/wire"
)

// garbageWait is how long a stranger waits for the node to hang up; a node that
// goes on listening is left then.
const garbageWait = 200 * time.Millisecond

// Garbage connects to everything that a node listens on, writes random bytes
// there and reads until the node hangs up or a moment has passed. The errors
// are those of connecting: what becomes of the bytes is the node's affair.
func (c *Cluster) Garbage(ctx context.Context, n *Node, random *rand.Rand) error {
	targets := [][2]string{{"tcp", net.JoinHostPort(n.Host, strconv.Itoa(int(n.CtlPort)))}}
	if !n.slave {
		targets = append(targets, [2]string{"tcp", net.JoinHostPort(n.Host, strconv.Itoa(int(n.Port)))})
	}
	sockets, err := filepath.Glob(c.path("run/*.sock"))
	if err != nil {
		return fmt.Errorf("find attach sockets: %w", err)
	}
	if len(sockets) > 0 {
		targets = append(targets, [2]string{"unix", sockets[random.IntN(len(sockets))]})
	}
	var errs []error
	for _, t := range targets {
		errs = append(errs, garbage(ctx, t[0], t[1], nonsense(random)))
	}
	return errors.Join(errs...)
}

// nonsense draws what a stranger writes: often the first bytes of something
// real, so that it gets further.
func nonsense(random *rand.Rand) []byte {
	b := make([]byte, 1+random.IntN(4096))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	kind := mux.Preamble(mux.Kind(1 + random.IntN(4)))
	heads := [][]byte{nil, nil, nil, {40, 0, 0, 0, wire.AttachVersion, 0, 1}, []byte("GET /v1/status HTTP/1.1\r\n"), kind[:]}
	copy(b, heads[random.IntN(len(heads))])
	return b
}

// garbage writes b to one listener and reads until it hangs up or a moment has passed.
func garbage(ctx context.Context, network, address string, b []byte) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return fmt.Errorf("connect as a stranger: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(garbageWait)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := conn.Write(b); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20)) // hung up or not: both are allowed
	}
	return nil
}
