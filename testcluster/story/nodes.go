package story

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/node"
)

func nodeCommands() []command {
	return []command{
		{usage: "config KEY=VALUE...", anyOption: true, run: (*story).config,
			help: "sets keys of [GLOBAL] for the nodes that are started from here on. A story begins with DELIVERMODE=HASH, REPLICA=1, DOMERGE=on, AUTOMERGE=on, RINGBYTES=65536, HOTWAIT=off."},
		{usage: "add-servers N", least: 1, most: 1, run: (*story).addServers,
			help: "starts the next N servers (server-1, server-2 ...) and waits until the ring has admitted them. All servers that a story ever adds are in the configuration from its beginning."},
		{usage: "add-slaves N", least: 1, most: 1, run: (*story).addSlaves,
			help: "starts the next N slave nodes (slave-1 ...) and waits until the ring has admitted them."},
		{usage: "stop NODE...", least: 1, most: -1, run: (*story).stopNodes,
			help: "stops nodes in order, all at once: they tell the ring, as at a SIGTERM. Waits for their end."},
		{usage: "kill NODE...", least: 1, most: -1, run: (*story).killNodes,
			help: "ends nodes as SIGKILL does: no goodbye, connections end, programs and their memory stay."},
		{usage: "start NODE...", least: 1, most: -1, run: (*story).startNodes,
			help: "starts nodes that were stopped or killed, on the disks that they had. Does not wait for the ring."},
		{usage: "restart NODE hold=D away=D", least: 1, most: 1, run: (*story).restartNode,
			help: "has an operator restart a server for which the ring waits for `hold` (30s), as \"chmpxctl node restart\" does, and starts it again after `away` (0s)."},
		{usage: "lose-disk NODE", least: 1, most: 1, run: (*story).loseDisk,
			help: "empties the data directory of a node that does not run."},
	}
}

// process is a node of a story, through all its starts.
type process struct {
	s      *story
	name   string
	addr   string // of its interface
	server bool
	port   int // PORT, of servers
	ctl    int // control port
	host   *host
	node   *node.Node // nil: not running
	cancel context.CancelFunc
	ended  chan error
	killed bool    // the last start; why it ended is not its fault
	errs   []error // of its ends
}

const (
	portFirst    = 7000 // PORT of server-k is this plus k
	ctlPortFirst = 8000
	slavesFirst  = 100 // CTLPORT of slave-k: ctlPortFirst plus this plus k
)

// serverAddr is the name of server-k in the configuration: all these addresses
// are local, so no resolver is asked.
func serverAddr(k int) string { return fmt.Sprintf("127.0.0.%d", k) }

func (s *story) config(a args) error {
	maps.Copy(s.keys, a.options)
	return nil
}

func (s *story) addServers(a args) error { return s.add(a, true) }
func (s *story) addSlaves(a args) error  { return s.add(a, false) }

func (s *story) add(a args, server bool) error {
	n, err := positive(a.words[0])
	if err != nil {
		return err
	}
	have := 0
	for _, p := range s.nodes {
		if p.server == server {
			have++
		}
	}
	var added []*process
	for k := have + 1; k <= have+n; k++ {
		p := &process{s: s, server: server, name: fmt.Sprintf("slave-%d", k), ctl: ctlPortFirst + slavesFirst + k}
		p.addr = p.name
		if server {
			p.name, p.addr, p.port, p.ctl = fmt.Sprintf("server-%d", k), serverAddr(k), portFirst+k, ctlPortFirst+k
		}
		if err := os.WriteFile(p.conf(), []byte(s.configuration(p)), 0o600); err != nil {
			return err
		}
		s.nodes = append(s.nodes, p)
		added = append(added, p)
		if err := p.start(); err != nil {
			return err
		}
	}
	return s.await(patience, func() string {
		for _, p := range added {
			if !p.admitted() {
				return p.name + " is not admitted: " + p.node.Status().WaitsFor
			}
		}
		return ""
	})
}

// admitted reports whether the ring has a node for UP, as the node sees it.
func (p *process) admitted() bool {
	st := p.node.Status()
	if p.server {
		return st.Incarnation != 0
	}
	return st.Quorum.OK && st.WaitsFor == "" && len(st.Servers) > 0
}

func (p *process) conf() string    { return filepath.Join(p.s.dir, p.name+".ini") }
func (p *process) dataDir() string { return filepath.Join(p.s.dir, p.name+".data") }

