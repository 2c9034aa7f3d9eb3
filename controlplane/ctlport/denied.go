package ctlport

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the log about denied hosts.
const (
	deniedEvery = time.Minute // at most one line for an address
	deniedMax   = 1024        // addresses that are told apart
)

// denials remembers which addresses the log has had.
type denials struct {
	mu     sync.Mutex // guards logged
	logged map[netip.Addr]time.Time
}

// due reports whether a line about this peer is to be written now. Peers
// beyond 1,024 in a minute are taken for one.
func (d *denials) due(remote net.Addr) bool {
	var a netip.Addr // of peers that have none, and of those beyond the bound
	if peer, err := netip.ParseAddrPort(remote.String()); err == nil {
		a = plain(peer.Addr())
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.logged[a]; !known && len(d.logged) >= deniedMax {
		for a, at := range d.logged {
			if now.Sub(at) >= deniedEvery {
				delete(d.logged, a)
			}
		}
		if len(d.logged) >= deniedMax {
			a = netip.Addr{}
		}
	}
	if at, known := d.logged[a]; known && now.Sub(at) < deniedEvery {
		return false
	}
	d.logged[a] = now
	return true
}
