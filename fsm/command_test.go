package fsm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// allBodies is one body of each command type, every field set.
func allBodies() []Body {
	who := ring.Identity{Name: "a.example", CtlPort: 8021, CUK: "k", CtlEndpoints: "a:1,b:2", CustomSeed: "s"}
	p := Params{
		Slots: 16384, Replica: 1, DeliverMode: "hash", Placement: "slots", IDType: ring.IDByCUK,
		DoMerge: true, AutoMerge: true, MaxVoters: 5,
	}
	return []Body{
		RingInit{RingID: 1 << 63, Era: 1, Group: "TEST", Params: p},
		ServerUp{ID: 0xfedcba9876543210, Server: who, Addr: "a.example:8020", Boot: 7, Suspend: true},
		NodeDown{ID: 3, Incarnation: 17},
		ProgramsChanged{ID: 3, Incarnation: 17, Count: 2},
		ServerRestart{ID: 3, HoldUs: 30_000_000},
		HoldEnd{ID: 3, Incarnation: 17},
		ServerReplace{Old: 3, New: 4},
		ServerForget{ID: 3},
		ServerForgotten{ID: 3},
		StoodIn{By: 4, For: 3, Incarnation: 17, Epoch: ring.Epoch{Era: 1, Index: 19}},
		ServiceIn{ID: 3},
		ServiceOut{ID: 3, Auto: true},
		PendingTable{Base: ring.Epoch{Era: 1, Index: 17}, Version: 19, Delta: []byte{1, 2, 3}},
		MergeStart{},
		TransferReady{MergeID: 20, Donor: 3, Receiver: 4},
		MergeSeal{MergeID: 20},
		TransferFinal{MergeID: 20, Seal: 25, Donor: 3, Receiver: 4},
		MergeCommit{MergeID: 20},
		MergeUnseal{MergeID: 20},
		MergeAbort{MergeID: 20, Operator: true, Reason: "ABORTMERGE"},
		SuspendMerge{On: true},
		MergeRequest{Version: 19, Delta: []byte{1, 2, 3}},
		MergeComplete{Force: true},
		SlaveUp{ID: 9, Slave: who, Boot: 8},
		SlaveDown{ID: 9, Boot: 8},
		SlaveForget{ID: 9},
	}
}

// TestGoldenCommands proves that the encoding of every command type is the one
// that logs on disk have, and that it decodes to what it was.
func TestGoldenCommands(t *testing.T) {
	bodies := allBodies()
	if len(bodies) != len(families) {
		t.Fatalf("%d bodies for %d command types", len(bodies), len(families))
	}
	for _, body := range bodies {
		name := body.Type().String()
		c := Command{Proposer: 1<<64 - 1, Number: 4, TimeUs: 1_700_000_000_000_000, Body: body}
		got, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		checkGolden(t, filepath.Join("commands", name+".json"), append(got, '\n'))
		back, err := Decode(got)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s: got %+v (%v), want %+v", name, back, err, c)
		}
	}
}

// checkGolden compares with a file below testdata, or writes it with -update.
func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update writes it):\n%s\nwant:\n%s", path, got, want)
	}
}

// TestDecodeRefuses proves that what this program does not fully know is
// never applied.
func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name, in string
		want     error
	}{
		{"empty", ``, ErrBadCommand},
		{"no object", `7`, ErrBadCommand},
		{"unknown type", `{"v":1,"type":"Frobnicate","body":{}}`, ErrUnknownCommand},
		{"no type", `{"v":1,"body":{}}`, ErrUnknownCommand},
		{"newer version", `{"v":2,"type":"MergeStart","body":{}}`, ErrUnknownCommand},
		{"unknown field", `{"v":1,"type":"MergeSeal","body":{"merge_id":1,"force":true}}`, ErrUnknownCommand},
		{"unknown envelope field", `{"v":1,"type":"MergeSeal","body":{},"level":2}`, ErrUnknownCommand},
		{"unknown and bad field", `{"v":1,"type":"MergeSeal","body":{"force":true,"merge_id":"x"}}`, ErrBadCommand},
		{"unknown field, and more after it", `{"v":1,"type":"MergeSeal","body":{"force":true}}{}`, ErrBadCommand},
		{"wrong type of field", `{"v":1,"type":"MergeSeal","body":{"merge_id":"x"}}`, ErrBadCommand},
		{"no body", `{"v":1,"type":"MergeSeal"}`, ErrBadCommand},
		{"more after it", `{"v":1,"type":"MergeStart","body":{}}{}`, ErrBadCommand},
	}
	for _, tt := range tests {
		if _, err := Decode([]byte(tt.in)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := Encode(Command{}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("Encode without body: %v", err)
	}
	if _, err := New().Apply(1, Command{}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("Apply without body: %v", err)
	}
	if CommandNone.String() != "unknown" {
		t.Errorf("name of no command: %q", CommandNone)
	}
}

// FuzzDecode proves that Decode never panics, that what it accepts survives
// Encode, and that no accepted command makes a State panic.
func FuzzDecode(f *testing.F) {
	for _, body := range allBodies() {
		b, err := Encode(Command{Proposer: 1, Number: 2, TimeUs: 3, Body: body})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	base := ringOf(f, testParams(), 2).s.Snapshot()
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		e, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(e); err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v became %+v (%v)", c, back, err)
		}
		s := New()
		if err := s.Restore(base); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(1<<40, c); err != nil {
			t.Fatal(err)
		}
	})
}
