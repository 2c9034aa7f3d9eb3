package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// commandNode answers every text command with the reply, and passes on what it was sent.
func commandNode(t *testing.T, reply string) (port string, sent chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent = make(chan string, 100)
	ended := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-ended })
	go func() { // ended by the listener
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			sent <- line
			_, _ = io.WriteString(conn, reply)
			conn.Close()
		}
	}()
	_, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, sent
}

// Each verb sends its text command.
func TestRingVerbs(t *testing.T) {
	port, sent := commandNode(t, "SUCCEED\n")
	for verb, want := range map[string]string{
		"servicein": "SERVICEIN", "serviceout @ b:8021": "SERVICEOUT b:8021", "serviceout @ [::1]:8021:x": "SERVICEOUT [::1]:8021:x",
		"merge start": "MERGE", "merge complete -no-wait": "COMPMERGE", "merge complete -no-wait -force": "COMPMERGE FORCE", "merge abort": "ABORTMERGE",
		"node forget -no-wait @ b:8021": "NODEFORGET b:8021", "node replace @ b:8021 [::1]:8021:x": "NODEREPLACE b:8021 [::1]:8021:x",
		"node restart -no-wait": "NODERESTART 30s", "node restart -no-wait @ 8021": "NODERESTART 8021 30s", "node forget -no-wait @ b": "NODEFORGET b",
		"node restart -no-wait @ b:8021": "NODERESTART b:8021 30s", "node restart -no-wait -hold 90s @ b:8021": "NODERESTART b:8021 1m30s",
		"suspend": "SUSPENDMERGE", "nosuspend": "NOSUSPENDMERGE", "updatestatus": "UPDATESTATUS",
	} {
		if !strings.Contains(verb, "@") {
			verb += " @"
		}
		args := strings.Fields(strings.Replace(verb, "@", "-host 127.0.0.1 -ctlport "+port, 1))
		out, err := runArgs(t, args...)
		if err != nil || out != "SUCCEED\n" {
			t.Errorf("%s: %q, %v", verb, out, err)
			continue
		}
		if got := <-sent; got != want+"\n" {
			t.Errorf("%s sent %q, want %q", verb, got, want)
		}
	}
}

// A refusal is an error, with its reason; in JSON it is printed and an error all the same.
func TestRingVerbRefused(t *testing.T) {
	port, _ := commandNode(t, "ERROR: Failed to start merging.\nREASON: no quorum: missing b:8021\n")
	out, err := runArgs(t, "merge", "start", "-host", "127.0.0.1", "-ctlport", port)
	if err == nil || out != "" || err.Error() != "ERROR: Failed to start merging. (no quorum: missing b:8021)" {
		t.Errorf("%q, %v", out, err)
	}
	out, err = runArgs(t, "merge", "start", "-host", "127.0.0.1", "-ctlport", port, "-json")
	want := `{"command":"MERGE","ok":false,"reply":"ERROR: Failed to start merging.","reason":"no quorum: missing b:8021"}` + "\n"
	if !errors.Is(err, errPrinted) || out != want {
		t.Errorf("-json: %q, %v", out, err)
	}
	port, _ = commandNode(t, "SUCCEED: There no server on RING.\n")
	out, err = runArgs(t, "suspend", "-host", "127.0.0.1", "-ctlport", port, "-json")
	if err != nil || out != `{"command":"SUSPENDMERGE","ok":true,"reply":"SUCCEED: There no server on RING."}`+"\n" {
		t.Errorf("-json: %q, %v", out, err)
	}
}

// What is missing or too much is said before anything is sent.
func TestRingVerbErrors(t *testing.T) {
	for args, want := range map[string]string{
		"servicein":                              "which node?",
		"servicein b:8021 -ctlport 1":            `"b:8021" is no option`,
		"serviceout -ctlport 1":                  "which server?",
		"serviceout -ctlport 1 a:1 b:2":          "one server is needed, not 2 words",
		"merge start -host 127.0.0.1 -ctlport 1": "127.0.0.1:1",
		"merge":                                  "merge start",
		"merge -ctlport 1":                       "-ctlport",
		"merge now":                              `unknown command "merge now"`,
	} {
		if out, err := runArgs(t, strings.Fields(args)...); err == nil || out != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q and nothing else\n%s", args, err, want, out)
		}
	}
	if _, err := runArgs(t, "serviceout", "-ctlport", "1", "a:1\nMERGE"); err == nil || !strings.Contains(err.Error(), "no blanks") {
		t.Errorf("two lines: %v", err)
	}
}

// A node that cannot be reached is an error that says that nothing was done;
// in JSON it is printed, too.
func TestRingVerbNotReached(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	out, err := runArgs(t, "merge", "start", "-host", "127.0.0.1", "-ctlport", port)
	if err == nil || out != "" || !strings.Contains(err.Error(), "cannot be reached, nothing was done: MERGE to 127.0.0.1:"+port) {
		t.Errorf("%q, %v", out, err)
	}
	out, err = runArgs(t, "merge", "start", "-host", "127.0.0.1", "-ctlport", port, "-json")
	if !errors.Is(err, errPrinted) || !strings.HasPrefix(out, `{"command":"MERGE","ok":false,"reply":"","error":"ringview: the node cannot be reached, nothing was done`) {
		t.Errorf("-json: %q, %v", out, err)
	}
}

// A node that takes a command and says nothing may have done it; one that was only
// asked for something has changed nothing.
func TestNoAnswer(t *testing.T) {
	port, _ := commandNode(t, "")
	for _, verb := range []string{"servicein", "reload"} {
		out, err := runArgs(t, verb, "-host", "127.0.0.1", "-ctlport", port, "-json")
		if exitCode(err) != exitNoAnswer || !strings.Contains(out, `"uncertain":true`) {
			t.Errorf("%s: %q, %v", verb, out, err)
		}
	}
	out, err := runArgs(t, "dump", "-host", "127.0.0.1", "-ctlport", port)
	if exitCode(err) != exitNotReached || out != "" || strings.Contains(err.Error(), "may have been done") {
		t.Errorf("dump: %q, %v", out, err)
	}
}
