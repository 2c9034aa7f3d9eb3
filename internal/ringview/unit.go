package ringview

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/chmpx/chmpx/ring"
)

// Unit is one node in a DUMP.
type Unit struct {
	ID           ring.ID
	Name         string
	CtlPort      uint16
	CUK          string
	CustomSeed   string
	CtlEndpoints string
	BaseHash     string // as it is printed: 0, 0x1, or 0xffffffffffffffff for none
	PendingHash  string
	Sockets      int    // connections
	StatusTime   int64  // CHMPX's: seconds shifted by 24 bits, and microseconds
	Status       string // the five words in brackets
}

// Units is how one node sees itself and the others.
type Units struct {
	Self    Unit
	Servers []Unit // itself included, with its own connections to them
	Slaves  []Unit // and servers that have a connection to it
}

// UnitsOf takes the nodes out of a DUMP. The error wraps ErrDump.
func UnitsOf(dump *Section) (Units, error) {
	man := dump.Sub("chmpx_man")
	self, err := unitOf(man.Sub("chmpx_self"))
	if err != nil {
		return Units{}, err
	}
	u := Units{Self: self}
	for _, list := range []struct {
		label string
		to    *[]Unit
	}{{"chmpx_servers", &u.Servers}, {"chmpx_slaves", &u.Slaves}} {
		for _, item := range man.Sub(list.label).Items() {
			unit, err := unitOf(item.Sub("chmpx"))
			if err != nil {
				return Units{}, err
			}
			*list.to = append(*list.to, unit)
		}
	}
	return u, nil
}

func unitOf(s *Section) (Unit, error) {
	id, err := strconv.ParseUint(s.Value("chmpxid"), 0, 64)
	if err != nil {
		return Unit{}, fmt.Errorf("%w: chmpxid %.40q of a node", ErrDump, s.Value("chmpxid"))
	}
	ctlPort, err := strconv.ParseInt(s.Value("ctlport"), 10, 32)
	if err != nil {
		return Unit{}, fmt.Errorf("%w: ctlport %.40q of a node", ErrDump, s.Value("ctlport"))
	}
	_, status, _ := strings.Cut(s.Value("status"), "->")
	time, _ := strconv.ParseInt(s.Value("last_status_time"), 10, 64) // 0 where there is none
	u := Unit{
		ID: ring.ID(id), Name: s.Value("name"), CtlPort: uint16(ctlPort), // CHMPX prints 16 bits with a sign
		CUK: s.Value("cuk"), CustomSeed: s.Value("custom_seed"), CtlEndpoints: s.Value("ctlendpoints"),
		BaseHash: s.Value("base_hash"), PendingHash: s.Value("pending_hash"), StatusTime: time, Status: strings.TrimSpace(status),
	}
	for _, socket := range strings.Split(s.Value("sock"), ",") {
		if socket = strings.TrimSpace(socket); socket != "" && socket != "-1" {
			u.Sockets++
		}
	}
	return u, nil
}
