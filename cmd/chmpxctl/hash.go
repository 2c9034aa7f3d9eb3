package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ring"
)

// askTimeout bounds looking for a node that answers, all nodes together.
const askTimeout = 3 * time.Second

func hashCommand() *cli.Command {
	return &cli.Command{
		Name:      "hash",
		Usage:     "show the hashes of a key, and who owns it",
		ArgsUsage: "KEY",
		Description: "Without more options it prints the two hashes of KEY. With -ctlport it asks\n" +
			"that node who owns the key. With -conf it also lists the ids of the servers,\n" +
			"and asks the nodes of the configuration, this host's first; when none\n" +
			"answers it shows who owns the key when all servers are in service.",
		Flags: append(targetFlags(), jsonFlag(),
			&cli.BoolFlag{Name: "hex", Usage: "KEY is written in hexadecimal digits, for bytes that are no text"}),
		Action: func(c *cli.Context) error { return show(c, hashOf) },
	}
}

// hashAnswer is what can be known of the owners of a key by what the options name.
type hashAnswer struct {
	Hash1   string          `json:"hash1"` // with 0x
	Hash2   string          `json:"hash2"`
	Servers []namedID       `json:"servers,omitempty"` // of the configuration, and this host's slave
	By      string          `json:"by,omitempty"`      // where the owners come from
	Owners  *ctlport.Owners `json:"owners,omitempty"`
}

// namedID is the id of a node, in hexadecimal digits.
type namedID struct {
	ID   string `json:"id"`
	Node string `json:"node"`
	Role string `json:"role"` // server or slave
}

func hashOf(c *cli.Context) (answer, error) {
	key, err := keyOf(c)
	if err != nil {
		return nil, err
	}
	a := hashAnswer{Hash1: fmt.Sprintf("0x%016x", ring.Hash(key)), Hash2: fmt.Sprintf("0x%016x", ring.SecondHash(key))}
	if err := a.findOwners(c, ring.Hash(key)); err != nil {
		return nil, err
	}
	return a, nil
}

// keyOf returns the bytes of the key.
func keyOf(c *cli.Context) ([]byte, error) {
	switch n := c.NArg(); {
	case n == 0:
		return nil, usagef("hash: which key? write it behind the options")
	case n > 1:
		return nil, usagef("hash: one key is needed, not %d words; options come before it, and a key with blanks goes in quotes", n)
	case !c.Bool("hex"):
		return []byte(c.Args().First()), nil
	}
	key, err := hex.DecodeString(strings.TrimPrefix(c.Args().First(), "0x"))
	if err != nil {
		return nil, usagef("hash: %q: -hex needs an even number of the digits 0-9 and a-f", c.Args().First())
	}
	return key, nil
}

// findOwners adds what the node says that the options name, or the configuration.
func (a *hashAnswer) findOwners(c *cli.Context, hash uint64) error {
	if ctlPortOf(c) > 0 {
		t, err := targetOf(c)
		if err != nil {
			return err
		}
		return a.ask(c.Context, t, hash)
	}
	source, err := config.FindSource(c.String("conf"), "")
	if errors.Is(err, config.ErrNoSource) {
		return nil
	}
	if err != nil {
		return &usageError{err}
	}
	cfg, _, err := config.Load(source)
	if err != nil {
		return usagef("read configuration: %w", err)
	}
	servers, err := serversOf(cfg)
	if err != nil {
		return err
	}
	a.Servers = idsOf(cfg, servers, c.String("cuk"))
	ctx, cancel := context.WithTimeout(c.Context, askTimeout)
	defer cancel()
	for _, t := range nodesOf(c, cfg) {
		if err := a.ask(ctx, t, hash); err == nil && a.Owners.Group == cfg.Group {
			return nil
		}
	}
	o, err := planned(cfg, servers, hash)
	a.By, a.Owners = "the configuration: no node of it answers, and this is a new ring with all servers in service", &o
	return err
}

// ask adds who owns a hash by the table of a node.
func (a *hashAnswer) ask(ctx context.Context, t target, hash uint64) error {
	o, err := askOwners(ctx, t, hash)
	a.By, a.Owners = fmt.Sprintf("the table of %s:%d", t.host, t.ctlPort), &o
	return err
}

func askOwners(ctx context.Context, t target, hash uint64) (ctlport.Owners, error) {
	var o ctlport.Owners
	_, err := ringview.Get(ctx, t.host, t.ctlPort, "/v1/owners?hash=0x"+strconv.FormatUint(hash, 16), &o)
	return o, err
}

