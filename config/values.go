package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/mail"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// value is what a key says, checked.
type value struct {
	text string // in the one way of writing that Settings shows
	n    int64  // of numbers, sizes (bytes), durations (ns), dates (Unix s), booleans (0, 1)
	at   pos    // nowhere: the default
}

const (
	textBytesMax = 1024
	// socketNameBytes is what a node appends to its run directory, and
	// socketPathBytesMax what the kernel takes as the path of a Unix socket.
	socketNameBytes    = len("/0123456789abcdef.sock")
	socketPathBytesMax = 107
)

var errNoTLS = errors.New("TLS is not available in this version")

func number(n int64) value { return value{text: strconv.FormatInt(n, 10), n: n} }

func readInt(s string, low, high int64) (value, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err == nil && n >= low && n <= high:
		return number(n), nil
	case low == math.MinInt32:
		return value{}, errors.New("use a whole number")
	case high == math.MaxInt32 && (err != nil || n < low):
		return value{}, fmt.Errorf("use a whole number from %d", low)
	}
	return value{}, fmt.Errorf("use a whole number from %d to %d", low, high)
}

func readBool(s string) (value, error) {
	switch strings.ToUpper(s) {
	case "ON", "YES":
		return value{text: "yes", n: 1}, nil
	case "OFF", "NO":
		return value{text: "no"}, nil
	}
	return value{}, errors.New("use on, yes, off or no")
}

// readWord takes one of the words in any case and returns it in upper case;
// later are words of CHMPX, or planned, that this version does not know yet.
func readWord(s string, words, later []string) (value, error) {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return value{text: w}, nil
		}
	}
	allowed := "use " + strings.Join(words, " or ")
	for _, w := range later {
		if strings.EqualFold(s, w) {
			return value{}, fmt.Errorf("not available in this version; %s", allowed)
		}
	}
	return value{}, errors.New(allowed)
}

func readText(s string, bytesMin, bytesMax int) (value, error) {
	if len(s) < bytesMin || len(s) > bytesMax || strings.ContainsFunc(s, unicode.IsControl) {
		return value{}, fmt.Errorf("use %d to %d bytes of text without control characters", bytesMin, bytesMax)
	}
	return value{text: s}, nil
}

// readGroup refuses what cannot be part of a file name.
func readGroup(s string) (value, error) {
	v, err := readText(s, 1, 255)
	if err == nil && strings.Contains(s, "/") {
		err = errors.New("use a text without /, it becomes part of a directory name")
	}
	return v, err
}

func readDuration(s string, low, high time.Duration) (value, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < low || d > high {
		return value{}, fmt.Errorf("use a duration from %s to %s with its unit, like 250ms or 3s", durationString(low), durationString(high))
	}
	return value{text: durationString(d), n: int64(d)}, nil
}

// What STANDINAFTER may say beside durations.
const (
	neverWord = "never"
	autoWord  = "auto"
)

func readStandIn(s string) (value, error) {
	if strings.EqualFold(s, neverWord) {
		return value{text: neverWord, n: int64(Never)}, nil
	}
	if strings.EqualFold(s, autoWord) {
		return value{text: autoWord, n: int64(Auto)}, nil
	}
	v, err := readDuration(s, 0, time.Hour)
	if err != nil {
		return value{}, fmt.Errorf("%w, or %s or %s", err, neverWord, autoWord)
	}
	return v, nil
}

// durationString is short: 1h instead of 1h0m0s.
func durationString(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits are tried in this order; no unit is bytes.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}}

func readSize(s string, low, high int64, powerOfTwo bool) (value, error) {
	kind := "a size"
	if powerOfTwo {
		kind = "a power of two"
	}
	allowed := fmt.Errorf("use %s from %s to %s, in bytes or with KiB, MiB or GiB", kind, sizeString(low), sizeString(high))
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(s, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		size := int64(n) * unit.bytes
		if err != nil || int64(n) > math.MaxInt64/unit.bytes || size < low || size > high || powerOfTwo && size&(size-1) != 0 {
			break
		}
		return value{text: sizeString(size), n: size}, nil
	}
	return value{}, allowed
}

