package ringview

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/fsm"
)

func example() controlplane.Status {
	return controlplane.Status{
		ID: 7, Name: "a", Group: "TEST", Role: "server", WaitsFor: "2 of 3 servers", Programs: 1, Incarnation: 5,
		Params: &fsm.Params{Placement: "chmpx", DeliverMode: "hash", Replica: 1, DoMerge: true, MaxVoters: 5},
		Quorum: controlplane.QuorumStatus{Voters: 3, Have: 1, Need: 2, Missing: []string{"b", "c"}},
		Servers: []controlplane.ServerStatus{
			{ID: 7, Name: "a", CtlPort: 8021, Addr: "a:8020", Status: "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]", Link: "self", Raft: "voter", Leader: true},
			{ID: 8, Name: "b", CtlPort: 8021, Addr: "b:8020", Status: "SAFE -> [SERVICE IN][DOWN][n/a][Nothing][NoSuspend]", BaseHash: -1, Link: "refused", Raft: "voter"},
		},
		Slaves: []controlplane.SlaveStatus{{ID: 9, Name: "s", CtlPort: 8022, Up: true}},
		Merge:  &controlplane.MergeStatus{ID: 4, Phase: "copying", Transfers: []controlplane.TransferStatus{{Donor: 7, Receiver: 8, Slots: 10, Ready: true}}},
	}
}

// The printed form holds what an operator looks for, each in its line.
func TestPrint(t *testing.T) {
	var b strings.Builder
	if err := Print(&b, example()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"quorum     no quorum: 1 of 3 voters (missing b, c)",
		"waits for  2 of 3 servers",
		"values     PLACEMENT chmpx, DELIVERMODE hash, REPLICA 1, CHMPXIDTYPE NAME, DOMERGE on, AUTOMERGE off",
		"a:8021  a:8020   [SERVICE IN][UP][n/a][Nothing][NoSuspend]    0     0            self     leader",
		"b:8021  b:8020   [SERVICE IN][DOWN][n/a][Nothing][NoSuspend]  -     0            refused  voter",
		"s:8022  0000000000000009  up",
		"merge 4 is copying",
		"a:8021  -> b:8021  10 slots  ready true  final false",
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("the output lacks the line %q:\n%s", want, b.String())
		}
	}
}

// What a merge waits for, and that it makes no progress, is said with the way out.
func TestPrintPartial(t *testing.T) {
	st := example()
	st.Merge.Transfers = append(st.Merge.Transfers, controlplane.TransferStatus{Donor: 8, Receiver: 7, Slots: 3, Partial: true})
	st.Merge.Stalled = 75
	for _, forced := range []bool{false, true} {
		st.Merge.Forced = forced
		var b strings.Builder
		if err := Print(&b, st); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"b:8021  -> a:8021  3 slots   partial: who has the data is down or without program", "  stalled: no progress for 75 s\n"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("the output lacks %q:\n%s", want, b.String())
			}
		}
		if got := strings.Contains(b.String(), "merge complete --force"); got == forced {
			t.Errorf("forced %t:\n%s", forced, b.String())
		}
	}
}

// What keeps AUTOMERGE from working is said, where there is AUTOMERGE.
func TestPrintAutoMerge(t *testing.T) {
	for _, tc := range []struct {
		suspended, held, auto bool
		phase                 string
		want                  string
		complete              bool // an operator has to
	}{
		{true, true, true, "copying", "automerge  ignored: SUSPENDMERGE is on\n", true},
		{false, true, true, "copying", "automerge  waits for COMPMERGE", true},
		{false, true, true, "planned", "automerge  waits for the next command", false},
		{false, true, false, "copying", "", true},
		{false, true, false, "sealed", "", false},
		{false, false, true, "copying", "", false},
	} {
		st := example()
		st.Merge.Phase = tc.phase
		st.SuspendMerge, st.MergeHeld, st.Params.AutoMerge = tc.suspended, tc.held, tc.auto
		var b strings.Builder
		if err := Print(&b, st); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.Contains(got, tc.want) || strings.Contains(got, "\nautomerge ") != (tc.want != "") {
			t.Errorf("%+v:\n%s", tc, got)
		}
		if got := b.String(); strings.Contains(got, "COMPMERGE (chmpxctl merge complete) completes it") != tc.complete {
			t.Errorf("%+v:\n%s", tc, got)
		}
	}
}

// A node without a leader is not said to lack a quorum that it sees.
func TestQuorum(t *testing.T) {
	for want, q := range map[string]controlplane.QuorumStatus{
		"ok: 2 of 3 voters (missing b)":          {OK: true, Voters: 3, Have: 2, Need: 2, Missing: []string{"b"}},
		"no leader: 3 of 3 voters":               {Voters: 3, Have: 3, Need: 2},
		"no quorum: 0 of 1 voters (missing b)":   {Voters: 1, Need: 1, Missing: []string{"b"}},
		"none: this node belongs to no ring yet": {},
	} {
		if got := Quorum(controlplane.Status{Quorum: q}); got != want {
			t.Errorf("Quorum = %q, want %q", got, want)
		}
	}
}

// Fetch returns what the control port answers, as a value and as it came.
func TestFetch(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/status" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		json.NewEncoder(w).Encode(example())
	}))
	defer srv.Close()
	host, port := hostPort(t, srv.Listener.Addr().String())
	st, raw, err := Fetch(context.Background(), host, port)
	if err != nil || st.Name != "a" || len(st.Servers) != 2 || !strings.Contains(string(raw), `"quorum"`) {
		t.Errorf("Fetch = %+v, %s, %v", st, raw, err)
	}
}

// Whatever goes wrong is ErrStatus and names the address.
func TestFetchErrors(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) },
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			addr := srv.Listener.Addr().String()
			host, port := hostPort(t, addr)
			if _, _, err := Fetch(context.Background(), host, port); !errors.Is(err, ErrStatus) || !strings.Contains(err.Error(), addr) {
				t.Errorf("Fetch = %v, want ErrStatus with %s", err, addr)
			}
		})
	}
}

func hostPort(t *testing.T, addr string) (string, uint16) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return host, uint16(n)
}
