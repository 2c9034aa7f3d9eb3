// Package freeport gives tests TCP ports for nodes that end and come back, while
// other tests run in other processes.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Ports are taken below the range that the kernel gives to outgoing
// connections, so that none of those can take the port of a node that is down.
// They come in blocks. A process that uses a block holds a lock on a file for
// it, so that rings of several processes do not take each other's ports.
const (
	portLeast  = 12000
	portMost   = 32000
	blockPorts = 100
	blocks     = (portMost - portLeast) / blockPorts
)

// ports are those that this process may still give away.
var ports struct {
	mu    sync.Mutex // guards what follows
	left  []uint16
	locks []*os.File // open as long as the process lives
}

// Take returns n different ports that nobody listens on. No other ring of
// this host is given them while this process lives.
func Take(n int) ([]uint16, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	var given []uint16
	for len(given) < n {
		if len(ports.left) == 0 {
			if err := claimBlock(); err != nil {
				return nil, err
			}
		}
		port := ports.left[0]
		ports.left = ports.left[1:]
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue // somebody's who knows nothing of blocks
		}
		l.Close()
		given = append(given, port)
	}
	return given, nil
}

// claimBlock adds a block that nobody else has; ports.mu is held.
func claimBlock() error {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("chmpx-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("claim ports: %w", err)
	}
	for _, block := range rand.Perm(blocks) {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(block)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("claim ports: %w", err)
		}
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case errors.Is(err, syscall.EWOULDBLOCK):
			f.Close()
			continue
		case err != nil:
			f.Close()
			return fmt.Errorf("claim ports: %w", err)
		}
		ports.locks = append(ports.locks, f)
		for i := range blockPorts {
			ports.left = append(ports.left, uint16(portLeast+block*blockPorts+i))
		}
		return nil
	}
	return errors.New("freeport: other processes use all ports")
}
