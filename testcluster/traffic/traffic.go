// Package traffic has the programs of a ring under test: senders that send
// messages of every kind, and receivers that take and answer them. Each writes
// a history of what it did and was given, which a SIGKILL does not lose, for
// package check to judge. Payloads carry a checksum and nothing else.
//
// A program stops in order on the signals that end its context, and is slow
// between SIGUSR1 and SIGUSR2 if it is a receiver.
package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/testcluster/check"
)

// Program says which program of which node this is.
type Program struct {
	Conf string // configuration file of the node
	Node string // its name
	Name string // of the program; unique within a run
	Dir  string // of the histories: <Name>.history, or <Name>.<n>.history for the sessions of a sender
	Seed uint64 // draws what it does
}

// ErrCorrupt says that a message is not what was sent.
var ErrCorrupt = errors.New("traffic: corrupt message")

// HistoryExt is the extension of histories.
const HistoryExt = ".history"

// attachWait is how long a program waits for its node.
const attachWait = 60 * time.Second

// attach attaches to the node and begins a history. index tells several
// sessions of one program apart, -1 if there is one.
func (p *Program) attach(ctx context.Context, o client.Options, index int) (*client.Client, *check.Writer, error) {
	ctx, cancel := context.WithTimeout(ctx, attachWait)
	defer cancel()
	name := p.Name
	if index >= 0 {
		name = fmt.Sprintf("%s.%d", p.Name, index)
	}
	o.Config, o.Name = p.Conf, name
	c, err := client.Attach(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("attach: %w", err)
	}
	session := c.Session()
	w, err := check.Create(filepath.Join(p.Dir, name+HistoryExt), check.Header{
		Program: name, Node: p.Node, Server: o.Role == client.RoleServer, PID: os.Getpid(),
		AckOnDone: o.AckOnDone, Session: fmt.Sprintf("%x", session[:]), StartNs: check.Now(),
	})
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, w, nil
}

// A payload is 4 bytes checksum of the rest, 8 bytes sequence, and noise.
const payloadHead = 12

// putPayload fills p, which has at least payloadHead bytes.
func putPayload(p []byte, seq uint64, random *rand.Rand) {
	binary.LittleEndian.PutUint64(p[4:], seq)
	noise := random.Uint64() | 1
	for i := payloadHead; i < len(p); i++ {
		noise = noise*6364136223846793005 + 1442695040888963407
		p[i] = byte(noise >> 56)
	}
	binary.LittleEndian.PutUint32(p, crc32.ChecksumIEEE(p[4:]))
}

// checkPayload returns ErrCorrupt unless p is the payload of message seq.
func checkPayload(p []byte, seq uint64) error {
	switch {
	case len(p) < payloadHead:
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(p))
	case crc32.ChecksumIEEE(p[4:]) != binary.LittleEndian.Uint32(p):
		return fmt.Errorf("%w: wrong checksum over %d bytes", ErrCorrupt, len(p))
	case binary.LittleEndian.Uint64(p[4:]) != seq:
		return fmt.Errorf("%w: message %d has the payload of %d", ErrCorrupt, seq, binary.LittleEndian.Uint64(p[4:]))
	}
	return nil
}

// A reply is a payload whose sequence is the id of the node that answered,
// and which carries the sequence of the request behind it.
const replyBytes = payloadHead + 8

func putReply(p []byte, node, seq uint64) {
	binary.LittleEndian.PutUint64(p[4:], node)
	binary.LittleEndian.PutUint64(p[payloadHead:], seq)
	binary.LittleEndian.PutUint32(p, crc32.ChecksumIEEE(p[4:]))
}

// checkReply returns the node that answered request seq.
func checkReply(p []byte, seq uint64) (node uint64, err error) {
	switch {
	case len(p) != replyBytes || crc32.ChecksumIEEE(p[4:]) != binary.LittleEndian.Uint32(p):
		return 0, fmt.Errorf("%w: reply of %d bytes", ErrCorrupt, len(p))
	case binary.LittleEndian.Uint64(p[payloadHead:]) != seq:
		return 0, fmt.Errorf("%w: request %d got the reply to %d", ErrCorrupt, seq, binary.LittleEndian.Uint64(p[payloadHead:]))
	}
	return binary.LittleEndian.Uint64(p[4:]), nil
}

// pause waits; it returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
