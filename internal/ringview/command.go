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
	// Uncertain: the ring was lost with the command on its way, so it may have been done;
	// callers may set it where there is no answer.
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
	addr := net.JoinHostPort(host, strconv.Itoa(int(ctlPort)))
	text, sent, err := exchange(ctx, addr, command)
	switch {
	case err == nil:
		return text, nil
	case !sent:
		return "", fmt.Errorf("%w: %s to %s: %w", ErrNotSent, command, addr, err)
	}
	return "", fmt.Errorf("%w of %s to %s, it may have been done: %w", ErrNoAnswer, addr, command, err)
}

// Look is Ask for a command that changes nothing: without an answer the error
// wraps ErrStatus, whether the node was reached or not.
func Look(ctx context.Context, host string, ctlPort uint16, command string) (string, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(int(ctlPort)))
	text, _, err := exchange(ctx, addr, command)
	if err != nil {
		return "", fmt.Errorf("%w of %s, no answer to %s: %w", ErrStatus, addr, command, dialled(err))
	}
	return text, nil
}

// exchange sends a command and returns the answer, or whether it was sent. It ends
// with ctx, at the latest after commandTimeout.
func exchange(ctx context.Context, addr, command string) (text string, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", false, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var b []byte
	if _, err = io.WriteString(conn, command+"\n"); err == nil {
		b, err = io.ReadAll(io.LimitReader(conn, replyBytesMax))
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && len(b) == 0:
		err = errors.New("the node closed the connection; if it does so at once, it does not let this host in: see CTLALLOW")
	}
	return string(b), true, err
}

func parseReply(text string) Reply {
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	reason := strings.TrimPrefix(strings.TrimSpace(rest), "REASON: ")
	return Reply{
		OK: strings.HasPrefix(first, "SUCCEED"), Reply: strings.TrimSpace(first),
		Reason: reason, Uncertain: strings.HasPrefix(reason, uncertain),
	}
}
