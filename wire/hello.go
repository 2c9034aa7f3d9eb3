package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/chmpx/chmpx/ring"
)

// HelloVersion is the version of the frames between nodes.
const HelloVersion = 2

// HelloBytesMax bounds an encoded Hello.
const HelloBytesMax = 4 << 10

// helloWordBytesMax bounds each string of a Hello.
const helloWordBytesMax = 512

// ErrHello is wrapped by every error about bytes that are no Hello.
var ErrHello = errors.New("wire: invalid hello")

// NodeRole says what a node is in the ring.
type NodeRole uint8

// The roles of a node.
const (
	NodeServer NodeRole = 1 // owns slots, dialled by others
	NodeSlave  NodeRole = 2 // owns nothing, dials servers
)

// String returns the lower-case word.
func (r NodeRole) String() string {
	switch r {
	case NodeServer:
		return "server"
	case NodeSlave:
		return "slave"
	}
	return fmt.Sprintf("node role(%d)", uint8(r))
}

func (r NodeRole) valid() bool { return r == NodeServer || r == NodeSlave }

// Hello introduces a node at the begin of a data link, in both directions: the
// payload of a TypeHello frame. A receiver compares Version, Group and RingID
// itself, so that it can say why it refuses.
type Hello struct {
	Version     uint16           `json:"version"`
	Group       string           `json:"group"`
	RingID      uint64           `json:"ring_id,string"` // 0 = the node has no table yet
	ID          ring.ID          `json:"id,string"`
	Role        NodeRole         `json:"role"`
	Name        string           `json:"name"`
	Incarnation ring.Incarnation `json:"incarnation"` // 0 = not admitted yet
	Epoch       ring.Epoch       `json:"epoch"`
	Refused     string           `json:"refused,omitempty"` // why the link will be closed; empty = accepted
}

// Encode returns the JSON form. Refused is cut to what a hello can hold; any
// other string that is too long is an error.
func (h *Hello) Encode() ([]byte, error) {
	c := *h
	if len(c.Refused) > helloWordBytesMax {
		c.Refused = strings.ToValidUTF8(c.Refused[:helloWordBytesMax], "")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHello, err)
	}
	if len(b) > HelloBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrHello, len(b), HelloBytesMax)
	}
	return b, nil
}

// DecodeHello decodes and checks the JSON form. Any version is accepted.
func DecodeHello(b []byte) (*Hello, error) {
	if len(b) > HelloBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrHello, len(b), HelloBytesMax)
	}
	h := new(Hello)
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHello, err)
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Hello) check() error {
	switch {
	case h.Version == 0:
		return fmt.Errorf("%w: no version", ErrHello)
	case h.ID == 0:
		return fmt.Errorf("%w: no node id", ErrHello)
	case !h.Role.valid():
		return fmt.Errorf("%w: %v", ErrHello, h.Role)
	case len(h.Group) > helloWordBytesMax || len(h.Name) > helloWordBytesMax || len(h.Refused) > helloWordBytesMax:
		return fmt.Errorf("%w: a text of more than %d bytes", ErrHello, helloWordBytesMax)
	}
	return nil
}
