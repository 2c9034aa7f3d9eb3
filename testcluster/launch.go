package testcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// The programs of a ring are processes of a binary that knows the verbs
// _server (ServerProgram) and _client (ClientProgram): chmpx-testcluster.

// StartServerProgram starts a server program on a server node. self is the
// binary that knows the verbs.
func (c *Cluster) StartServerProgram(self string, n *Node) (*Proc, error) {
	return c.Start("program-"+n.Name, nil, self, "_server", "-conf", n.Conf(), "-name", n.Name, "-records", c.records(n.Name))
}

// StartServerPrograms starts one server program on each server node, in their order.
func (c *Cluster) StartServerPrograms(self string) ([]*Proc, error) {
	var programs []*Proc
	for _, n := range c.Servers {
		p, err := c.StartServerProgram(self, n)
		if err != nil {
			return nil, err
		}
		programs = append(programs, p)
	}
	return programs, nil
}

// StopServerPrograms stops what StartServerPrograms has started and returns
// all messages that the programs were given.
func (c *Cluster) StopServerPrograms(ctx context.Context, programs []*Proc) ([]Taken, error) {
	var taken []Taken
	for i, p := range programs {
		if err := p.Stop(ctx); err != nil {
			return nil, err
		}
		t, err := readRecords[Taken](c.records(c.Servers[i].Name))
		if err != nil {
			return nil, err
		}
		taken = append(taken, t...)
	}
	return taken, nil
}

// StartLoad starts a client program of that name on a node. Its progress
// comes on the channel, about once a second, and must be read; the channel is
// closed when the program has ended. What it could not send or got no answer
// for is in its records, and the reasons in its log.
func (c *Cluster) StartLoad(self, name string, n *Node, load Load) (*Proc, <-chan Progress, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	defer w.Close() // the program has its own
	p, err := c.Start(name, w, self, "_client", "-conf", n.Conf(), "-records", c.records(name), "-one-way="+strconv.FormatBool(load.OneWay),
		"-requests", strconv.Itoa(load.Requests), "-rate", strconv.Itoa(load.PerSecond), "-keys", strconv.Itoa(load.Keys), "-first-key", strconv.Itoa(load.FirstKey),
		"-patience", load.Patience.String())
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	progress := make(chan Progress, progressMax)
	go func() { // ends with the client program
		defer close(progress)
		defer r.Close()
		for dec := json.NewDecoder(r); ; {
			var report Progress
			if dec.Decode(&report) != nil {
				return
			}
			progress <- report
		}
	}()
	return p, progress, nil
}

// progressMax is how many reports wait for whoever follows a load: more than
// any load here makes, so that the program never waits.
const progressMax = 1024

// RunLoad runs a client program on the first slave node to its end and returns its records. then, if
// not nil, is called once when so many requests were sent.
func (c *Cluster) RunLoad(ctx context.Context, self string, load Load, sent int, then func()) ([]Asked, error) {
	p, progress, err := c.StartLoad(self, "client", c.Slaves[0], load)
	if err != nil {
		return nil, err
	}
	for report := range progress {
		if then != nil && report.Sent >= sent {
			then()
			then = nil
		}
	}
	if _, err := p.Wait(ctx); err != nil {
		return nil, err
	}
	return readRecords[Asked](c.records("client"))
}

func (c *Cluster) records(name string) string { return c.path(name + ".records") }
