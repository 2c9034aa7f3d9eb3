package console

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty returns both ends of a new pseudo terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// await waits until the screen has shown text so many times.
func (s *screen) await(t *testing.T, text string, times int) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		s.mu.Lock()
		shown := s.text.String()
		s.mu.Unlock()
		if strings.Count(shown, text) >= times {
			return
		}
		select {
		case <-late:
			t.Fatalf("%q is not shown %d times in\n%q", text, times, shown)
		case <-time.After(time.Millisecond):
		}
	}
}

// On a terminal lines are edited, completed and taken from the history; Ctrl-C
// at the prompt ends it, and the terminal is as before.
func TestTerminal(t *testing.T) {
	master, slave := pty(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	shown := &screen{}
	go func() { // ended by the master's end
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = shown.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	s := newSession("", func(o *Options) { o.In, o.Out = slave, slave })
	done := make(chan error, 1)
	go func() { done <- s.Interact(t.Context()) }()
	shown.await(t, "T> ", 1)
	prompts := 0
	press := func(keys string) { // and wait for the next prompt: before it, keys belong to the command
		t.Helper()
		if _, err := master.WriteString(keys); err != nil {
			t.Fatal(err)
		}
		prompts++
		shown.await(t, "\r\nT> ", prompts)
	}
	press("sta\tse\t\r")        // completed twice
	press("merge x\x7fstart\r") // edited
	press("\x1b[A\x1b[A\r")     // two up
	press("s\t")                // ambiguous: listed
	shown.await(t, "save  shell  sleep  status", 1)
	press("\x15echo the end\r")
	shown.await(t, "the end\r\n", 2)
	if _, err := master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.expect(t, "status self", "merge start", "status self")
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as before: %v", err)
	}
}
