package ctlport

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// Dump is all that a node knows, as DUMP shows it. CHMPX prints its shared
// memory; what this node has no counterpart of is shown as 0 or n/a.
type Dump struct {
	Self    Self
	Servers []Peer    // in ring order, this node with them
	Slaves  []Peer    // whose links this node has accepted: servers, too
	Base    []ring.ID // servers in service, by their number
	Pending []ring.ID // what the next merge makes of it

	Operating bool // a merge runs
	Revision  int
	Date      time.Time // of the configuration; zero: not given
	NodesMax  int
	Replica   int
	Options   Options
	PID       int
	Start     time.Time // of the process
	Programs  []int     // attached, by process id
}

// Options are what a node was configured with or told.
type Options struct {
	IDType       ring.IDType
	Random       bool // DELIVERMODE
	AutoMerge    bool
	SuspendMerge bool // SUSPENDMERGE is on
	DoMerge      bool
	MergeTimeout time.Duration
	History      int // records that TRACE keeps
}

// Peer is a node that another one knows.
type Peer struct {
	Node
	ID     ring.ID
	Slave  bool
	Socket int // descriptor of the link, -1: none
}

// Columns of DUMP: of what is about the process, and of a node.
const (
	dumpColumn = 21
	manColumn  = 19
	unitColumn = 17
	statColumn = 21
)

// Where CHMPX prints the address of a list, programs see by it whether the list
// is empty.
const (
	listEmpty = "0"
	listThere = "0x1"
)

// dump collects the lines of DUMP.
type dump struct{ strings.Builder }

// line prints one value; depth is that of its braces.
func (d *dump) line(depth, column int, label, value string) {
	fmt.Fprintf(&d.Builder, "%*s%-*s= %s\n", 2*depth, "", column, label, value)
}

func (d *dump) text(depth int, text string) { fmt.Fprintf(&d.Builder, "%*s%s\n", 2*depth, "", text) }

const dumpRule = "=========================================================================="

// String returns the text of DUMP.
func (m Dump) String() string {
	d := &dump{}
	d.text(0, dumpRule)
	m.process(d)
	d.text(0, "chmpx_man{")
	m.ring(d)
	d.text(0, "}")
	d.processes(m.Programs)
	for _, k := range [][2]string{
		{"free_pids", listEmpty}, {"k2hash full map", "no"}, {"init k2h mask bit", "0"}, {"init k2h cmask bit", "0"},
		{"k2hash max element", "0"}, {"history log count", strconv.Itoa(m.Options.History)},
	} {
		d.line(0, dumpColumn, k[0], k[1])
	}
	d.text(0, dumpRule)
	return d.String()
}

// process is what CHMPX says about a process and its memory.
func (m Dump) process(d *dump) {
	o := m.Options
	for _, k := range [][2]string{
		{"pid", strconv.Itoa(m.PID)}, {"start_time", strconv.FormatInt(m.Start.Unix(), 10)},
		{"chmpxid_type", strings.ToLower(o.IDType.String())}, {"is_random_deliver", strconv.FormatBool(o.Random)},
		{"automerge in conf", yesNo(o.AutoMerge)}, {"suspend automerge", yesNo(o.SuspendMerge)}, {"domerge in conf", yesNo(o.DoMerge)},
		{"SSL/TLS min version", "(default)"}, {"NSSDB dir path", ""}, {"socket thread count", "0"}, {"MQ thread count", "0"},
		{"max_mqueue", "0"}, {"chmpx_mqueue", "0"}, {"max_q_per_chmpxmq", "0"}, {"max_q_per_cltmq", "0"}, {"max_mq_per_client", "0"},
		{"mq_per_attach", "0"}, {"mq_ack", "n/a"}, {"Max socket pool", "0"}, {"sock pool timeout", "0"}, {"sock retry count", "0"},
		{"sock timeout", "0"}, {"connect timeout", "0"}, {"MQ retry count", "0"}, {"MQ timeout", "0"},
		{"merge timeout", strconv.Itoa(int(o.MergeTimeout / time.Second))}, {"base_msgid", "0"},
		{"chmpx_msg_count", "0"}, {"chmpx_msgs", listEmpty}, {"activated_msg_count", "0"}, {"activated_msgs", listEmpty},
		{"assigned_msg_count", "0"}, {"assigned_msgs", listEmpty}, {"free_msg_count", "0"}, {"free_msgs", listEmpty},
		{"last_msgid_chmpx", none}, {"last_msgid_activated", none}, {"last_msgid_assigned", none},
	} {
		d.line(0, dumpColumn, k[0], k[1])
	}
}

// none is how CHMPX prints an id or a number that there is not.
const none = "0xffffffffffffffff"

