package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
)

// target is the node that a command goes to.
type target struct {
	host    string
	ctlPort uint16
}

// targetFlags are the options of every verb that name its target.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}, Usage: "configuration `file` of the node"},
		&cli.StringFlag{Name: "host", Usage: "`name` or address of the node's host", Value: "localhost"},
		&cli.UintFlag{Name: "ctlport", Usage: "control `port` of the node, in place of the one in -conf"},
		&cli.StringFlag{Name: "cuk", Usage: "`text` that names the node in -conf, in place of SELFCUK"},
	}
}

// targetOf reads what targetFlags say.
func targetOf(c *cli.Context) (target, error) {
	t := target{host: c.String("host")}
	port := c.Uint("ctlport")
	switch {
	case port > 65535:
		return t, fmt.Errorf("-ctlport %d: use 1 to 65535", port)
	case port > 0:
		t.ctlPort = uint16(port)
		return t, nil
	}
	source, err := config.FindSource(c.String("conf"), "")
	if errors.Is(err, config.ErrNoSource) {
		return t, errors.New("which node? name it with -ctlport (and -host) or with -conf")
	}
	if err != nil {
		return t, err
	}
	cfg, _, err := config.Load(source)
	if err != nil {
		return t, fmt.Errorf("read configuration: %w", err)
	}
	self, err := cfg.SelfNode(0, c.String("cuk"))
	if err != nil {
		return t, fmt.Errorf("find the node in %s: %w", source, err)
	}
	t.ctlPort = uint16(self.CtlPort) // config allows 1 to 65535
	return t, nil
}
