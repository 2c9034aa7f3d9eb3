package service

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// notifier tells systemd how far the service is (sd_notify). Without a socket
// it says nothing.
type notifier struct{ socket string }

// send sends assignments such as READY=1, a line each. A socket that cannot be
// written to is an error that names it; systemd is waited for at most a second.
func (n notifier) send(assignments ...string) error {
	if n.socket == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", n.socket) // which knows "@" for abstract names
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // of a socket that was just opened
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