// ring is what the node knows of itself and the others. chmpxlinetool reads
// it, key by key in this order.
func (m Dump) ring(d *dump) {
	date := int64(0)
	if !m.Date.IsZero() {
		date = m.Date.Unix()
	}
	add := func(label, value string) { d.line(1, manColumn, label, value) }
	add("group", m.Self.Group)
	add("cfg_revision", strconv.Itoa(m.Revision))
	add("cfg_date", strconv.FormatInt(date, 10))
	add("replica_count", strconv.Itoa(m.Replica))
	add("chmpx_count", strconv.Itoa(m.NodesMax))
	d.numbered("chmpx_base_srvs", m.Base)
	d.numbered("chmpx_pend_srvs", m.Pending)
	add("chmpx_self", listThere)
	d.text(1, "{")
	d.unit(2, Peer{Node: m.Self.Node, ID: m.Self.ID, Slave: m.Self.Slave, Socket: -1}, m.Self)
	d.text(1, "}")
	add("chmpx_bhash_count", strconv.Itoa(len(m.Base)))
	m.peers(d, "chmpx_server_count", "chmpx_servers", m.Servers)
	m.peers(d, "chmpx_slave_count", "chmpx_slaves", m.Slaves)
	add("chmpx_free_count", strconv.Itoa(max(0, m.NodesMax-len(m.Servers)-len(m.Slaves))))
	add("chmpx_frees", listEmpty)
	add("sock_free_count", "0")
	add("sock_frees", listEmpty)
	add("is_operating", yesNo(m.Operating))
	add("last_chmpxid", none)
	d.traffic("server_stat", m.Self.Servers)
	d.traffic("slave_stat", m.Self.Slaves)
}

// numbered prints servers by their number.
func (d *dump) numbered(label string, ids []ring.ID) {
	there := listEmpty
	if len(ids) > 0 {
		there = listThere
	}
	d.line(1, manColumn, label, there)
	d.text(1, fmt.Sprintf("[%d] {", len(ids)))
	for i, id := range ids {
		d.text(2, fmt.Sprintf("[%d] = 0x%x", i, uint64(id)))
	}
	d.text(1, "}")
}

// peers prints a list of nodes: without a block when it is empty.
func (m Dump) peers(d *dump, count, label string, all []Peer) {
	d.line(1, manColumn, count, strconv.Itoa(len(all)))
	if len(all) == 0 {
		d.line(1, manColumn, label, listEmpty)
		return
	}
	d.line(1, manColumn, label, listThere)
	d.text(1, "{")
	for i, p := range all {
		d.text(2, fmt.Sprintf("[%d] = {", i))
		d.text(3, "chmpx{")
		d.unit(4, p, m.Self)
		d.text(3, "}")
		d.text(2, "}")
	}
	d.text(1, "}")
}

// unit prints one node. Every key is there always: who reads them looks for the
// next one as far as it takes.
func (d *dump) unit(depth int, p Peer, self Self) {
	mode := "server"
	if p.Slave {
		mode = "slave"
	}
	listener, control := -1, -1
	if p.ID == self.ID {
		listener, control = self.PortSocket, self.CtlSocket
	}
	tls := TLS{}
	if p.TLS != nil {
		tls = *p.TLS
	}
	for _, k := range [][2]string{
		{"chmpxid", fmt.Sprintf("0x%x", uint64(p.ID))}, {"name", p.Name}, {"mode", mode},
		{"base_hash", place(p.BaseHash)}, {"pending_hash", place(p.PendingHash)},
		{"port", strconv.Itoa(p.Port)}, {"ctlport", strconv.Itoa(p.CtlPort)}, {"cuk", p.CUK}, {"custom_seed", p.CustomSeed},
		{"endpoints", p.Endpoints}, {"ctlendpoints", p.CtlEndpoints}, {"forward_peers", p.ForwardPeers}, {"reverse_peers", p.ReversePeers},
		{"is_ssl", strconv.FormatBool(p.TLS != nil)}, {"verify_peer", strconv.FormatBool(tls.VerifyPeer)},
		{"is_ca_file", strconv.FormatBool(p.TLS != nil && !tls.CAPathIsDir)}, {"capath", tls.CAPath},
		{"server_cert", tls.ServerCert}, {"server_prikey", tls.ServerKey}, {"slave_cert", tls.SlaveCert}, {"slave_prikey", tls.SlaveKey},
		{"sock", strconv.Itoa(p.Socket)}, {"ctlsock", "-1"}, {"selfsock", strconv.Itoa(listener)}, {"selfctlsock", strconv.Itoa(control)},
		{"last_status_time", strconv.FormatInt(statusTime(p.StatusTime), 10)}, {"status", p.Status.String()},
	} {
		d.line(depth, unitColumn, k[0], k[1])
	}
}

// traffic prints counts; sizes and times are not measured.
func (d *dump) traffic(label string, t Traffic) {
	d.text(1, label+"{")
	for _, k := range [][2]string{
		{"total_sent_count", strconv.FormatUint(t.Sent, 10)}, {"total_received_count", strconv.FormatUint(t.Received, 10)},
		{"total_body_bytes", "0"}, {"min_body_bytes", "0"}, {"max_body_bytes", "0"},
		{"total_elapsed_time", "0s 0ns"}, {"min_elapsed_time", "0s 0ns"}, {"max_elapsed_time", "0s 0ns"},
	} {
		d.line(2, statColumn, k[0], k[1])
	}
	d.text(1, "}")
}

// processes prints the attached programs.
func (d *dump) processes(pids []int) {
	if len(pids) == 0 {
		d.line(0, dumpColumn, "client_pids", listEmpty)
		return
	}
	d.line(0, dumpColumn, "client_pids", listThere)
	d.text(0, "{")
	for i, pid := range pids {
		d.text(1, fmt.Sprintf("[%d] = {", i))
		d.text(2, "pid  = "+strconv.Itoa(pid))
		d.text(1, "}")
	}
	d.text(0, "}")
}

// place prints a number as C prints a pointer: 0 without 0x.
func place(n int32) string {
	if n == 0 {
		return "0"
	}
	return hashValue(n)
}
