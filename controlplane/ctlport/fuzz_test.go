package ctlport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fuzzed answers all that a node answers.
func fuzzed(rights Rights) Config {
	return Config{
		Rights:  func(context.Context, net.Addr) Rights { return rights },
		Command: answers(false), Status: func() any { return map[string]int{"epoch": 7} },
		Consistent: func(context.Context) error { return errors.New("no quorum") },
		Owners:     func(hash uint64) Owners { return Owners{Hash: fmt.Sprint(hash)} },
		Names:      func() []string { return []string{"x"} },
		Actions: map[string]Action{"/v1/reload": func(_ context.Context, body []byte) (any, error) {
			if len(body) > 0 {
				return nil, errors.New("refused")
			}
			return "done", nil
		}},
	}
}

// isLine reports whether a text answer begins as one may.
func isLine(reply string) bool {
	return slices.ContainsFunc([]string{"Unknown command(", "ERROR: ", "SUCCEED", "Version 1\n", "Server Name ", "RING Name ", dumpRule + "\n"},
		func(begin string) bool { return strings.HasPrefix(reply, begin) })
}

// checkHTTP returns what is wrong with an answer over HTTP.
func checkHTTP(reply []byte, method string) error {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(reply)), &http.Request{Method: method})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && len(body) > 0 && !json.Valid(body) {
		err = errors.New("no JSON")
	}
	return err
}

// FuzzConnection proves that whatever comes, in whatever pieces, from whatever
// host, the connection ends in time and the answer is nothing (to a host that is
// denied, or who said nothing), a whole answer over HTTP with JSON in it, or lines
// that begin as CHMPX's do: an error line, if not what was asked for.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		"VERSION\r\n", "version\x00junk", " \tallstatus x\n", "SELFSTATUS\n", "DUMP\n", "TRACE foo\n", "TRACE on\n", "TRACEVIEW DIR=IN DEV=MQ 5\n",
		"SERVICEIN\n", "SERVICEOUT a:8021:x\n", "SERVICEOUT [::1]:99999\n", "MERGE\n", "COMPMERGE FORCE\n", "ABORTMERGE\n", "UPDATESTATUS\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /v1/owners?hash=0x1f HTTP/1.0\r\n\r\n", "GET /v1/status?consistent=1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"OPTIONS / HTTP/1.1\r\nHost: [::1]\r\nOrigin: null\r\n\r\n", "GET\n", "POST /", "\x00", "\n", strings.Repeat("SELFSTATUS ", 900), "\xff\xfe\x80",
	} {
		f.Add([]byte(seed), uint8(3), uint8(10), uint8(2))
		f.Add([]byte(seed), uint8(200), uint8(0), uint8(1))
	}
	f.Add([]byte("POST /"), uint8(1), uint8(210), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, size, pauseMs, rights uint8) {
		allowed := Rights(rights % 3)
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c, served := pipe(t, New(nil, fuzzed(allowed)))
			wrote := make(chan struct{})
			go func() { // ends when the port has closed its end
				defer close(wrote)
				for piece := range slices.Chunk(data, max(1, int(size))) {
					if _, err := c.Write(piece); err != nil {
						return
					}
					if pauseMs > 0 {
						<-time.After(time.Duration(pauseMs) * time.Millisecond)
					}
				}
			}()
			reply, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("%q: %v", data, err)
			}
			method, _, _ := bytes.Cut(data, []byte(" "))
			switch {
			case allowed == Denied, len(data) == 0, data[0] == 0:
				if len(reply) > 0 {
					t.Errorf("%q: answered %q", data, reply)
				}
			case bytes.HasPrefix(reply, []byte("HTTP/")):
				if err := checkHTTP(reply, string(method)); err != nil {
					t.Errorf("%q: answered %q: %v", data, reply, err)
				}
			case !bytes.HasSuffix(reply, []byte("\n")) || !isLine(string(reply)):
				t.Errorf("%q: answered %q", data, reply)
			}
			<-served
			<-wrote
			if took := time.Since(start); took > 3*stepTimeout {
				t.Errorf("%q: took %v", data, took)
			}
		})
	})
}
