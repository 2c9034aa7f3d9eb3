package ctlport

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// Change is what an operator asks of the ring.
type Change struct {
	// Name of the command: SERVICEIN, SERVICEOUT, MERGE, COMPMERGE, ABORTMERGE,
	// SUSPENDMERGE, NOSUSPENDMERGE, UPDATESTATUS, NODERESTART, NODEREPLACE or NODEFORGET.
	Name   string
	Server ServerRef     // of SERVICEOUT and NODE...: whom; of NODERESTART zero: the node that is asked
	By     ServerRef     // of NODEREPLACE: who is to take its place
	Hold   time.Duration // of NODERESTART: how long it is waited for
	Force  bool          // of COMPMERGE: go on without data that nobody can give
}

// ChangesServer reports whether a command is about the server that its first
// parameter names.
func ChangesServer(command string) bool {
	_, node := nodeUsage[command]
	return node || command == "SERVICEOUT"
}

// ServerRef is how an operator calls a server. The commands that CHMPX has not
// take a host or a control port alone, too, where only one server has it.
type ServerRef struct {
	Host    string // NAME, or what resolves to an address of it; empty: not given
	CtlPort uint16 // 0: not given
	More    string // CUK, CTLENDPOINTS or CUSTOM_ID_SEED, by CHMPXIDTYPE; empty: not given, or of no meaning
}

// String returns how messages call who is meant.
func (r ServerRef) String() string {
	switch {
	case r == ServerRef{}:
		return "this node"
	case r.CtlPort == 0:
		return strconv.Quote(r.Host)
	case r.Host == "":
		return fmt.Sprintf("by control port %d", r.CtlPort)
	}
	return fmt.Sprintf("%q with control port %d", r.Host, r.CtlPort)
}

// Matches reports whether what the reference says beside the host is true of a server.
func (r ServerRef) Matches(t ring.IDType, s ring.Identity) bool {
	if r.CtlPort != 0 && r.CtlPort != s.CtlPort {
		return false
	}
	switch t {
	case ring.IDByCUK:
		return r.More == "" || r.More == s.CUK
	case ring.IDByCtlEndpoints:
		return r.More == "" || r.More == s.CtlEndpoints
	case ring.IDByCustom:
		return r.More == "" || r.More == s.CustomSeed
	}
	return true
}

// Verdict is how a change went.
type Verdict uint8

// The verdicts.
const (
	Done         Verdict = iota // the ring has it
	DoneAlone                   // so it is, and there is no other server that is up
	AlreadyOut                  // SERVICEOUT of a server that is down and out of service: nothing to do
	Operating                   // a merge runs
	WrongStatus                 // the server's status does not allow it
	SomeServers                 // the status of some servers does not allow it now
	NoSuchServer                // the ring has no server of this name
	LastServer                  // SERVICEOUT of the only server in service
	Failed                      // no answer of the ring in time
)

// Outcome is how a change went and, unless it was done, why in plain words.
type Outcome struct {
	Verdict Verdict
	Reason  string
}

// Replies, in CHMPX's words.
const (
	replyDone          = "SUCCEED\n"
	replyNobody        = "SUCCEED: There no server on RING.\n"
	replyAlone         = "SUCCEED: Send status notice to no server on RING.\n"
	replyAlreadyOut    = "SUCCEED: Already server has been SERVICEOUT.\n"
	replyParameters    = "ERROR: Parameters are wrong.\n"
	replySlave         = "ERROR: The command can not be executed on the slave node.\n"
	replyNeedsServer   = "ERROR: SERVICEOUT command must have parameter as server/ctlport.(ex: \"SERVICEOUT servername.fqdn:ctlport\")\n"
	replyNoSuchServer  = "ERROR: There is no such as server.\n"
	replyOperating     = "ERROR: Could not change status, because server is operating now.\n"
	replyWrongStatus   = "ERROR: Could not change status, because status is not allowed.\n"
	replySomeServers   = "ERROR: Could not change status, because some servers could not be changed its status now.\n"
	replyLastServer    = "ERROR: Failed to send status notice to other servers.\n"
	replyFailedOnRing  = "ERROR: Something error is occured in sending/receiving data on RING.\n"
	replyFailedMerge   = "ERROR: Failed to start merging.\n"
	replyFailedAbort   = "ERROR: Failed to stop merging.\n"
	replyFailedComp    = "ERROR: Failed to complete merging.\n"
	replyFailedSuspend = "ERROR: Could not suspend merge automatically.\n"
	replyFailedResume  = "ERROR: Could not nosuspend merge automatically.\n"
	replyFailedServer  = "ERROR: Failed to change server status.\n"
	replyFailedUpdate  = "ERROR: Could not send self status to other servers in RING.\n"
)

