package ringview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ErrNoAnswer is wrapped when a command was not answered: it may have been done.
var ErrNoAnswer = errors.New("ringview: no answer")

// ErrNotSent is wrapped when a command did not reach the node: nothing was done.
var ErrNotSent = errors.New("ringview: the node cannot be reached, nothing was done")

// Limits of a command: nodes answer within 5 s.
const (
	commandTimeout = 6 * time.Second
	replyBytesMax  = 16 << 20 // DUMP of 1,024 servers takes about 1 MiB
)

// Reply is what a node answers to a text command that changes the ring.
type Reply struct {
	OK     bool   `json:"ok"`               // SUCCEED
	Reply  string `json:"reply"`            // first line, CHMPX's words
	Reason string `json:"reason,omitempty"` // why it was not done
	// Uncertain: the ring was lost with the command on its way, so it may have been done.
	Uncertain bool `json:"uncertain,omitempty"`
}

// uncertain begins the reason of an answer that is no refusal; docs/control.md.
const uncertain = "the change may have happened"

// Command sends a text command to the node at host and control port and
// returns its answer, whatever it is. It ends with ctx, at the latest after 6 s.
// Without an answer it returns ErrNoAnswer, or ErrNotSent when the node could
// not be reached.
func Command(ctx context.Context, host string, ctlPort uint16, command string) (Reply, error) {
	text, err := Ask(ctx, host, ctlPort, command)
	if err != nil {
		return Reply{}, err
	}
	return parseReply(text), nil
}

// Ask is Command for any text command; it returns the text of the answer as it came.
func Ask(ctx context.Context, host string, ctlPort uint16, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	addr := net.JoinHostPort(host, strconv.Itoa(int(ctlPort)))
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("%w: %s to %s: %w", ErrNotSent, command, addr, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	text := ""
	_, err = io.WriteString(conn, command+"\n")
	if err == nil {
		var b []byte
		b, err = io.ReadAll(io.LimitReader(conn, replyBytesMax))
		text = string(b)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil || text == "" {
		if err == nil {
			err = errors.New("the node closed the connection; if it does so at once, it does not let this host in: see CTLALLOW")
		}
		return "", fmt.Errorf("%w of %s to %s, it may have been done: %w", ErrNoAnswer, addr, command, err)
	}
	return text, nil
}

func parseReply(text string) Reply {
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	reason := strings.TrimPrefix(strings.TrimSpace(rest), "REASON: ")
	return Reply{
		OK: strings.HasPrefix(first, "SUCCEED"), Reply: strings.TrimSpace(first),
		Reason: reason, Uncertain: strings.HasPrefix(reason, uncertain),
	}
}