// configuration returns the file of a node. Its comments are for who looks at it.
func (s *story) configuration(p *process) string {
	mode := "SERVER"
	if !p.server {
		mode = "SLAVE"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[GLOBAL]\nFILEVERSION = 1\nGROUP = STORY\nMODE = %s\nSELFCTLPORT = %d\nRUNDIR = %s/run\nDATADIR = %s\n",
		mode, p.ctl, s.dir, p.dataDir())
	for _, k := range slices.Sorted(maps.Keys(s.keys)) {
		fmt.Fprintf(&b, "%s = %s\n", k, s.keys[k])
	}
	for k := 1; k <= s.servers; k++ {
		fmt.Fprintf(&b, "[SVRNODE]\nNAME = %s\nPORT = %d\nCTLPORT = %d\n", serverAddr(k), portFirst+k, ctlPortFirst+k)
	}
	for k := 1; k <= max(1, s.slaves); k++ {
		fmt.Fprintf(&b, "[SLVNODE]\nNAME = localhost\nCTLPORT = %d\n", ctlPortFirst+slavesFirst+k)
	}
	return b.String()
}

// start starts a node that does not run.
func (p *process) start() error {
	if p.node != nil {
		return fmt.Errorf("%w: %s runs", ErrScript, p.name)
	}
	p.await()
	p.host = p.s.net.host(p.name, p.addr)
	n, err := node.New(node.Options{
		Config: config.Source{Path: p.conf()}, Logger: p.s.log.logger(p.name), Version: "story",
		Listen: p.host.listen, Dial: p.host.dial, System: p.s.heap, NoSync: true, NoWatch: true,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	p.node, p.ended, p.killed = n, make(chan error, 1), false
	go func(ended chan error) { ended <- n.Run(ctx) }(p.ended)
	return nil
}

// await waits for the end of the last start.
func (p *process) await() {
	if p.ended == nil {
		return
	}
	if err := <-p.ended; err != nil && !p.killed {
		p.errs = append(p.errs, fmt.Errorf("%s ended: %w", p.name, err))
	}
	p.cancel()
	p.ended = nil
}

// stop ends a node in order, if it runs, and waits for its end.
func (p *process) stop() {
	if p.node != nil {
		p.node = nil
		p.cancel()
	}
	p.await()
	if p.host != nil {
		p.host.crash() // nothing is left but what the other side has not closed
	}
}

// kill ends a node at once.
func (p *process) kill() {
	n := p.node
	p.node, p.killed = nil, true
	p.host.crash()
	n.Crash()
}

// failed returns why starts of the node have ended that should not have.
func (p *process) failed() error {
	if len(p.errs) > 0 {
		return p.errs[0]
	}
	return nil
}

// processes finds nodes by name, and checks whether they run.
func (s *story) processes(names []string, running bool) ([]*process, error) {
	var found []*process
	for _, name := range names {
		i := slices.IndexFunc(s.nodes, func(p *process) bool { return p.name == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("%w: there is no node %s", ErrScript, name)
		case running != (s.nodes[i].node != nil):
			return nil, fmt.Errorf("%w: running: %s: %v", ErrScript, name, !running)
		}
		found = append(found, s.nodes[i])
	}
	return found, nil
}

func (s *story) stopNodes(a args) error {
	found, err := s.processes(a.words, true)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	for _, p := range found {
		go func() { p.stop(); ended <- struct{}{} }()
	}
	for range found {
		<-ended
	}
	return nil
}

func (s *story) killNodes(a args) error {
	found, err := s.processes(a.words, true)
	for _, p := range found {
		p.kill()
	}
	return err
}

func (s *story) startNodes(a args) error {
	found, err := s.processes(a.words, false)
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := p.start(); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) restartNode(a args) error {
	found, err := s.processes(a.words, true)
	if err != nil {
		return err
	}
	away, err := a.duration("away", 0)
	if err != nil {
		return err
	}
	p, hold := found[0], a.text("hold", "30s")
	answer, err := p.operator(fmt.Sprintf("NODERESTART %s:%d %s\n", p.addr, p.ctl, hold))
	if err != nil {
		return err
	}
	if answer != "SUCCEED\n" {
		return fmt.Errorf("restart %s: %s", p.name, strings.TrimSpace(answer))
	}
	if err := <-p.ended; !errors.Is(err, node.ErrRestart) {
		return fmt.Errorf("%s is to restart and ended: %w", p.name, err)
	}
	p.cancel()
	p.node, p.ended = nil, nil
	p.host.crash()
	s.advance(away)
	return p.start()
}

func (s *story) loseDisk(a args) error {
	found, err := s.processes(a.words, false)
	if err != nil {
		return err
	}
	found[0].await()
	return os.RemoveAll(found[0].dataDir())
}
