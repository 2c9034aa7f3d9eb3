package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/chmpx/chmpx/internal/ringview"
)

// statusText collects what chmpxstatus prints of a DUMP.
type statusText struct{ strings.Builder }

// statusColumn is the column that labels are padded to.
const statusColumn = 45

func (s *statusText) row(label, value string) {
	fmt.Fprintf(&s.Builder, "%-*s= %s\n", statusColumn, label, value)
}

// value prints the value of a label as it stands there, with a unit behind it;
// what a node does not have is n/a.
func (s *statusText) value(from *ringview.Section, label, key, unit string) {
	v := from.Value(key)
	if v == "" && !has(from, key) {
		v = "n/a"
	} else if unit != "" {
		v += " " + unit
	}
	s.row(label, v)
}

func has(from *ringview.Section, key string) bool {
	for _, l := range from.Lines {
		if l.Label == key {
			return true
		}
	}
	return false
}

// word prints true and false as yes and no.
func (s *statusText) word(from *ringview.Section, label, key string) {
	v := from.Value(key)
	switch v {
	case "true":
		v = "yes"
	case "false":
		v = "no"
	}
	s.row(label, v)
}

// hex64 prints a number of 64 bits with all its digits.
func hex64(text string) string {
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return "n/a"
	}
	return fmt.Sprintf("0x%016x", n)
}

// writeAll prints a node and all that it knows.
func writeAll(w io.Writer, dump *ringview.Section) error {
	s := &statusText{}
	man := dump.Sub("chmpx_man")
	s.process(dump)
	s.WriteByte('\n')
	for _, r := range [][3]string{
		{"chmpx name", "group"}, {"configuration file version", "cfg_revision"}, {"configuration file date", "cfg_date", "(unix time)"},
		{"replication count", "replica_count"}, {"maximum chmpx count", "chmpx_count"}, {"base hash count", "chmpx_bhash_count"},
		{"now operating", "is_operating"},
	} {
		s.value(man, r[0], r[1], r[2])
	}
	s.row("last using random chmpxid", hex64(man.Value("last_chmpxid")))
	s.WriteString("self chmpx = {\n")
	s.unit("  ", "  ", man.Sub("chmpx_self"))
	s.WriteString("}\n")
	s.units("server chmpxs", man.Value("chmpx_server_count"), man.Sub("chmpx_servers").Items())
	s.units("slave chmpxs", man.Value("chmpx_slave_count"), man.Sub("chmpx_slaves").Items())
	s.stat("server stat", man.Sub("server_stat"))
	s.stat("slave stat", man.Sub("slave_stat"))
	s.value(man, "free chmpx area count", "chmpx_free_count", "")
	s.value(man, "free sock area count", "sock_free_count", "")
	s.WriteByte('\n')
	s.queues("chmpx using MQ", dump.Value("chmpx_msg_count"), dump.Sub("chmpx_msgs"))
	s.queues("client process using MQ", dump.Value("activated_msg_count"), dump.Sub("activated_msgs"))
	s.queues("assigned MQ", dump.Value("assigned_msg_count"), dump.Sub("assigned_msgs"))
	s.value(dump, "free MQ", "free_msg_count", "")
	s.row("last random msgid used by chmpx process", hex64(dump.Value("last_msgid_chmpx")))
	s.row("last activated msgid", hex64(dump.Value("last_msgid_activated")))
	s.row("last assigned msgid", hex64(dump.Value("last_msgid_assigned")))
	s.WriteString("joining client process = {\n")
	for i, p := range dump.Sub("client_pids").Items() {
		fmt.Fprintf(&s.Builder, "  [%d] pid%35s= %s\n", i, "", p.Value("pid"))
	}
	s.WriteString("}\n")
	_, err := io.WriteString(w, s.String())
	return err
}

// writeSelf prints a node alone; CHMPX moves some of its lines to the right.
func writeSelf(w io.Writer, dump *ringview.Section) error {
	s := &statusText{}
	s.unit("  ", "    ", dump.Sub("chmpx_man").Sub("chmpx_self"))
	_, err := io.WriteString(w, s.String())
	return err
}

// process is what is about the process and its options.
func (s *statusText) process(d *ringview.Section) {
	for _, r := range [][3]string{
		{"chmpx process id", "pid"}, {"process start time", "start_time", "(unix time)"},
		{"chmpx shared memory file path", "Shared memory file path"}, {"chmpx shared memory file size", "Shared memory file size", "(byte)"},
		{"chmpx info structure version", "CHMINFO version"}, {"chmpx info structure size", "CHMINFO size", "(byte)"},
		{"k2hash file path", "K2HASH Object"}, {"k2hash full mapping", "k2hash full map"}, {"k2hash mask bit count", "init k2h mask bit"},
		{"k2hash collision mask bit count", "init k2h cmask bit"}, {"k2hash maximum element count", "k2hash max element"},
	} {
		s.value(d, r[0], r[1], r[2])
	}
	s.word(d, "random mode", "is_random_deliver")
	for _, r := range [][3]string{
		{"communication history count", "history log count"}, {"auto merge", "automerge in conf"}, {"suspend auto merge", "suspend automerge"},
		{"merge processing(do merge)", "domerge in conf"}, {"SSL/TLS minimum version", "SSL/TLS min version"}, {"NSSDB directory path", "NSSDB dir path"},
		{"timeout for merge", "merge timeout", "(s)"}, {"thread count for socket", "socket thread count"}, {"thread count for MQ", "MQ thread count"},
		{"maximum socket count per chmpx(socket pool)", "Max socket pool"}, {"timeout for socket pool", "sock pool timeout", "(s)"},
		{"retry count on socket", "sock retry count"}, {"timeout for send/receive on socket", "sock timeout", "(us)"},
		{"timeout for connect on socket", "connect timeout", "(us)"}, {"timeout for send/receive on socket", "MQ timeout", "(us)"},
		{"maximum MQ count", "max_mqueue"}, {"chmpx process MQ count", "chmpx_mqueue"}, {"maximum queue per chmpx process MQ", "max_q_per_chmpxmq"},
		{"maximum queue per client process MQ", "max_q_per_cltmq"}, {"maximum MQ per client process", "max_mq_per_client"},
		{"maximum MQ per attach", "mq_per_attach"},
	} {
		s.value(d, r[0], r[1], r[2])
	}
	s.word(d, "using MQ ACK", "mq_ack")
	s.value(d, "retry count on MQ", "MQ retry count", "")
	s.row("base msgid", hex64(d.Value("base_msgid")))
}

