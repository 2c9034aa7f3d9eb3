// Package config reads the configuration of a node, as CHMPX has it in INI,
// YAML and JSON, into checked structs, finds the entry of the local node in it, and names the
// directories that follow from it.
//
// It starts no goroutine that outlives a call, keeps no state, changes nothing
// on disk, and knows neither ids nor placement: callers make ids of a Server or
// Self with package ring. A Config is not changed after Load; any number of
// goroutines may read it.
package config

import (
	"net/netip"
	"regexp"
	"time"
)

// Config is one configuration with all that it includes, checked, with defaults filled in and with the values
// that take effect where keys depend on each other.
type Config struct {
	Source      Source    // as given to Load
	Files       []string  // all that were read, the first one first; none for a text that includes nothing
	Group       string    // name of the ring
	Revision    int       // FILEVERSION
	Date        time.Time // DATE, UTC; zero: not given
	Mode        string    // "SERVER", "SLAVE" or "": the node's entry decides
	DeliverMode string    // "HASH" or "RANDOM"
	IDType      string    // "NAME", "CUK", "CTLENDPOINTS" or "CUSTOM"
	Placement   string    // "SLOTS" or "CHMPX"

	Replica      int           // further owners of every hash, 0 to 63
	DoMerge      bool          // data is merged when owners change
	AutoMerge    bool          // merges start and end by themselves; with HASH false without DoMerge
	MergeTimeout time.Duration // 0: none

	Port, CtlPort int            // defaults of the nodes; 0: none. The nodes have them already
	CtlAllow      []netip.Prefix // hosts that may use the control port beside those of the nodes
	CtlSlaves     string         // "FULL", "READONLY" or "NONE": what hosts of slaves may do there
	SelfCtlPort   int            // 0: not in the file
	SelfCUK       string         // "": not in the file

	Servers []Server // expanded, sorted by name, then control port
	Slaves  []Slave  // in file order

	RunDirKey, DataDirKey string // absolute paths or ""; see RunDirs and DataDir

	RingBytes    int   // of one ring, a power of two
	ShmBytesMax  int64 // of all programs of a node
	HotWait      bool  // nodes and programs look some more before they sleep
	VotersMax    int   // odd
	DownAfter    time.Duration
	DownOut      time.Duration // AUTOMERGE takes a server out that is down for so long; 0: at once
	SuspendGrace time.Duration
	OwnerLease   time.Duration // a server without contact to a leader for so long gives programs nothing by hash; 0: off
	StandInAfter time.Duration // the next owner stands in for a server that was not reached for so long; Never, Auto
	UpBackoffMax time.Duration // longest wait before a server comes up again that was taken for down; 0: none

	settings []Setting
}

// Server is one server node; a NAME that stands for several hosts gives several.
type Server struct {
	Name          string // literally as expanded, never what a resolver answers
	Port, CtlPort int    // 1 to 65535
	CUK           string
	CtlEndpoints  string // "host:port,host:port", ports always given, in file order; "": none
	Endpoints     string // likewise
	CustomSeed    string

	ForwardPeers, ReversePeers string // "host,host", "": none; no effect
}

// Slave is one [SLVNODE]: which hosts may be slaves with this control port.
type Slave struct {
	NamePattern  string // NAME as in the file
	CtlPort      int    // 1 to 65535
	CUK          string
	CtlEndpoints string // as in Server
	CustomSeed   string

	ForwardPeers, ReversePeers string // as in Server

	names  []string       // what NamePattern stands for as a list of hosts
	regexp *regexp.Regexp // NamePattern as a regular expression, nil when it is none
}
