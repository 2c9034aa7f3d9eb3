package main

import (
	"strings"
	"testing"

	"github.com/chmpx/chmpx/node"
)

// A node introduces itself in CHMPX's lines, a server as well as a slave.
func TestPrintStart(t *testing.T) {
	for name, c := range map[string]struct {
		info node.Info
		want string
	}{
		"server": {node.Info{Name: "localhost", Server: true, Port: 8020, CtlPort: 8021}, `CHMPX HOSTNAME            = localhost
MODE                      = SERVER
PORT                      = 8020
CONTROL PORT              = 8021
SSL                       = NO
BASE HASH                 = ffffffffffffffff
STATUS                    = SAFE -> [SERVICE OUT][UP][n/a][Nothing][Suspend]

`},
		"slave": {node.Info{Name: "localhost", Port: -1, CtlPort: 8022}, `CHMPX HOSTNAME            = localhost
MODE                      = SLAVE
PORT                      = -1
CONTROL PORT              = 8022
SSL                       = NO
BASE HASH                 = ffffffffffffffff
STATUS                    = SAFE -> [SLAVE][UP][n/a][Nothing][NoSuspend]

`},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if printStart(&b, c.info); b.String() != c.want {
				t.Errorf("got:\n%swant:\n%s", b.String(), c.want)
			}
		})
	}
}
