package ctlport

import (
	"strconv"

	"github.com/chmpx/chmpx/ring"
)

// Owners says who owns a hash, as GET /v1/owners?hash=... returns it.
type Owners struct {
	Hash   string     `json:"hash"`  // hexadecimal, with 0x
	Group  string     `json:"group"` // of the table; empty: the node has none
	Slot   int        `json:"slot"`  // -1: nobody is in service
	Slots  int        `json:"slots"`
	Random bool       `json:"random"` // DELIVERMODE=random: only replicated messages go by hash
	Epoch  ring.Epoch `json:"epoch"`  // of the table
	Owners []Owner    `json:"owners"` // in order of preference
}

// Owner is one owner of a hash.
type Owner struct {
	ID       ring.HexID  `json:"id"`
	Name     string      `json:"name"`
	CtlPort  uint16      `json:"ctlport"`
	BaseHash int32       `json:"base_hash"` // position among the servers in service, -1: none
	Status   ring.Status `json:"status"`
	InSync   bool        `json:"in_sync"` // has the data
	Acting   bool        `json:"acting"`  // answers now
}

// OwnersOf looks a hash up in a table, which may be nil.
func OwnersOf(t *ring.Table, hash uint64) Owners {
	o := Owners{Hash: "0x" + strconv.FormatUint(hash, 16), Slot: -1, Owners: []Owner{}}
	if t == nil {
		return o
	}
	o.Group, o.Epoch, o.Random, o.Slot = t.Group, t.Epoch, t.Random, t.Slot(hash)
	if o.Slot < 0 {
		return o
	}
	o.Slots = t.Base.Slots()
	for k, number := range t.Base.Of(o.Slot) {
		i := t.IndexOfNumber(number) // known: tables are checked when they are made
		s := t.Servers[i]
		o.Owners = append(o.Owners, Owner{
			ID: ring.HexID(s.ID), Name: s.Name, CtlPort: s.CtlPort, BaseHash: s.BaseHash, Status: s.Status,
			InSync: t.Base.InSync[o.Slot]&(1<<k) != 0, Acting: i == t.ActingSlot(o.Slot),
		})
	}
	return o
}