// unit prints one node; inner is how far its names are moved to the right.
func (s *statusText) unit(indent, inner string, u *ringview.Section) {
	if u == nil {
		return
	}
	s.row(indent+"chmpxid", hex64(u.Value("chmpxid")))
	s.row(indent+"hostname", u.Value("name"))
	s.row(indent+"mode", u.Value("mode"))
	s.row(indent+"base hash", hex64(u.Value("base_hash")))
	s.row(indent+"pending hash", hex64(u.Value("pending_hash")))
	s.row(indent+"port", u.Value("port"))
	s.row(indent+"control port", u.Value("ctlport"))
	for _, r := range [][2]string{
		{"cuk", "cuk"}, {"custom id seed", "custom_seed"}, {"endpoints", "endpoints"}, {"control endpoints", "ctlendpoints"},
		{"forward peers", "forward_peers"}, {"reverse peers", "reverse_peers"},
	} {
		s.row(inner+r[0], u.Value(r[1]))
	}
	s.word(u, indent+"ssl", "is_ssl")
	if u.Value("is_ssl") == "true" {
		kind := "directory"
		if u.Value("is_ca_file") == "true" {
			kind = "file"
		}
		s.word(u, indent+"verify client peer", "verify_peer")
		s.row(indent+"CA path is", kind)
		for _, r := range [][2]string{
			{"CA path", "capath"}, {"server cert path", "server_cert"}, {"server private key path", "server_prikey"},
			{"slave cert path", "slave_cert"}, {"slave private key path", "slave_prikey"},
		} {
			s.row(indent+r[0], u.Value(r[1]))
		}
	}
	sockets := u.Value("sock")
	if sockets == "-1" {
		sockets = ""
	}
	s.row(indent+"sockets", sockets)
	s.row(indent+"listen socket", u.Value("selfsock"))
	s.row(indent+"control socket", u.Value("ctlsock"))
	s.row(indent+"listen control socket", u.Value("selfctlsock"))
	s.row(indent+"last status update time", u.Value("last_status_time")+" (unix time)")
	s.row(indent+"status", u.Value("status"))
}

func (s *statusText) units(title, count string, all []*ringview.Section) {
	fmt.Fprintf(&s.Builder, "%s [ %s ] = {\n", title, count)
	for i, item := range all {
		fmt.Fprintf(&s.Builder, "  [%d] = {\n", i)
		s.unit("    ", "    ", item.Sub("chmpx"))
		s.WriteString("  }\n")
	}
	s.WriteString("}\n")
}

func (s *statusText) stat(title string, from *ringview.Section) {
	s.WriteString(title + " = {\n")
	for _, r := range [][3]string{
		{"total send message count", "total_sent_count"}, {"total receive message count", "total_received_count"},
		{"total body size", "total_body_bytes", " (bytes)"}, {"minimum body size", "min_body_bytes", " (bytes)"}, {"maximum body size", "max_body_bytes", " (bytes)"},
	} {
		s.row("    "+r[0], from.Value(r[1])+r[2])
	}
	for _, r := range [][2]string{
		{"total elapsed time", "total_elapsed_time"}, {"minimum elapsed time", "min_elapsed_time"}, {"maximum elapsed time", "max_elapsed_time"},
	} {
		s.row("    "+r[0], elapsed(from.Value(r[1])))
	}
	s.WriteString("}\n")
}

// elapsed prints "1s 2500000ns" as 1s 2ms 500us 0ns (1002500000ns).
func elapsed(text string) string {
	var sec, nsec uint64
	if _, err := fmt.Sscanf(text, "%ds %dns", &sec, &nsec); err != nil {
		return "n/a"
	}
	out, total := "", strconv.FormatUint(nsec, 10)
	if sec > 0 {
		out, total = fmt.Sprintf("%ds ", sec), fmt.Sprintf("%d%09d", sec, nsec)
	}
	return fmt.Sprintf("%s%dms %dus %dns (%sns)", out, nsec/1e6, nsec/1e3%1e3, nsec%1e3, total)
}

func (s *statusText) queues(title, count string, all *ringview.Section) {
	fmt.Fprintf(&s.Builder, "%s [ %s ] = {\n", title, count)
	for i, item := range all.Items() {
		head := item.Sub("msghead")
		fmt.Fprintf(&s.Builder, "  [%d] = {\n", i)
		s.row("    msgid", hex64(head.Value("msgid")))
		s.row("    flag", queueFlags(head.Value("flag")))
		s.row("    pid", head.Value("pid"))
		s.WriteString("  }\n")
	}
	s.WriteString("}\n")
}

// queueFlags puts the words of DUMP into the order that they have here.
func queueFlags(text string) string {
	out := ""
	for _, word := range []string{"[Assigned]", "[Not assigned]", "[Chmpx]", "[Client]", "[Activated]", "[Disactivated]"} {
		if strings.Contains(text, word) {
			out += word
		}
	}
	return out
}
