package main

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/chmpx/chmpx/config"
)

// printConf writes a configuration as CHMPX's chmpxconftest does. mode is
// "SERVER", "SLAVE" or "" when it is not known.
func printConf(w io.Writer, c *config.Config, mode string) error {
	var b strings.Builder
	row := func(label, value string) { fmt.Fprintf(&b, "\t%-16s= %s\n", label, value) }
	b.WriteString("configuration{\n")
	row("GROUP", c.Group)
	row("REVISION", strconv.Itoa(c.Revision))
	row("DATE", strconv.FormatInt(unixDate(c), 10))
	row("MODE", orNA(mode))
	row("DELIVER MODE", c.DeliverMode)
	row("SELF CTLPORT", portOrNone(c.SelfCtlPort))
	row("SELF CUK", orNA(c.SelfCUK))
	row("CHMPXID TYPE", c.IDType)
	for _, key := range []string{
		"MAXCHMPX", "REPLICA", "MAXMQSERVER", "MAXMQCLIENT", "MQPERATTACH", "MAXQPERSERVERMQ", "MAXQPERCLIENTMQ",
		"MAXMQPERCLIENT", "MAXHISTLOG", "RWTIMEOUT", "RETRYCNT", "CONTIMEOUT", "MQRWTIMEOUT", "MQRETRYCNT",
	} {
		row(key, c.Value(key))
	}
	for _, key := range []string{"MQACK", "DOMERGE", "AUTOMERGE"} {
		row(key, onOff(c.Value(key)))
	}
	for _, key := range []string{
		"MERGETIMEOUT", "SOCKTHREADCNT", "MQTHREADCNT", "MAXSOCKPOOL", "SOCKPOOLTIMEOUT",
		"K2HFULLMAP", "K2HMASKBIT", "K2HCMASKBIT", "K2HMAXELE", "SSL_MIN_VER",
	} {
		row(key, c.Value(key))
	}
	row("NSSDB_DIR", orNA(c.Value("NSSDB_DIR")))
	for i, s := range c.Servers {
		fmt.Fprintf(&b, "\tserver[%d]{\n", i+1)
		printNode(&b, s.Name, strconv.Itoa(s.Port), s.CtlPort)
		printList(&b, "ENDPOINTS", endpoints(s.Endpoints))
		printIdentity(&b, s.CtlEndpoints, s.ForwardPeers, s.ReversePeers, s.CUK, s.CustomSeed)
	}
	for i, s := range c.Slaves {
		fmt.Fprintf(&b, "\tslave[%d]{\n", i+1)
		printNode(&b, s.NamePattern, "-1", s.CtlPort)
		printIdentity(&b, s.CtlEndpoints, s.ForwardPeers, s.ReversePeers, s.CUK, s.CustomSeed)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func nodeRow(b *strings.Builder, label, value string) {
	fmt.Fprintf(b, "\t\t%-14s= %s\n", label, value)
}

func printNode(b *strings.Builder, name, port string, ctlPort int) {
	nodeRow(b, "NAME", name)
	nodeRow(b, "PORT", port)
	nodeRow(b, "CTLPORT", strconv.Itoa(ctlPort))
}

// printIdentity writes the rest of a node, which servers and slaves have alike.
func printIdentity(b *strings.Builder, ctlEndpoints, forward, reverse, cuk, seed string) {
	printList(b, "CTLENDPOINTS", endpoints(ctlEndpoints))
	printList(b, "FORWARD_PEERS", split(forward))
	printList(b, "REVERSE_PEERS", split(reverse))
	nodeRow(b, "CUK", orNA(cuk))
	nodeRow(b, "CUSTOM_ID_SEED", orNA(seed))
	nodeRow(b, "SSL", "no")
	b.WriteString("\t}\n")
}

func printList(b *strings.Builder, label string, items []string) {
	if len(items) == 0 {
		nodeRow(b, label, orNA(""))
		return
	}
	nodeRow(b, label, "{")
	for _, item := range items {
		fmt.Fprintf(b, "\t\t\t%s\n", item)
	}
	b.WriteString("\t\t}\n")
}

// endpoints turns "host:port,..." into "host ( port )".
func endpoints(list string) []string {
	all := split(list)
	for i, endpoint := range all {
		if host, port, err := net.SplitHostPort(endpoint); err == nil {
			all[i] = fmt.Sprintf("%s ( %s )", host, port)
		}
	}
	return all
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// unixDate returns DATE in unix seconds, in whatever zone it was written; 0
// when there is none.
func unixDate(c *config.Config) int64 {
	if c.Date.IsZero() {
		return 0
	}
	return c.Date.Unix()
}

func orNA(s string) string {
	if s == "" {
		return "n/a"
	}
	return s
}

func portOrNone(port int) string {
	if port == 0 {
		return "-1"
	}
	return strconv.Itoa(port)
}

// onOff prints a boolean of Config.Value as on or off.
func onOff(yesNo string) string {
	if yesNo == "yes" {
		return "on"
	}
	return "off"
}