// nodesOf lists whom to ask: this host's node, then the servers.
func nodesOf(c *cli.Context, cfg *config.Config) []target {
	var all []target
	if self, err := cfg.SelfNode(0, c.String("cuk")); err == nil {
		all = append(all, target{c.String("host"), uint16(self.CtlPort)})
	}
	for _, s := range cfg.Servers {
		all = append(all, target{s.Name, uint16(s.CtlPort)})
	}
	return all
}

// serversOf returns the configured servers with their ids, in ring order.
func serversOf(cfg *config.Config) ([]ring.Server, error) {
	idType, err := ring.ParseIDType(cfg.IDType)
	if err != nil {
		return nil, fmt.Errorf("read CHMPXIDTYPE: %w", err)
	}
	all := make([]ring.Server, 0, len(cfg.Servers))
	for _, s := range cfg.Servers {
		id := ring.Identity{Name: s.Name, CtlPort: uint16(s.CtlPort), CUK: s.CUK, CtlEndpoints: s.CtlEndpoints, CustomSeed: s.CustomSeed}
		all = append(all, ring.Server{ID: ring.NodeID(cfg.Group, idType, id), Identity: id, Status: ring.ServiceIn | ring.Up})
	}
	slices.SortFunc(all, func(a, b ring.Server) int {
		if ring.Less(idType, a.Identity, b.Identity) {
			return -1
		}
		return 1
	})
	for i := range all {
		all[i].Number, all[i].BaseHash, all[i].PendingHash = uint16(i), int32(i), int32(i)
	}
	return all, nil
}

// planned returns the owners in a new ring of all servers.
func planned(cfg *config.Config, servers []ring.Server, hash uint64) (ctlport.Owners, error) {
	numbers := make([]uint16, len(servers))
	for i := range numbers {
		numbers[i] = uint16(i)
	}
	base := ring.Interleaved(ring.DefaultSlots, cfg.Replica+1, numbers)
	if strings.EqualFold(cfg.Placement, "chmpx") {
		base = ring.Modulo(cfg.Replica+1, numbers)
	}
	t, err := ring.NewTable(ring.Table{Group: cfg.Group, Servers: servers, Base: base, Random: strings.EqualFold(cfg.DeliverMode, "random")})
	if err != nil {
		return ctlport.Owners{}, fmt.Errorf("make the table of the configuration: %w", err)
	}
	return ctlport.OwnersOf(t, hash), nil
}

// idsOf lists the servers, and this host's node if it is a slave.
func idsOf(cfg *config.Config, servers []ring.Server, cuk string) []namedID {
	var all []namedID
	for _, s := range servers {
		all = append(all, namedID{s.ID.String(), fmt.Sprintf("%s:%d", s.Name, s.CtlPort), "server"})
	}
	if self, err := cfg.SelfNode(0, cuk); err == nil && !self.Server {
		all = append(all, namedID{selfID(cfg, self).String(), fmt.Sprintf("%s:%d", self.Name, self.CtlPort), "slave"})
	}
	return all
}

func (a hashAnswer) print(w io.Writer, _ bool) error {
	fmt.Fprintf(w, "hash1  %s\nhash2  %s\n", a.Hash1, a.Hash2)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, n := range a.Servers {
		if i == 0 {
			fmt.Fprintln(tw, "\nCHMPXID\tNODE")
		}
		if n.Role == "slave" {
			n.Node += " (slave)"
		}
		fmt.Fprintf(tw, "%s\t%s\n", n.ID, n.Node)
	}
	if err := tw.Flush(); err != nil || a.Owners == nil {
		return err
	}
	return printOwners(w, *a.Owners, a.By)
}

func printOwners(w io.Writer, o ctlport.Owners, source string) error {
	fmt.Fprintf(w, "\nby %s\n", source)
	if o.Slot < 0 {
		_, err := fmt.Fprintln(w, "nobody owns the key: no server is in service")
		return err
	}
	fmt.Fprintf(w, "slot %d of %d\n", o.Slot, o.Slots)
	if o.Random {
		fmt.Fprintln(w, "DELIVERMODE is random: messages go to all servers in turns, only replicated ones by hash")
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "OWNER\tBASE\tSTATUS\tDATA\tANSWERS")
	for _, owner := range o.Owners {
		data, answers := "in sync", "no"
		if !owner.InSync {
			data = "not in sync"
		}
		if owner.Acting {
			answers = "yes"
		}
		base := "-"
		if owner.BaseHash >= 0 {
			base = strconv.Itoa(int(owner.BaseHash))
		}
		fmt.Fprintf(tw, "%s:%d\t%s\t%s\t%s\t%s\n", owner.Name, owner.CtlPort, base,
			strings.TrimPrefix(owner.Status.String(), "SAFE -> "), data, answers)
	}
	return tw.Flush()
}