// Said to a host with rights that do not reach; CHMPX has no such answer.
const (
	replyReadOnly  = "ERROR: The command can not be executed by this host.\n"
	reasonReadOnly = "this host may only look: it is a slave's, and CTLSLAVES = readonly"
)

// replies are the first lines that do not depend on the command.
var replies = map[Verdict]string{
	Done: replyDone, AlreadyOut: replyAlreadyOut, Operating: replyOperating, WrongStatus: replyWrongStatus,
	SomeServers: replySomeServers, NoSuchServer: replyNoSuchServer, LastServer: replyLastServer,
}

// change is a command that changes the ring.
type change struct {
	alone   string // reply to success when there is no other server
	failed  string // reply when the ring did not answer
	onSlave string // reply of a slave, which does not do it; empty: a slave hands it on
}

var changes = map[string]change{
	"SERVICEIN":      {replyAlone, replyFailedOnRing, replySlave},
	"SERVICEOUT":     {replyDone, replyFailedOnRing, ""},
	"MERGE":          {replyNobody, replyFailedMerge, replyNobody},
	"COMPMERGE":      {replyNobody, replyFailedComp, replyNobody},
	"ABORTMERGE":     {replyNobody, replyFailedAbort, replyNobody},
	"SUSPENDMERGE":   {replyDone, replyFailedSuspend, replySlave},
	"NOSUSPENDMERGE": {replyDone, replyFailedResume, replySlave},
	"UPDATESTATUS":   {replyNobody, replyFailedUpdate, replySlave},
	"NODERESTART":    {replyDone, replyFailedServer, replySlave},
	"NODEREPLACE":    {replyDone, replyFailedServer, replySlave},
	"NODEFORGET":     {replyDone, replyFailedServer, replySlave},
}

// nodeUsage says how the commands about a server are written that CHMPX has not.
var nodeUsage = map[string]string{
	"NODERESTART": "NODERESTART [host:ctlport] [HOLD], HOLD as in 30s, which is the default; this node where no server is named",
	"NODEREPLACE": "NODEREPLACE host:ctlport host:ctlport, the second one takes the place of the first; one of both will do where only one server has it",
	"NODEFORGET":  "NODEFORGET host:ctlport; one of both will do where only one server has it",
}

// defaultHold is how long a restart is waited for unless the operator says.
const defaultHold = 30 * time.Second

// Reply returns what an operator reads: the first line is CHMPX's, a refusal
// has a second one that says why.
func (o Outcome) Reply(command string) string {
	first := replies[o.Verdict]
	switch o.Verdict {
	case DoneAlone:
		first = changes[command].alone
	case Failed:
		first = changes[command].failed
	}
	if o.Reason == "" || strings.HasPrefix(first, "SUCCEED") {
		return first
	}
	return first + "REASON: " + strings.ReplaceAll(o.Reason, "\n", " ") + "\n"
}

