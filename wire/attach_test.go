package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAttachRoundTrip proves that attach messages decode to what was encoded.
func TestAttachRoundTrip(t *testing.T) {
	requests := []AttachRequest{
		{Version: AttachVersion, Role: RoleServer, Flags: AttachAckOnDone | AttachHandBack},
		{Version: AttachVersion, Role: RoleClient, Session: SessionID{1, 15: 9}, PID: 4711, Name: strings.Repeat("n", AttachNameBytesMax)},
	}
	for _, want := range requests {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		n, err := AttachLength(b)
		if err != nil || n != len(b)-AttachPrefixBytes {
			t.Fatalf("length %d of %d bytes: %v", n, len(b), err)
		}
		got, err := DecodeAttachRequest(b[AttachPrefixBytes:])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, *got); d != "" {
			t.Error(d)
		}
	}
	replies := []AttachReply{
		{Version: AttachVersion, NodeRole: NodeSlave, Resumed: true, RingBytes: 1 << 20, Session: SessionID{7}, Node: 0xfedcba9876543210},
		{Version: AttachVersion, Code: AttachRefusedRoom, NodeRole: NodeServer, Text: strings.Repeat("t", AttachTextBytesMax)},
	}
	for _, want := range replies {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > AttachBytesMax {
			t.Errorf("%d bytes, at most %d promised", len(b), AttachBytesMax)
		}
		got, err := DecodeAttachReply(b[AttachPrefixBytes:])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, *got); d != "" {
			t.Error(d)
		}
	}
}

// TestAttachRefusesBadInput proves that neither side encodes or decodes what the format forbids.
func TestAttachRefusesBadInput(t *testing.T) {
	good, err := (&AttachRequest{Role: RoleClient, Name: "x"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	goodReply, err := (&AttachReply{NodeRole: NodeServer, Text: "x"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(b []byte, at int, v byte) []byte {
		c := bytes.Clone(b[AttachPrefixBytes:])
		c[at] = v
		return c
	}
	decode := []struct {
		name  string
		bytes []byte
		reply bool
		want  error
	}{
		{"empty request", nil, false, ErrAttach},
		{"request of another version", change(good, 0, 1), false, ErrVersion},
		{"unknown role", change(good, 2, 3), false, ErrAttach},
		{"name longer than the message", change(good, 3, 2), false, ErrAttach},
		{"unknown flag", change(good, 24, byte(attachFlagEnd)), false, ErrAttach},
		{"name not UTF-8", change(good, attachRequestFixed, 0xff), false, ErrAttach},
		{"empty reply", nil, true, ErrAttach},
		{"reply of another version", change(goodReply, 0, 1), true, ErrVersion},
		{"unknown code", change(goodReply, 2, byte(attachCodeEnd)), true, ErrAttach},
		{"unknown node role", change(goodReply, 3, 0), true, ErrAttach},
		{"text longer than the message", change(goodReply, 32, 2), true, ErrAttach},
		{"resumed neither 0 nor 1", change(goodReply, 34, 2), true, ErrAttach},
		{"text not UTF-8", change(goodReply, attachReplyFixed, 0xff), true, ErrAttach},
	}
	for _, tt := range decode {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeAttachRequest(tt.bytes)
			if tt.reply {
				_, err = DecodeAttachReply(tt.bytes)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	encode := map[string]func() ([]byte, error){
		"long name":  (&AttachRequest{Role: RoleClient, Name: strings.Repeat("n", AttachNameBytesMax+1)}).Encode,
		"no role":    (&AttachRequest{}).Encode,
		"long text":  (&AttachReply{NodeRole: NodeServer, Text: strings.Repeat("n", AttachTextBytesMax+1)}).Encode,
		"no node":    (&AttachReply{}).Encode,
		"wrong code": (&AttachReply{NodeRole: NodeServer, Code: attachCodeEnd}).Encode,
	}
	for name, f := range encode {
		if _, err := f(); !errors.Is(err, ErrAttach) {
			t.Errorf("%s: %v, want ErrAttach", name, err)
		}
	}
	for _, b := range [][]byte{nil, {1, 0, 0}, {1, 0, 0, 0}, {0, 0, 0, 1}} {
		if _, err := AttachLength(b); !errors.Is(err, ErrAttach) {
			t.Errorf("length prefix %v: %v, want ErrAttach", b, err)
		}
	}
}

// FuzzAttach proves that whatever decodes encodes to the same bytes, and that nothing panics.
func FuzzAttach(f *testing.F) {
	req, _ := (&AttachRequest{Role: RoleClient, Name: "program"}).Encode()
	rep, _ := (&AttachReply{NodeRole: NodeServer, Text: "no"}).Encode()
	f.Add(req[AttachPrefixBytes:])
	f.Add(rep[AttachPrefixBytes:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeAttachRequest(b); err == nil {
			again, err := r.Encode()
			if err != nil || !bytes.Equal(again[AttachPrefixBytes:], b) {
				t.Errorf("request %x became %x: %v", b, again, err)
			}
		}
		if r, err := DecodeAttachReply(b); err == nil {
			again, err := r.Encode()
			if err != nil || !bytes.Equal(again[AttachPrefixBytes:], b) {
				t.Errorf("reply %x became %x: %v", b, again, err)
			}
		}
	})
}
