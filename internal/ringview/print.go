package ringview

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/ring"
)

// Print writes a status as people read it: the node itself, whether the ring
// can commit changes, a table of the servers, the slaves, the running merge.
func Print(w io.Writer, st controlplane.Status) error {
	var b strings.Builder
	fmt.Fprintf(&b, "node       %s (%s) of group %s, id %s, incarnation %d, %s\n",
		st.Name, st.Role, st.Group, st.ID, st.Incarnation, count(st.Programs, "program"))
	fmt.Fprintf(&b, "table      epoch %s, version %d, ring %s\n", st.Epoch, st.Version, st.RingID)
	if p := st.Params; p != nil {
		fmt.Fprintf(&b, "values     PLACEMENT %s, DELIVERMODE %s, REPLICA %d, CHMPXIDTYPE %s, DOMERGE %s, AUTOMERGE %s\n",
			p.Placement, p.DeliverMode, p.Replica, p.IDType, onOff(p.DoMerge), onOff(p.AutoMerge))
	}
	fmt.Fprintf(&b, "raft       %s, %s, leader %s, term %d, commit %d, applied %d\n",
		st.Raft.Role, st.Raft.Suffrage, orNone(st.Raft.Leader), st.Raft.Term, st.Raft.Commit, st.Raft.Applied)
	fmt.Fprintf(&b, "quorum     %s\n", Quorum(st))
	if st.WaitsFor != "" {
		fmt.Fprintf(&b, "waits for  %s\n", st.WaitsFor)
	}
	switch {
	case st.SuspendMerge:
		b.WriteString("automerge  ignored: SUSPENDMERGE is on\n")
	case st.MergeHeld && copying(st) && st.Params != nil && st.Params.AutoMerge:
		b.WriteString("automerge  waits for COMPMERGE, another command or a change of membership, after NOSUSPENDMERGE\n")
	case st.MergeHeld && st.Params != nil && st.Params.AutoMerge:
		b.WriteString("automerge  waits for the next command or change of membership, after ABORTMERGE or NOSUSPENDMERGE\n")
	}
	for _, warning := range st.Warnings {
		fmt.Fprintf(&b, "warning    %s\n", warning)
	}
	b.WriteByte('\n')
	printServers(&b, st.Servers)
	printSlaves(&b, st.Slaves)
	if st.Merge != nil {
		printMerge(&b, st)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Quorum returns in words whether changes of the ring can be committed.
func Quorum(st controlplane.Status) string {
	q := st.Quorum
	missing := ""
	if len(q.Missing) > 0 {
		missing = " (missing " + strings.Join(q.Missing, ", ") + ")"
	}
	state := "no quorum: "
	switch {
	case q.OK:
		state = "ok: "
	case q.Voters == 0:
		return "none: this node belongs to no ring yet"
	case q.Have >= q.Need:
		state = "no leader: "
	}
	return fmt.Sprintf("%s%d of %d voters%s", state, q.Have, q.Voters, missing)
}

func printServers(b *strings.Builder, servers []controlplane.ServerStatus) {
	if len(servers) == 0 {
		b.WriteString("no server is a member yet\n")
		return
	}
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SERVER\tADDRESS\tSTATUS\tBASE\tINCARNATION\tLINK\tRAFT")
	for _, s := range servers {
		raft := s.Raft
		if s.Leader {
			raft = "leader"
		}
		fmt.Fprintf(tw, "%s:%d\t%s\t%s\t%s\t%d\t%s\t%s\n",
			s.Name, s.CtlPort, s.Addr, words(s.Status), index(s.BaseHash), s.Incarnation, s.Link, raft)
	}
	tw.Flush()
}

func printSlaves(b *strings.Builder, slaves []controlplane.SlaveStatus) {
	for i, s := range slaves {
		if i == 0 {
			b.WriteString("\nSLAVE\n")
		}
		state := "down"
		if s.Up {
			state = "up"
		}
		fmt.Fprintf(b, "%s:%d  %s  %s\n", s.Name, s.CtlPort, s.ID, state)
	}
}

func printMerge(b *strings.Builder, st controlplane.Status) {
	names := map[string]string{}
	for _, s := range st.Servers {
		names[s.ID.String()] = fmt.Sprintf("%s:%d", s.Name, s.CtlPort)
	}
	fmt.Fprintf(b, "\nmerge %d is %s\n", st.Merge.ID, st.Merge.Phase)
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	partial := false
	for _, t := range st.Merge.Transfers {
		if t.Partial {
			partial = true
			fmt.Fprintf(tw, "  %s\t-> %s\t%d slots\tpartial: who has the data is down or without program\t\n", names[t.Donor.String()], names[t.Receiver.String()], t.Slots)
			continue
		}
		fmt.Fprintf(tw, "  %s\t-> %s\t%d slots\tready %t\tfinal %t\n", names[t.Donor.String()], names[t.Receiver.String()], t.Slots, t.Ready, t.Final)
	}
	tw.Flush()
	if st.Merge.Stalled > 0 {
		fmt.Fprintf(b, "  stalled: no progress for %d s\n", st.Merge.Stalled)
	}
	if partial && !st.Merge.Forced {
		b.WriteString("  COMPMERGE FORCE (chmpxctl merge complete --force) goes on without that data\n")
	}
	if auto := st.Params != nil && st.Params.AutoMerge && !st.SuspendMerge && !st.MergeHeld; copying(st) && !auto {
		b.WriteString("  COMPMERGE (chmpxctl merge complete) completes it, once all servers are Done\n")
	}
}

// copying reports whether a merge runs that somebody has to complete.
func copying(st controlplane.Status) bool {
	return st.Merge != nil && st.Merge.Phase == ring.MergeCopying.String()
}

// words leaves out what every status begins with.
func words(status string) string { return strings.TrimPrefix(status, "SAFE -> ") }

// index prints a place in the ring, "-" for none.
func index(n int32) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
