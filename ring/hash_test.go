package ring

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

// hashVectors were computed by CHMPX itself.
type hashVectors struct {
	Bytes []struct {
		Hex   string `json:"hex"`
		Hash1 string `json:"hash1"`
		Hash2 string `json:"hash2"`
	} `json:"bytes"`
	IDs []struct {
		Group, Type, Host string
		CtlPort           int    `json:"ctlport"`
		CUK               string `json:"cuk"`
		CtlEndpoints      string `json:"ctlendpoints"`
		CustomSeed        string `json:"custom_seed"`
		ChmpxID           string `json:"chmpxid"`
		BaseMsgID         string `json:"base_msgid"`
	} `json:"ids"`
	KeyValues []struct {
		Key, Value string
		KeyHash    string `json:"key_hash"`
		Wire       string `json:"wire"`
		WireHash   string `json:"wire_hash"`
	} `json:"key_values"`
	Orders []struct {
		Type    string     `json:"type"`
		Servers []Identity `json:"servers"`
	} `json:"orders"`
}

func loadVectors(t *testing.T) hashVectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v hashVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Both hashes give what CHMPX gives, for bytes above 0x7f, too.
func TestHashVectors(t *testing.T) {
	for _, v := range loadVectors(t).Bytes {
		p, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := Hash(p), number(t, v.Hash1); got != want {
			t.Errorf("Hash(%s) = %#016x, want %#016x", v.Hex, got, want)
		}
		if got, want := SecondHash(p), number(t, v.Hash2); got != want {
			t.Errorf("SecondHash(%s) = %#016x, want %#016x", v.Hex, got, want)
		}
	}
}

// A message that carries a key and a value goes by the hash of the key alone;
// the form in which CHMPX sends the two hashes to what CHMPX says.
func TestKeyValueVectors(t *testing.T) {
	v := loadVectors(t).KeyValues
	if len(v) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range v {
		var parts [3][]byte
		for i, s := range []string{v.Key, v.Value, v.Wire} {
			p, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			parts[i] = p
		}
		if got, want := Hash(parts[0]), number(t, v.KeyHash); got != want {
			t.Errorf("Hash of key %s = %#016x, want %#016x", v.Key, got, want)
		}
		var wire []byte
		for _, p := range parts[:2] {
			wire = append(binary.BigEndian.AppendUint64(wire, uint64(len(p))), p...)
		}
		if !bytes.Equal(wire, parts[2]) {
			t.Errorf("key %s and value %s make %x, want %s", v.Key, v.Value, wire, v.Wire)
		}
		if got, want := Hash(wire), number(t, v.WireHash); got != want {
			t.Errorf("Hash(%x) = %#016x, want %#016x", wire, got, want)
		}
	}
}

// Node ids and message id bases equal CHMPX's for all four seed types.
func TestNodeIDVectors(t *testing.T) {
	for _, v := range loadVectors(t).IDs {
		typ, err := ParseIDType(v.Type)
		if err != nil {
			t.Fatal(err)
		}
		n := Identity{Name: v.Host, CtlPort: uint16(v.CtlPort), CUK: v.CUK, CtlEndpoints: v.CtlEndpoints, CustomSeed: v.CustomSeed}
		if got, want := NodeID(v.Group, typ, n), ID(number(t, v.ChmpxID)); got != want {
			t.Errorf("NodeID(%q, %v, %+v) = %v, want %v", v.Group, typ, n, got, want)
		}
		if got, want := BaseMessageID(v.Group, typ, n), number(t, v.BaseMsgID); got != want {
			t.Errorf("BaseMessageID(%q, %v, %+v) = %#x, want %#x", v.Group, typ, n, got, want)
		}
	}
}

// The ring order is the one that CHMPX computes, for every CHMPXIDTYPE that was recorded.
func TestRingOrderVectors(t *testing.T) {
	for _, v := range loadVectors(t).Orders {
		typ, err := ParseIDType(v.Type)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.Servers {
			for j := range v.Servers {
				if got, want := Less(typ, v.Servers[i], v.Servers[j]), i < j; got != want {
					t.Errorf("%v: Less(%+v, %+v) = %t, want %t", typ, v.Servers[i], v.Servers[j], got, want)
				}
			}
		}
	}
}

// Control ports are ordered as numbers from 1 to 65535. CHMPX cannot use those
// above 32767, so no order of its own is contradicted.
func TestRingOrderOfHighPorts(t *testing.T) {
	ports := []uint16{1, 8021, 32767, 32768, 40000, 65535}
	for i, a := range ports {
		for j, b := range ports {
			if got := Less(IDByName, Identity{Name: "h", CtlPort: a}, Identity{Name: "h", CtlPort: b}); got != (i < j) {
				t.Errorf("port %d before %d: %t", a, b, got)
			}
		}
	}
}

// A byte from 0x80 on is a negative number in the hash, as where CHMPX runs on
// x86, whatever the platform of this program: the textbook FNV-1a differs.
func TestHashBytesAreSigned(t *testing.T) {
	for b := range 256 {
		h := uint64(14695981039346656037)
		h ^= uint64(b)
		if b >= 0x80 {
			h ^= 0xffffffffffffff00
		}
		h *= 1099511628211
		if got := Hash([]byte{byte(b)}); got != h {
			t.Errorf("Hash(%#02x) = %#016x, want %#016x", b, got, h)
		}
	}
}

// Ids of ports that differ in the last digit share the half that comes from
// the second hash, as in CHMPX; the other half still tells all ports apart.
func TestIDsOfAllPortsDiffer(t *testing.T) {
	seen := map[ID]int{}
	for port := 1; port <= 65535; port++ {
		id := NodeID("G", IDByName, Identity{Name: "host.example", CtlPort: uint16(port)})
		if other, dup := seen[id]; dup {
			t.Fatalf("ports %d and %d have id %v", other, port, id)
		}
		seen[id] = port
	}
	a, b := NodeID("G", IDByName, Identity{Name: "h", CtlPort: 0x1f50}), NodeID("G", IDByName, Identity{Name: "h", CtlPort: 0x1f51})
	if uint32(a) != uint32(b) || a == b {
		t.Errorf("ids %v and %v, want the same low half and different ones", a, b)
	}
}

// The empty key and an unknown type have defined answers.
func TestIDEdges(t *testing.T) {
	if _, err := ParseIDType("ip"); err == nil {
		t.Error("ParseIDType accepts an unknown word")
	}
	for _, typ := range []IDType{IDByName, IDByCUK, IDByCtlEndpoints, IDByCustom} {
		if back, err := ParseIDType(typ.String()); err != nil || back != typ {
			t.Errorf("ParseIDType(%q) = %v, %v", typ.String(), back, err)
		}
	}
	if id := NodeID("", IDByName, Identity{Name: "a"}); id != 0 {
		t.Errorf("an empty group gives id %v, want 0", id)
	}
	if id := NodeID("g", IDByCUK, Identity{Name: "a"}); id != 0 {
		t.Errorf("a missing CUK gives id %v, want 0", id)
	}
}
