package ctlport

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// Node is one node as ALLSTATUS and SELFSTATUS show it.
type Node struct {
	Name         string
	Port         int // -1: none, a slave
	CtlPort      int
	CUK          string
	CustomSeed   string
	Endpoints    string
	CtlEndpoints string
	ForwardPeers string
	ReversePeers string
	TLS          *TLS // nil: without
	Status       ring.Status
	StatusTime   time.Time // of the last change, shown in its own zone; zero: unknown
	BaseHash     int32     // dense index, -1: none
	PendingHash  int32     // likewise
}

// TLS is how a node encrypts. An empty path is shown as empty.
type TLS struct {
	VerifyPeer            bool
	CAPathIsDir           bool
	CAPath                string
	ServerCert, ServerKey string
	SlaveCert, SlaveKey   string
}

// All is the ring as ALLSTATUS shows it.
type All struct {
	Group   string
	Servers []Node // in ring order
}

// Self is a node as SELFSTATUS shows it.
type Self struct {
	Node
	ID            ring.ID
	Group         string
	Slave         bool
	PortSocket    int // descriptor of the listener, -1: none
	CtlSocket     int
	ToServers     int // servers that the node knows, itself included
	FromSlaves    int // links that other nodes opened to this one
	OnControlPort int // open connections
	Servers       Traffic
	Slaves        Traffic
}

// Traffic counts messages. Sizes and times are not measured and shown as 0.
type Traffic struct{ Sent, Received uint64 }

// Labels are padded to these columns, as CHMPX does.
const (
	allColumn  = 23
	selfColumn = 26
)

// lines collects "label = value" lines.
type lines struct {
	strings.Builder
	column int
}

func (l *lines) add(label, value string) {
	fmt.Fprintf(&l.Builder, "%-*s= %s\n", l.column, label, value)
}

func (l *lines) open(label string) { l.add(label, "{") }

// String returns the text of ALLSTATUS.
func (a All) String() string {
	l := &lines{column: allColumn}
	l.add("RING Name", a.Group)
	for i, s := range a.Servers {
		fmt.Fprintf(&l.Builder, "No.%d\n", i+1)
		l.add("  Server Name", s.Name)
		l.add("    Port", strconv.Itoa(s.Port))
		l.add("    Control Port", strconv.Itoa(s.CtlPort))
		l.names(s)
		l.add("    Use SSL", yesNo(s.TLS != nil))
		if s.TLS != nil {
			l.tls(s.TLS)
		}
		l.add("    Server Status", status(s.Status))
		l.add("    Last Update", lastUpdate(s.StatusTime))
		l.add("    Enable Hash Value", hashValue(s.BaseHash))
		l.add("    Pending Hash Value", hashValue(s.PendingHash))
	}
	return l.String()
}

// names are the lines that both commands have. The misspelling is CHMPX's, and
// programs that read this output look for it.
func (l *lines) names(s Node) {
	l.add("    CUK", s.CUK)
	l.add("    Custom ID Seed", s.CustomSeed)
	l.add("    Endpoints", s.Endpoints)
	l.add("    Control Endppoints", s.CtlEndpoints)
	l.add("    Forward Peers", s.ForwardPeers)
	l.add("    Reverse Peers", s.ReversePeers)
}

func (l *lines) tls(t *TLS) {
	kind := "CA file"
	if t.CAPathIsDir {
		kind = "CA directory"
	}
	l.add("    Verify Peer", yesNo(t.VerifyPeer))
	l.add("    CA path type", kind)
	l.add("    CA path", t.CAPath)
	l.add("    Server Cert", t.ServerCert)
	l.add("    Server Private Key", t.ServerKey)
	l.add("    Slave Cert", t.SlaveCert)
	l.add("    Slave Private Key", t.SlaveKey)
}

// String returns the text of SELFSTATUS. What is about message queues is 0:
// there are none.
func (s Self) String() string {
	mode := "Server"
	if s.Slave {
		mode = "Slave"
	}
	l := &lines{column: selfColumn}
	l.add("Server Name", s.Name)
	l.add("Internal ID", fmt.Sprintf("0x%x", uint64(s.ID)))
	l.add("RING Name", s.Group)
	l.add("Mode", mode)
	l.add("Maximum MQ Count", "0")
	l.add("Maximum Queue / Chmpx MQ", "0")
	l.add("Maximum Queue / Client MQ", "0")
	l.open("Status")
	l.add("    Server Status", status(s.Status))
	l.add("    Last Update", lastUpdate(s.StatusTime))
	l.WriteString("}\n")
	l.open("Hash")
	l.add("    Enable Hash Value", hashValue(s.BaseHash))
	l.add("    Pending Hash Value", hashValue(s.PendingHash))
	l.WriteString("}\n")
	l.open("Connection")
	l.add("    Port(socket)", portSocket(s.Port, s.PortSocket))
	l.add("    Control Port(socket)", portSocket(s.CtlPort, s.CtlSocket))
	l.names(s.Node)
	l.add("    SSL Connection", yesNo(s.TLS != nil))
	if s.TLS != nil {
		l.tls(s.TLS)
	}
	l.WriteString("}\n")
	l.open("Connection Count")
	l.add("    To Servers", strconv.Itoa(s.ToServers))
	l.add("    From Slaves", strconv.Itoa(s.FromSlaves))
	l.add("    On Control port", strconv.Itoa(s.OnControlPort))
	l.WriteString("}\n")
	l.open("Stats")
	l.traffic("    To(From) Servers", s.Servers)
	l.traffic("    To(From) Slaves", s.Slaves)
	l.WriteString("}\n")
	return l.String()
}

func (l *lines) traffic(label string, t Traffic) {
	l.open(label)
	l.add("        send count", fmt.Sprintf("%d count", t.Sent))
	l.add("        receive count", fmt.Sprintf("%d count", t.Received))
	for _, label := range []string{"total", "minimum", "maximum"} {
		l.add("        "+label, "0 bytes")
	}
	for _, label := range []string{"total", "minimum", "maximum"} {
		l.add("        "+label, "0s 0ns")
	}
	l.WriteString("    }\n")
}

func status(s ring.Status) string { return fmt.Sprintf("0x%x(%s)", uint32(s), s) }

// lastUpdate prints a time as CHMPX does; the number in brackets is seconds
// shifted by 24 bits, and microseconds.
func lastUpdate(t time.Time) string {
	if t.IsZero() {
		t = time.Unix(0, 0).In(t.Location())
	}
	us := t.Nanosecond() / 1000
	return fmt.Sprintf("%s %dms %dus(%d)", t.Format("2006-01-02 15h 04m 05s"), us/1000, us%1000, statusTime(t))
}

// statusTime packs a time as CHMPX does; zero: unknown.
func statusTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()<<24 | int64(t.Nanosecond()/1000)
}

// hashValue prints a place in the ring; none is CHMPX's highest number.
func hashValue(n int32) string { return fmt.Sprintf("0x%x", uint64(int64(n))) }

func portSocket(port, socket int) string {
	if socket < 0 {
		return fmt.Sprintf("%d(n/a)", port)
	}
	return fmt.Sprintf("%d(%d)", port, socket)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
