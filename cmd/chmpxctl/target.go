package main

import (
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
)

// target is the node that a command goes to.
type target struct {
	host    string
	ctlPort uint16
}

// String returns how messages call the node.
func (t target) String() string { return net.JoinHostPort(t.host, strconv.Itoa(int(t.ctlPort))) }

// port is the value of an option that names a port; 0: it is not given.
type port uint16

// Set implements flag.Value.
func (p *port) Set(s string) error {
	n, err := parsePort(s)
	if err == nil {
		*p = port(n)
	}
	return err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("use a port from 1 to 65535")
	}
	return uint16(n), nil
}

// Get implements flag.Getter.
func (p *port) Get() any { return p }

// String implements flag.Value.
func (p *port) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.Itoa(int(*p))
}

// ctlPortOf returns the value of -ctlport, 0 if it is not given.
func ctlPortOf(c *cli.Context) uint16 { return uint16(*c.Generic("ctlport").(*port)) }

// targetFlags are the options of every verb that name its target.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}, Usage: "configuration `file` of the node"},
		&cli.StringFlag{Name: "host", Usage: "`name` or address of the node's host", Value: "localhost"},
		&cli.GenericFlag{Name: "ctlport", Value: new(port), Usage: "control `port` of the node, in place of the one in -conf"},
		&cli.StringFlag{Name: "cuk", Usage: "`text` that names the node in -conf, in place of SELFCUK"},
	}
}

// targetOf reads what targetFlags say. Its errors are about the command line or
// the configuration that it names.
func targetOf(c *cli.Context) (target, error) {
	t := target{host: unbracketed(c.String("host"))}
	if t.ctlPort = ctlPortOf(c); t.ctlPort > 0 {
		return t, nil
	}
	source, err := config.FindSource(c.String("conf"), "")
	if errors.Is(err, config.ErrNoSource) {
		return t, usagef("which node? name it with -ctlport (and -host) or with -conf")
	}
	if err != nil {
		return t, &usageError{err}
	}
	cfg, _, err := config.Load(source)
	if err != nil {
		return t, usagef("read configuration: %w", err)
	}
	self, err := cfg.SelfNode(0, c.String("cuk"))
	if err != nil {
		return t, usagef("find the node in %s: %w", source, err)
	}
	t.ctlPort = uint16(self.CtlPort) // config allows 1 to 65535
	return t, nil
}

// unbracketed returns an IPv6 address without the brackets that it is often written in.
func unbracketed(host string) string {
	if inner := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"); len(inner) == len(host)-2 {
		return inner
	}
	return host
}

// hasTarget reports whether the options or the environment name a node.
func hasTarget(c *cli.Context) bool {
	_, err := config.FindSource(c.String("conf"), "")
	return ctlPortOf(c) > 0 || err == nil
}
