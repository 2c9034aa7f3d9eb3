package check

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/chmpx/chmpx/wire"
)

// What is what an Event tells.
type What uint8

// The first group is of those who send, the second of those who receive.
const (
	Sending     What = 1 + iota // a call that sends is about to be made
	Accepted                    // Send returned nil: the message is the ring's
	Refused                     // the call failed before the message was accepted: it must never be taken
	Settled                     // a call returned that waits: a receiver has taken the message
	Replied                     // a reply came; Peer says from which node, if the program knows
	Failed                      // it was told as given up and not delivered
	MaybeFailed                 // it was told as given up, perhaps delivered
	Receivers                   // a message to many: Count is to how many it goes

	Taken  // Receive returned it, or the handler was called with it
	Done   // it was declared done (AckOnDone)
	Answer // a reply to it was accepted
)

// Event is one thing that a program did or was given. A message is named by the
// session that sent it and its sequence there.
type Event struct {
	AtNs    int64 // Now()
	What    What
	Kind    wire.Kind // of the message
	Marked  bool      // MaybeRepeat, as the program saw it
	Count   uint32    // of Receivers; of Sending the milliseconds until the deadline, 0: none
	Session wire.SessionID
	Seq     uint64
	Hash    uint64
	Peer    uint64 // ring.ID of a node, 0: not known
}

// eventBytes is the size of an encoded Event.
const eventBytes = 64

// Header is the first line of a history file.
type Header struct {
	Program   string `json:"program"` // unique within a run, restarts included
	Node      string `json:"node"`    // name of the node that it is attached to
	Server    bool   `json:"server"`
	PID       int    `json:"pid"`
	AckOnDone bool   `json:"ack_on_done,omitempty"`
	Session   string `json:"session"` // of this program; a sender's messages carry it
	StartNs   int64  `json:"start_ns"`
}

// Now returns the host's monotonic clock in nanoseconds: the same for all
// processes of the host, and untouched by faults of the wall clock.
func Now() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // never fails for this clock
	return ts.Nano()
}

// Writer writes the history of one program so that a SIGKILL loses at most the
// event that was being written. Any goroutine may use it.
type Writer struct {
	mu  sync.Mutex // guards f and buf: events are whole
	f   *os.File
	buf [eventBytes]byte
}

// Create makes the history file of a program. It must not exist.
func Create(file string, h Header) (*Writer, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	line, err := json.Marshal(h)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create history: %w", err), f.Close())
	}
	return &Writer{f: f}, nil
}

// Add writes an event down; AtNs 0 stands for now.
func (w *Writer) Add(e Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.AtNs == 0 {
		e.AtNs = Now()
	}
	e.put(w.buf[:])
	if _, err := w.f.Write(w.buf[:]); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// Close closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.f.Close(); err != nil {
		return fmt.Errorf("close history: %w", err)
	}
	return nil
}

func (e *Event) put(b []byte) {
	clear(b)
	binary.LittleEndian.PutUint64(b, uint64(e.AtNs))
	b[8], b[9] = byte(e.What), byte(e.Kind)
	if e.Marked {
		b[10] = 1
	}
	binary.LittleEndian.PutUint32(b[12:], e.Count)
	copy(b[16:32], e.Session[:])
	binary.LittleEndian.PutUint64(b[32:], e.Seq)
	binary.LittleEndian.PutUint64(b[40:], e.Hash)
	binary.LittleEndian.PutUint64(b[48:], e.Peer)
}

func (e *Event) get(b []byte) {
	*e = Event{
		AtNs: int64(binary.LittleEndian.Uint64(b)), What: What(b[8]), Kind: wire.Kind(b[9]), Marked: b[10] == 1,
		Count: binary.LittleEndian.Uint32(b[12:]), Session: wire.SessionID(b[16:32]),
		Seq: binary.LittleEndian.Uint64(b[32:]), Hash: binary.LittleEndian.Uint64(b[40:]), Peer: binary.LittleEndian.Uint64(b[48:]),
	}
}

// History is what one program wrote down, in the order of writing.
type History struct {
	Header
	Events []Event
}

// Read reads a history file. An event that was cut off by the end of its
// program is left out.
func Read(file string) (History, error) {
	f, err := os.Open(file)
	if err != nil {
		return History{}, fmt.Errorf("read history: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var h History
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &h.Header)
	}
	if err != nil {
		return History{}, fmt.Errorf("read head of history %s: %w", file, err)
	}
	for buf := make([]byte, eventBytes); ; {
		switch _, err := io.ReadFull(r, buf); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return h, nil
		case err != nil:
			return History{}, fmt.Errorf("read history %s: %w", file, err)
		}
		var e Event
		e.get(buf)
		h.Events = append(h.Events, e)
	}
}