func sizeString(n int64) string {
	for i := len(sizeUnits) - 2; i >= 0; i-- {
		if unit := sizeUnits[i]; n%unit.bytes == 0 && n >= unit.bytes {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// readDir takes the path of a directory; whether it exists is seen when it is used.
func readDir(s string, bytesMax int) (value, error) {
	if !filepath.IsAbs(s) || len(s) > bytesMax || strings.ContainsFunc(s, unicode.IsControl) {
		return value{}, fmt.Errorf("use an absolute path of at most %d bytes", bytesMax)
	}
	return value{text: filepath.Clean(s)}, nil
}

// readPath takes anything: whether it is a file is seen when it is opened.
func readPath(s string) (value, error) { return value{text: s}, nil }

func readDate(s string) (value, error) {
	t, err := mail.ParseDate(s)
	if err != nil {
		return value{}, errors.New("use a date like Mon, 02 Nov 2026 09:00:00 +0000")
	}
	return value{text: t.UTC().Format(time.RFC1123Z), n: t.Unix()}, nil
}

// readCertificate refuses every file; CHMPX takes NULL for "none".
func readCertificate(s string) (value, error) {
	if s == "" || strings.EqualFold(s, "NULL") {
		return value{}, nil
	}
	return value{}, errNoTLS
}

// readNames and readPattern count in n what the NAME stands for; see stepsMax.
func readNames(s string) (value, error) {
	names, err := expand(s)
	return value{text: s, n: int64(len(names))}, err
}

func readPattern(s string) (value, error) {
	names, re, err := compilePattern(s)
	return value{text: s, n: int64(len(names) + stepsOf(re))}, err
}

// readPeers checks a list of hosts and writes it without blanks.
func readPeers(s string) (value, error) {
	peers := strings.Split(s, ",")
	for i, host := range peers {
		peers[i] = strings.TrimSpace(host)
		if s != "" && checkHost(peers[i]) != nil {
			return value{}, errors.New("use a comma list of hosts")
		}
	}
	return value{text: strings.Join(peers, ",")}, nil
}

// networksMax bounds CTLALLOW.
const networksMax = 1024

// readNetworks checks a list of addresses and networks and writes it without
// blanks, an address without its length.
func readNetworks(s string) (value, error) {
	networks, err := parseNetworks(s)
	if err != nil {
		return value{}, err
	}
	var all []string
	for _, p := range networks {
		if p.IsSingleIP() {
			all = append(all, p.Addr().String())
		} else {
			all = append(all, p.String())
		}
	}
	return value{text: strings.Join(all, ",")}, nil
}

func parseNetworks(s string) ([]netip.Prefix, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var all []netip.Prefix
	for _, item := range strings.Split(s, ",") {
		p, err := parseNetwork(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if len(all) > networksMax {
		return nil, fmt.Errorf("use at most %d addresses and networks", networksMax)
	}
	return all, nil
}

// parseNetwork takes an address or a network whose address ends where its length says.
func parseNetwork(s string) (netip.Prefix, error) {
	a, err := netip.ParseAddr(s)
	p := netip.PrefixFrom(a, a.BitLen())
	if err != nil {
		p, err = netip.ParsePrefix(s)
	}
	switch {
	case err != nil || a.Zone() != "":
		return p, fmt.Errorf("%s is neither an address nor a network: use a list like 10.1.0.0/16,192.0.2.7,2001:db8::/32; names are not possible here", clip(s))
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s: write IPv4 addresses like 192.0.2.7", clip(s))
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits behind its length: use %s, or the address alone", clip(s), p.Masked())
	}
	return p, nil
}

// readEndpoints checks host[:port],... and writes it without blanks. The port
// of the node is not known yet, so it stays away where it was away.
func readEndpoints(s string) (value, error) {
	var all []string
	for _, endpoint := range strings.Split(s, ",") {
		endpoint = strings.TrimSpace(endpoint)
		host, port, ok := splitEndpoint(endpoint)
		if s != "" && (!ok || checkHost(host) != nil) {
			return value{}, errors.New("use host:port,host:port,... with ports from 1 to 65535; an IPv6 address goes in []")
		}
		if port != "" {
			endpoint = net.JoinHostPort(host, port)
		}
		all = append(all, endpoint)
	}
	return value{text: strings.Join(all, ",")}, nil
}

// splitEndpoint takes host, host:port, [v6] or [v6]:port apart.
func splitEndpoint(s string) (host, port string, ok bool) {
	rest := ""
	if inner, found := strings.CutPrefix(s, "["); found {
		if host, rest, found = strings.Cut(inner, "]"); !found {
			return "", "", false
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	} else {
		return s, "", true
	}
	if rest == "" {
		return host, "", true
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(rest, ":"), 10, 16)
	if err != nil || n == 0 || rest[0] != ':' {
		return "", "", false
	}
	return host, strconv.FormatUint(n, 10), true
}

// fillPorts gives the endpoints without a port that of the node.
func fillPorts(endpoints string, nodePort int) string {
	if endpoints == "" {
		return ""
	}
	all := strings.Split(endpoints, ",")
	for i, endpoint := range all {
		host, port, _ := splitEndpoint(endpoint)
		if port == "" {
			port = strconv.Itoa(nodePort)
		}
		all[i] = net.JoinHostPort(host, port)
	}
	return strings.Join(all, ",")
}
