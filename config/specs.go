package config

import (
	"errors"
	"time"
)

var (
	errVoters    = errors.New("use an odd number from 1 to 63")
	errNoInclude = errors.New("INCLUDE is not available in this version; put everything into one file")
)

// specs lists every key; the order is that of the documentation.
var specs = []spec{
	plain("NAME", "hosts: a,b[1-3],c[x,y]", required, "the hosts of these servers", readNames, sectionServer),
	plain("NAME", "hosts, or a POSIX regular expression that is found in the host name", required, "the hosts that may be slaves", readPattern, sectionSlave),
	plain("FILEVERSION", "number", required, "shown as revision", readVersion, sectionGlobal),
	plain("DATE", "RFC 2822 date", "", "for the reader of the file", readDate, sectionGlobal),
	plain("GROUP", "text of 1 to 255 bytes without /", required, "name of the ring, part of every node's id", readGroup, sectionGlobal),
	words("MODE", "", "what the node must be; without it the node's own entry decides", []string{"SERVER", "SLAVE"}, nil),
	words("DELIVERMODE", required, "messages go to the owner of their hash", []string{"HASH"}, []string{"RANDOM"}),
	words("CHMPXIDTYPE", "NAME", "what a node's id is made of", []string{"NAME", "CUK", "CTLENDPOINTS", "CUSTOM", "CTLEPS"}, nil),
	limited("MAXCHMPX", 1, 32768, "1024", "upper limit of REPLICA and of the servers in the file"),
	limited("REPLICA", 0, 63, "0", "further owners of every hash"),
	boolean("DOMERGE", "no", "data is merged when owners change", sectionGlobal),
	boolean("AUTOMERGE", "no", "merges start and end by themselves; needs DOMERGE", sectionGlobal),
	number("MERGETIMEOUT", -1, "seconds; 0: none", "0", "a merge that lasts longer is aborted"),
	port("PORT", "", "default for servers", sectionGlobal),
	port("PORT", inherited, "the other nodes connect to it", sectionServer),
	port("CTLPORT", "", "default for servers and slaves", sectionGlobal),
	port("CTLPORT", inherited, "control port", sectionServer, sectionSlave),
	port("SELFCTLPORT", "", "control port of this node; -ctlport comes first", sectionGlobal),
	text("SELFCUK", "CUK of this node; -cuk comes first", sectionGlobal),
	text("CUK", "the node's id with CHMPXIDTYPE = CUK", sectionServer, sectionSlave),
	plain("ENDPOINTS", "host:port,...; without a port: PORT", "", "where other nodes reach PORT", readEndpoints, sectionServer),
	plain("CTLENDPOINTS", "host:port,...; without a port: CTLPORT", "", "where the control port is reached; the node's id with CHMPXIDTYPE = CTLENDPOINTS", readEndpoints, sectionServer, sectionSlave),
	text("CUSTOM_ID_SEED", "the node's id with CHMPXIDTYPE = CUSTOM", sectionServer, sectionSlave),
	plain("FORWARD_PEERS", "host,...", "", noEffect, readPeers, sectionServer, sectionSlave),
	plain("REVERSE_PEERS", "host,...", "", noEffect, readPeers, sectionServer, sectionSlave),

	plain("RUNDIR", "absolute path, at most 85 bytes", "", "directory of the socket that programs attach to; default: /run/chmpx, $XDG_RUNTIME_DIR/chmpx, chmpx-<uid> in the temporary directory", readRunDir, sectionGlobal),
	plain("DATADIR", "absolute path", "", "a node's data is in <group>-<ctlport> below; default: $STATE_DIRECTORY, /var/lib/chmpx, $XDG_STATE_HOME/chmpx", readDataDir, sectionGlobal),
	plain("RINGBYTES", "power of two, 64KiB to 256MiB", "1MiB", "size of each ring between node and program; a message is at most a quarter, less 128 bytes, and at most 4 MiB; give all nodes of a ring the same", readRingBytes, sectionGlobal),
	plain("SHMBYTESMAX", "size, 1MiB to 1024GiB", "1GiB", "memory that all programs of a node may take together", readShmBytes, sectionGlobal),
	plain("RAFTMAXVOTERS", "odd number, 1 to 63", "5", "servers that vote on changes of the ring", readOddVoters, sectionGlobal),
	duration("DOWNAFTER", "3s", "a server that is silent for so long is taken for down", 100*time.Millisecond, time.Hour),
	duration("SUSPENDGRACE", "1s", "a server without program is suspended after so long", 0, time.Hour),
	words("PLACEMENT", "SLOTS", "which server a hash belongs to: few keys move when servers change, or exactly as CHMPX", []string{"SLOTS", "CHMPX"}, nil),

	plain("SSL", "no, off", "no", "TLS is not available in this version", readTLSSwitch, sectionGlobal, sectionServer),
	boolean("SSL_VERIFY_PEER", "no", noEffect, sectionGlobal, sectionServer),
	words("SSL_MIN_VER", "DEFAULT", "TLS is not available in this version", []string{"DEFAULT"}, []string{"SSLV2", "SSLV3", "TLSV1.0", "TLSV1.1", "TLSV1.2", "TLSV1.3"}),
	certificate("CAPATH", sectionGlobal, sectionServer, sectionSlave),
	certificate("SERVER_CERT", sectionGlobal, sectionServer),
	certificate("SERVER_PRIKEY", sectionGlobal, sectionServer),
	certificate("SLAVE_CERT", sectionGlobal, sectionServer, sectionSlave),
	certificate("SLAVE_PRIKEY", sectionGlobal, sectionServer, sectionSlave),
	certificate("NSSDB_DIR", sectionGlobal),
	plain("INCLUDE", "not allowed", "", "not available in this version", readInclude, sectionGlobal, sectionServer, sectionSlave),

	number("RWTIMEOUT", -1, "microseconds; -1, 0: default", "0", noEffect),
	number("RETRYCNT", -1, "count; -1: default", "-1", noEffect),
	number("CONTIMEOUT", -1, "microseconds; -1, 0: default", "0", noEffect),
	number("MQRWTIMEOUT", -1, "microseconds; -1, 0: default", "0", noEffect),
	number("MQRETRYCNT", -1, "count; -1: default", "3", noEffect),
	boolean("MQACK", "yes", noEffect, sectionGlobal),
	limited("MAXMQSERVER", 0, 128, "1", noEffect),
	limited("MAXMQCLIENT", 0, 32640, "8192", noEffect),
	limited("MQPERATTACH", 0, 128, "1", noEffect),
	limited("MAXQPERSERVERMQ", 0, 128, "8", noEffect),
	limited("MAXQPERCLIENTMQ", 0, 128, "1", noEffect),
	limited("MAXMQPERCLIENT", 0, 128, "1", noEffect),
	limited("MAXHISTLOG", 0, 32768, "8192", noEffect),
	number("SOCKTHREADCNT", 0, "number", "0", noEffect),
	number("MQTHREADCNT", 0, "number", "0", noEffect),
	number("MAXSOCKPOOL", 1, "number from 1", "1", noEffect),
	number("SOCKPOOLTIMEOUT", 0, "seconds; 0: never", "60", noEffect),
	boolean("K2HFULLMAP", "yes", noEffect, sectionGlobal),
	number("K2HMASKBIT", 0, "number", "8", noEffect),
	number("K2HCMASKBIT", 0, "number", "4", noEffect),
	number("K2HMAXELE", 0, "number", "32", noEffect),
}
