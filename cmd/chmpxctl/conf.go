package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ring"
)

// errBad says that a configuration was found to be bad; why has been printed.
var errBad = errors.New("the configuration is bad")

func confCommand() *cli.Command {
	return &cli.Command{
		Name:            "conf",
		Usage:           "look at configurations",
		HideHelpCommand: true,
		Subcommands: []*cli.Command{{
			Name:  "check",
			Usage: "say everything that is wrong with a configuration",
			Description: "All errors and warnings are printed, with file and line. The exit code is 1 if\n" +
				"there is an error, or if the configuration has no node on this host that it\n" +
				"could start (with -any-host: on any host).",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "conf", Aliases: []string{"f"}, Usage: "configuration `file`; default: CHMCONFFILE, then CHMJSONCONF"},
				&cli.StringFlag{Name: "json", Usage: "the configuration itself, as JSON `text`"},
				&cli.GenericFlag{Name: "ctlport", Value: new(port), Usage: "control `port` of the node, in place of SELFCTLPORT"},
				&cli.StringFlag{Name: "cuk", Usage: "`text` that names the node, in place of SELFCUK"},
				&cli.BoolFlag{Name: "any-host", Usage: "the nodes need not be on this host"},
				&cli.BoolFlag{Name: "as-json", Usage: "print the answer in JSON (-json is a configuration)"},
			},
			Action: func(c *cli.Context) error {
				if c.NArg() > 0 {
					return usagef("conf check: %q is no option; name a file with -conf", c.Args().First())
				}
				source, err := config.FindSource(c.String("conf"), c.String("json"))
				if err != nil {
					return usagef("which configuration? %w", err)
				}
				return showAs(c, c.Bool("as-json"), func(c *cli.Context) (answer, error) {
					ck := check(source, int(ctlPortOf(c)), c.String("cuk"), c.Bool("any-host"))
					if len(ck.errs) > 0 {
						return ck, errBad
					}
					return ck, nil
				})
			},
		}},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("unknown command \"conf %s\"; chmpxctl conf -h lists them", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// checked is what was found out about a configuration.
type checked struct {
	source   config.Source
	cfg      *config.Config // nil: it cannot be used at all
	self     *config.Self   // nil: no node of this host
	role     string         // SERVER or SLAVE, "" if it is not known
	errs     []string
	warnings []string
}

// check loads a configuration and looks for this host's node in it; with anyHost
// an entry with its control port, which may be another host's, will do.
func check(source config.Source, ctlPort int, cuk string, anyHost bool) checked {
	ck := checked{source: source}
	cfg, warnings, err := config.Load(source)
	for _, w := range warnings {
		ck.warnings = append(ck.warnings, w.String())
	}
	if err != nil {
		ck.errs = texts(err)
		return ck
	}
	ck.cfg, ck.role = cfg, cfg.Mode
	if cfg.SelfCtlPort == 0 && ctlPort == 0 {
		ck.warnings = append(ck.warnings, source.String()+": SELFCTLPORT is missing: every node must be told its own with -ctlport")
		return ck
	}
	self, err := cfg.SelfNode(ctlPort, cuk)
	switch {
	case err == nil:
		ck.self, ck.role = &self, "SLAVE"
		if self.Server {
			ck.role = "SERVER"
		}
	case anyHost && roleAnywhere(cfg, cmp.Or(ctlPort, cfg.SelfCtlPort)) != "":
		ck.role = roleAnywhere(cfg, cmp.Or(ctlPort, cfg.SelfCtlPort))
		ck.warnings = append(ck.warnings, texts(err)...)
	default:
		ck.errs = texts(err)
	}
	return ck
}

// roleAnywhere returns what the node with a control port is, SERVER or SLAVE, on
// whatever host; "" if the configuration has none.
func roleAnywhere(cfg *config.Config, ctlPort int) string {
	switch {
	case cfg.Mode != "SLAVE" && slices.ContainsFunc(cfg.Servers, func(s config.Server) bool { return s.CtlPort == ctlPort }):
		return "SERVER"
	case cfg.Mode != "SERVER" && slices.ContainsFunc(cfg.Slaves, func(s config.Slave) bool { return s.CtlPort == ctlPort }):
		return "SLAVE"
	}
	return ""
}

// texts returns the lines of an error.
func texts(err error) []string { return strings.Split(err.Error(), "\n") }

// MarshalJSON returns what was found out.
func (ck checked) MarshalJSON() ([]byte, error) {
	out := struct {
		Source   string   `json:"source"`
		OK       bool     `json:"ok"`
		Errors   []string `json:"errors"`
		Warnings []string `json:"warnings"`
		Group    string   `json:"group,omitempty"`
		Servers  int      `json:"servers"`
		Node     *namedID `json:"node,omitempty"` // this host's
	}{Source: ck.source.String(), OK: len(ck.errs) == 0, Errors: ck.errs, Warnings: ck.warnings}
	if out.Errors == nil {
		out.Errors = []string{}
	}
	if out.Warnings == nil {
		out.Warnings = []string{}
	}
	if ck.cfg != nil {
		out.Group, out.Servers = ck.cfg.Group, len(ck.cfg.Servers)
	}
	if ck.self != nil {
		out.Node = &namedID{selfID(ck.cfg, *ck.self).String(), fmt.Sprintf("%s:%d", ck.self.Name, ck.self.CtlPort), strings.ToLower(ck.role)}
	}
	return json.Marshal(out)
}

// print writes everything for people.
func (ck checked) print(w io.Writer, _ bool) error {
	var b strings.Builder
	for _, text := range ck.warnings {
		fmt.Fprintf(&b, "warning: %s\n", text)
	}
	for _, text := range ck.errs {
		fmt.Fprintf(&b, "error: %s\n", text)
	}
	if len(ck.errs) > 0 {
		fmt.Fprintf(&b, "%s is bad: %s, %s\n", ck.source, plural(len(ck.errs), "error"), plural(len(ck.warnings), "warning"))
	} else {
		fmt.Fprintf(&b, "%s is good: group %s, %s, %s", ck.source, ck.cfg.Group,
			plural(len(ck.cfg.Servers), "server"), plural(len(ck.cfg.Slaves), "entry", "entries")+" for slaves")
		if len(ck.warnings) > 0 {
			fmt.Fprintf(&b, "; %s", plural(len(ck.warnings), "warning"))
		}
		b.WriteByte('\n')
	}
	if ck.self != nil {
		fmt.Fprintf(&b, "this host's node is the %s %s:%d, chmpxid %s\n",
			strings.ToLower(ck.role), ck.self.Name, ck.self.CtlPort, selfID(ck.cfg, *ck.self))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func selfID(cfg *config.Config, s config.Self) ring.ID {
	idType, err := ring.ParseIDType(cfg.IDType)
	if err != nil {
		return 0 // config allows no other
	}
	return ring.NodeID(cfg.Group, idType, ring.Identity{
		Name: s.Name, CtlPort: uint16(s.CtlPort), CUK: s.CUK, CtlEndpoints: s.CtlEndpoints, CustomSeed: s.CustomSeed,
	})
}

// plural prints a number with its noun: "1 error", "2 errors".
func plural(n int, noun string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case len(many) > 0:
		return fmt.Sprintf("%d %s", n, many[0])
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
