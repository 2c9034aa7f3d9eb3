// Package ringview asks and commands a node over its control port, and prints
// its status for people: what chmpxctl and the demonstration show. It
// keeps nothing and starts no goroutine; all functions may be called from any
// goroutine.
package ringview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/chmpx/chmpx/controlplane"
)

// ErrStatus is wrapped by every error about a status that could not be had.
var ErrStatus = errors.New("ringview: no status")

// ErrNotReached is wrapped beside ErrStatus when no connection to the node's
// address could be made.
var ErrNotReached = errors.New("ringview: the node cannot be reached")

// statusBytesMax bounds what Fetch reads: 1,024 servers take about 400 KiB.
const statusBytesMax = 16 << 20

// Fetch asks the node at host and control port for its status. The answer is
// also returned as it came. It ends with ctx, at the latest after 5 s.
func Fetch(ctx context.Context, host string, ctlPort uint16) (controlplane.Status, []byte, error) {
	var st controlplane.Status
	body, err := Get(ctx, host, ctlPort, "/v1/status", &st)
	return st, body, err
}

// Get is Fetch for any path that control ports answer; the answer goes into v.
func Get(ctx context.Context, host string, ctlPort uint16, path string, v any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addr := net.JoinHostPort(host, strconv.Itoa(int(ctlPort)))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrStatus, addr, err)
	}
	// Nodes refuse names that they do not know, which are of use to browsers only.
	req.Host = "localhost"
	// A connection of its own: control ports are asked rarely, and proxies are not meant.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrStatus, addr, dialled(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, statusBytesMax))
	if err != nil {
		return nil, fmt.Errorf("%w of %s: read answer: %w", ErrStatus, addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w of %s: %s: %.200q", ErrStatus, addr, resp.Status, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("%w of %s: decode answer: %w", ErrStatus, addr, err)
	}
	return body, nil
}

// dialled returns err, as ErrNotReached if no connection could be made. A name that
// does not exist says nothing about a node.
func dialled(err error) error {
	unknown := (*net.DNSError)(nil)
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" && !errors.As(err, &unknown) {
		return fmt.Errorf("%w: %w", ErrNotReached, dial)
	}
	return err
}
