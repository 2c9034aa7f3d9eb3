//go:build faults

package mux_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/internal/mux"
)

// DialTCP goes where the map of dials says.
func TestFaultDialTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	defer fault.Use(fault.Env{Dir: dir})()
	if err := os.WriteFile(filepath.Join(dir, fault.FileDial), []byte("nowhere.invalid:1 "+ln.Addr().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	conn, err := mux.DialTCP(t.Context(), "nowhere.invalid:1")
	if err != nil {
		t.Fatalf("DialTCP: %v", err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != ln.Addr().String() {
		t.Errorf("connected to %s, want %s", got, ln.Addr())
	}
}
