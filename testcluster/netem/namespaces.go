package netem

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// ErrUnsupported says that a network cannot be in a condition.
var ErrUnsupported = errors.New("netem: this network cannot do that")

// Namespaces is a network of the kernel: a network namespace for each host, all
// on one bridge. What is held is lost in earnest and TCP sends it again; who
// connects meanwhile gets no answer. It needs root and the command ip. Only
// Hold and Refuse are possible; refused is what has no route.
//
// Namespaces of a process that was killed are removed by the next one that
// makes any.
type Namespaces struct {
	prefix string // of the names of all that is made
	subnet string // the first three numbers

	mu    sync.Mutex // guards rules, and the state of the kernel that follows from them
	hosts []string
	rules rules
}

// namespacePrefix begins the names of the namespaces of all processes.
const namespacePrefix = "chmpx-"

// NewNamespaces makes a namespace for each of up to 250 hosts.
func NewNamespaces(hosts []string) (*Namespaces, error) {
	if len(hosts) > 250 {
		return nil, fmt.Errorf("make namespaces: %d hosts, at most 250", len(hosts))
	}
	if os.Getuid() != 0 {
		return nil, errors.New("make namespaces: only root can")
	}
	sweep()
	pid := os.Getpid()
	n := &Namespaces{
		prefix: fmt.Sprintf("%s%d-", namespacePrefix, pid), hosts: hosts,
		subnet: fmt.Sprintf("198.%d.%d.", 18+pid>>8&1, pid&255), // addresses that are set aside for tests
	}
	if err := n.make(pid); err != nil {
		return nil, errors.Join(fmt.Errorf("make namespaces: %w", err), n.Close())
	}
	return n, nil
}

func bridge(pid int) string { return fmt.Sprintf("cmx%d", pid) }

func (n *Namespaces) make(pid int) error {
	br := bridge(pid)
	all := [][]string{
		{"link", "add", br, "type", "bridge"},
		{"addr", "add", n.Outside() + "/24", "dev", br},
		{"link", "set", br, "up"},
	}
	for i := range n.hosts {
		ns, veth := n.namespace(i), n.veth(i)
		all = append(all,
			[]string{"netns", "add", ns},
			[]string{"link", "add", veth, "type", "veth", "peer", "name", "eth0", "address", mac(i), "netns", ns},
			[]string{"link", "set", veth, "master", br, "up"},
			[]string{"-n", ns, "link", "set", "lo", "up"},
			[]string{"-n", ns, "addr", "add", n.Addr(i) + "/24", "dev", "eth0"},
			[]string{"-n", ns, "link", "set", "eth0", "up"})
	}
	for _, args := range all {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what killed processes have left. It is a courtesy: what cannot
// be removed stays.
func sweep() {
	found, _ := filepath.Glob("/run/netns/" + namespacePrefix + "*") // the pattern is constant
	gone := map[int]bool{}
	for _, f := range found {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(f), namespacePrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, os.ErrNotExist) {
			gone[pid] = true
			_ = ip("netns", "del", filepath.Base(f))
		}
	}
	for pid := range gone {
		_ = ip("link", "del", bridge(pid))
	}
}

// ip runs the command ip.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (n *Namespaces) namespace(i int) string { return n.prefix + n.hosts[i] }

// veth returns the name of the end of a host's link that is on the bridge.
func (n *Namespaces) veth(i int) string { return fmt.Sprintf("%s.%d", bridge(os.Getpid()), i) }

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// mac returns the address of a host's interface.
func mac(i int) string { return fmt.Sprintf("02:00:00:00:00:%02x", i+1) }

// nobody is the address of no interface.
const nobody = "02:00:00:00:ff:ff"

// Addr returns the address of host i.
func (n *Namespaces) Addr(i int) string { return n.subnet + strconv.Itoa(i+1) }

// Outside returns the address from which who is in no namespace reaches the hosts.
func (n *Namespaces) Outside() string { return n.subnet + "254" }

// Prefix returns the words before a command that runs on host i.
func (n *Namespaces) Prefix(i int) []string {
	return []string{"ip", "netns", "exec", n.namespace(i)}
}

func (n *Namespaces) index(host string) int {
	for i, h := range n.hosts {
		if h == host {
			return i
		}
	}
	return -1
}

// Apply puts a condition on everything that travels from one host to another.
func (n *Namespaces) Apply(from, to string, c Condition) (undo func() error, err error) {
	if c != (Condition{Hold: c.Hold, Refuse: c.Refuse}) {
		return nil, fmt.Errorf("%w: %+v", ErrUnsupported, c)
	}
	if n.index(from) < 0 || n.index(to) < 0 {
		return nil, fmt.Errorf("no host %s or %s", from, to)
	}
	return n.rules.apply(&n.mu, &rule{direction{from, to}, c}, n.update)
}

// update brings the kernel in line with the rules for one direction, and for
// the other one where it is refused; mu is held.
func (n *Namespaces) update(d direction) error {
	back := direction{d.to, d.from}
	there, here := conditionOf(n.rules, d), conditionOf(n.rules, back)
	refuse := there.Refuse || here.Refuse
	return errors.Join(n.set(d, there.Hold, refuse), n.set(back, here.Hold, refuse))
}

// set makes one direction as it should be: what is held goes to the interface
// of nobody, what is refused has no route.
func (n *Namespaces) set(d direction, hold, refuse bool) error {
	from, to := n.index(d.from), n.index(d.to)
	lladdr := mac(to)
	if hold {
		lladdr = nobody
	}
	errs := []error{ip("-n", n.namespace(from), "neigh", "replace", n.Addr(to), "lladdr", lladdr, "nud", "permanent", "dev", "eth0")}
	if refuse {
		errs = append(errs, ip("-n", n.namespace(from), "route", "replace", "unreachable", n.Addr(to)+"/32"))
	} else {
		_ = ip("-n", n.namespace(from), "route", "del", "unreachable", n.Addr(to)+"/32") // mostly there is none
	}
	return errors.Join(errs...)
}

// Link takes the link of a host down, or up again.
func (n *Namespaces) Link(host string, up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	i := n.index(host)
	// The far end: the host keeps its addresses and neighbours.
	return ip("link", "set", n.veth(i), state)
}

// Down needs nothing here: the kernel knows who listens.
func (n *Namespaces) Down(string, bool) error { return nil }

// Close removes everything. Processes that still run there lose their network.
func (n *Namespaces) Close() error {
	var errs []error
	for i := range n.hosts {
		if veth := n.veth(i); exists("/sys/class/net/" + veth) {
			errs = append(errs, ip("link", "del", veth)) // the kernel would do so with the namespace, in its own time
		}
		if exists("/run/netns/" + n.namespace(i)) {
			errs = append(errs, ip("netns", "del", n.namespace(i)))
		}
	}
	if exists("/sys/class/net/" + bridge(os.Getpid())) {
		errs = append(errs, ip("link", "del", bridge(os.Getpid())))
	}
	return errors.Join(errs...)
}