// parse reads the parameters of a command that changes the ring. What is wrong
// is answered with reply.
func (c Command) parse(t ring.IDType) (what Change, reply string) {
	what.Name = c.Name
	usage, node := nodeUsage[c.Name]
	switch {
	case c.Name == "COMPMERGE":
		what.Force = len(c.Args) > 0 && strings.EqualFold(c.Args[0], "FORCE")
		return what, ""
	case !ChangesServer(c.Name):
		return what, ""
	}
	wrong := func(why string) (Change, string) {
		return what, replyParameters + "REASON: " + why + "\n"
	}
	var args []string
	if what.Hold, args, reply = c.hold(); reply != "" {
		return wrong(reply + "; " + usage)
	}
	named := []*ServerRef{&what.Server}
	switch {
	case c.Name == "NODEREPLACE":
		named = append(named, &what.By)
	case c.Name == "NODERESTART" && len(args) == 0:
		return what, ""
	}
	for _, ref := range named {
		if node {
			*ref, reply = parseAnyServer(args, t)
		} else {
			*ref, reply = parseServer(args, t)
		}
		if node && (reply == replyNeedsServer || reply == replyParameters) {
			return wrong(usage)
		} else if reply != "" {
			return what, reply
		}
		args = args[1:]
	}
	return what, ""
}

// hold takes HOLD out of the words behind NODERESTART, where it is the second or
// the only one, and returns the others; wrong says that it is no duration. Of the
// other commands all words are others.
func (c Command) hold() (hold time.Duration, others []string, wrong string) {
	if c.Name != "NODERESTART" {
		return 0, c.Args, ""
	}
	if len(c.Args) < 2 {
		if len(c.Args) == 1 {
			if hold, err := time.ParseDuration(c.Args[0]); err == nil {
				return hold, nil, ""
			}
		}
		return defaultHold, c.Args, ""
	}
	hold, err := time.ParseDuration(c.Args[1])
	if err != nil {
		return 0, nil, fmt.Sprintf("%.20q is no duration", c.Args[1])
	}
	return hold, c.Args[:1], ""
}

// parseAnyServer reads what parseServer does, or a host or a control port alone.
func parseAnyServer(args []string, t ring.IDType) (ref ServerRef, reply string) {
	if len(args) == 0 || strings.ContainsAny(args[0], ":[]") {
		return parseServer(args, t)
	}
	if strings.Trim(args[0], "0123456789") != "" {
		return ServerRef{Host: args[0]}, ""
	}
	ref.CtlPort, reply = parsePort(args[0])
	return ref, reply
}

// parseServer reads a parameter that names a server, that of SERVICEOUT: host:ctlport, with a third
// part by CHMPXIDTYPE, of which control endpoints may hold colons. An IPv6
// address goes in brackets. What is wrong is answered with reply.
func parseServer(args []string, t ring.IDType) (ref ServerRef, reply string) {
	if len(args) == 0 {
		return ref, replyNeedsServer
	}
	host, rest, ok := strings.Cut(args[0], ":")
	if inner, bracket := strings.CutPrefix(args[0], "["); bracket {
		if host, rest, ok = strings.Cut(inner, "]"); ok {
			rest, ok = strings.CutPrefix(rest, ":")
		}
	}
	if !ok {
		return ref, replyNeedsServer
	}
	port, more, _ := strings.Cut(rest, ":")
	switch {
	case host == "" || port == "":
		return ref, replyParameters
	case strings.Contains(more, ":") && t != ring.IDByCtlEndpoints:
		return ref, replyNeedsServer
	case t == ring.IDByName:
		more = ""
	}
	n, reply := parsePort(port)
	if reply != "" {
		return ref, reply
	}
	return ServerRef{Host: host, CtlPort: n, More: more}, ""
}

// parsePort reads a control port. What is wrong is answered with reply.
func parsePort(port string) (n uint16, reply string) {
	all, err := strconv.ParseUint(port, 10, 16)
	if err != nil || all == 0 {
		return 0, replyNoSuchServer + fmt.Sprintf("REASON: %.20q is no port from 1 to 65535\n", port)
	}
	return uint16(all), ""
}
