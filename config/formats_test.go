package config

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameRing compares what configurations say, not where they are from.
var sameRing = cmp.Options{
	cmpopts.IgnoreFields(Config{}, "Source", "Files"), cmp.AllowUnexported(Config{}), cmpopts.IgnoreUnexported(Slave{}),
	cmpopts.EquateComparable(netip.Prefix{}),
}

// The same node, every key of it, written as INI, YAML, JSON and JSON text is
// one Config with one Digest.
func TestFormatsAgree(t *testing.T) {
	text, err := os.ReadFile("testdata/all.json")
	if err != nil {
		t.Fatal(err)
	}
	var want *Config
	for _, s := range []Source{{Path: "testdata/all.ini"}, {Path: "testdata/all.yaml"}, {Path: "testdata/all.json"}, {Text: string(text)}} {
		got, warnings, err := Load(s)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%v: warnings %v, error %v", s, warnings, err)
		}
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got, sameRing); diff != "" {
			t.Errorf("%v: differs from all.ini:\n%s", s, diff)
		}
		if got.Digest() != want.Digest() {
			t.Errorf("%v: another digest", s)
		}
		if self, err := got.selfNode(host("b.example.com", nil, nil), 9021, ""); err == nil {
			t.Errorf("%v: SELFCUK is another node's, got %+v", s, self)
		}
	}
	for _, s := range want.Settings() {
		if !s.Given {
			t.Errorf("all.ini lacks %s", s.Key)
		}
	}
}

// The shortest configuration of each format, with DELIVERMODE and SLVNODE
// where INI needs them.
const (
	shortINI  = "[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=hash\nPORT=8020\nCTLPORT=8021\n[SVRNODE]\nNAME=localhost\n[SLVNODE]\nNAME=localhost\n"
	shortYAML = "GLOBAL: {FILEVERSION: 1, GROUP: G, PORT: 8020, CTLPORT: 8021}\nSVRNODE:\n- NAME: localhost\n"
	shortJSON = `{"GLOBAL": {"FILEVERSION": 1, "GROUP": "G", "PORT": 8020, "CTLPORT": 8021}, "SVRNODE": [{"NAME": "localhost"}]}`
)

// INI asks for all sections and DELIVERMODE, the others only for what a server
// needs; what they leave out is not missed elsewhere.
func TestShortest(t *testing.T) {
	for name, text := range map[string]string{"a.ini": shortINI, "a": shortINI, "a.INI": shortINI, "a.yaml": shortYAML, "a.yml": shortYAML, "a.json": shortJSON} {
		c, warnings, err := loadText(name, text)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: warnings %v, error %v", name, warnings, err)
			continue
		}
		if c.DeliverMode != "HASH" || c.Servers[0].CtlPort != 8021 || c.Digest() != mustLoad(t, shortINI).Digest() {
			t.Errorf("%s: got %+v", name, c)
		}
		if self, err := c.SelfNode(8021, ""); err != nil || !self.Server {
			t.Errorf("%s: got %+v, %v", name, self, err)
		}
	}
	for _, missing := range []string{"[SLVNODE]", "[SVRNODE]", "DELIVERMODE", "GROUP", "FILEVERSION"} {
		text := strings.Replace(shortINI, missing, "#", 1)
		if strings.HasPrefix(missing, "[") {
			text, _, _ = strings.Cut(shortINI, missing)
		}
		if _, _, err := loadText("a.ini", text); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("INI without %s: got %v", missing, err)
		}
	}
	for _, missing := range []string{"FILEVERSION: 1, ", "GROUP: G, ", "SVRNODE:\n- NAME: localhost\n", "NAME: localhost"} {
		text := strings.Replace(shortYAML, missing, "", 1)
		key := strings.Trim(strings.Split(missing, ":")[0], " ")
		if _, _, err := loadText("a.yaml", text); err == nil || key != "NAME" && !strings.Contains(err.Error(), key) {
			t.Errorf("YAML without %s: got %v", key, err)
		}
	}
}

// JSON may have comments and trailing commas and blanks of every kind, and a
// key or value counts the same with and without quotes.
func TestJSONAsYAML(t *testing.T) {
	want := mustLoad(t, shortINI).Digest()
	for name, text := range map[string]string{
		"comments":        "# one\n" + strings.ReplaceAll(shortJSON, "{\"GLOBAL\"", "{ # two\n\"GLOBAL\"") + " # three",
		"trailing commas": strings.NewReplacer("}]", ",},]", "8021}", "8021,}", "]}", "],}").Replace(shortJSON),
		"tabs":            strings.ReplaceAll(shortJSON, " ", "\n\t\t"),
		"CRLF":            strings.ReplaceAll(shortJSON, " ", "\r\n "),
		"quoted numbers":  strings.NewReplacer(" 1,", ` "1",`, "8020", `"8020"`).Replace(shortJSON),
		"no quotes":       strings.ReplaceAll(shortJSON, `"`, ""),
		"escapes":         strings.ReplaceAll(shortJSON, `"G"`, `"\u0047"`),
		"byte order mark": "\ufeff" + shortJSON,
		"lower case":      strings.NewReplacer("GLOBAL", "global", "SVRNODE", "SvrNode", "NAME", "name", "PORT", "Port").Replace(shortJSON),
		"other order":     `{"SVRNODE": [{"NAME": "localhost"}], "GLOBAL": {"CTLPORT": 8021, "PORT": 8020, "GROUP": "G", "FILEVERSION": 1}}`,
		"with null":       strings.ReplaceAll(shortJSON, `"GROUP"`, `"SELFCUK": null, "CAPATH": ~, "SERVER_CERT": NULL, "GROUP"`),
		"YAML":            shortYAML,
	} {
		for _, s := range []Source{{Path: "a.json"}, {Text: text}} {
			c, warnings, err := load(s, files{"a.json": text}.read)
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s as %v: warnings %v, error %v", name, s, warnings, err)
			} else if c.Digest() != want || c.SelfCUK != "" {
				t.Errorf("%s as %v: another ring: %+v", name, s, c)
			}
		}
	}
}

// What JSON can escape is read as it is in JSON, surrogate pairs too; half a
// pair is an error, and an escaped backslash begins no escape.
func TestJSONEscapes(t *testing.T) {
	for written, want := range map[string]string{
		`\ud83d\ude00`:              "\U0001F600",
		`a\uD83D\uDE00\uD83D\uDE01`: "a\U0001F600\U0001F601",
		`\\ud83d\\ude00`:            `\ud83d\ude00`,
		`\\\ud83d\ude00`:            "\\\U0001F600",
		`x\\y\"\u00e9`:              `x\y"é`,
	} {
		c, _, err := load(Source{Text: strings.ReplaceAll(shortJSON, `"G"`, `"`+written+`"`)}, nil)
		if err != nil || c.Group != want {
			t.Errorf("%s: got %v, %v; want %s", written, c, err, want)
		}
	}
	for _, half := range []string{`\ud83d`, `\ud83dx`, `\ude00\ud83d`, `\ud83d\u0041`, `\ud83`} {
		if _, _, err := load(Source{Text: strings.ReplaceAll(shortJSON, `"G"`, `"`+half+`"`)}, nil); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: got %v", half, err)
		}
	}
}

// The order of keys means nothing where one forces another, unlike in CHMPX.
func TestOrderOfKeys(t *testing.T) {
	keys := []string{"REPLICA: 2", "DOMERGE: on", "AUTOMERGE: off", "DELIVERMODE: random", "MAXCHMPX: 1", "FILEVERSION: 1", "GROUP: G", "PORT: 1", "CTLPORT: 2"}
	var want *Config
	for range keys {
		keys = append(keys[1:], keys[0])
		c, warnings, err := loadText("a.yaml", "GLOBAL:\n  "+strings.Join(keys, "\n  ")+"\nSVRNODE:\n  - NAME: a\n")
		if err != nil || len(warnings) != 3 {
			t.Fatalf("warnings %v, error %v; want 3 warnings", warnings, err)
		}
		if want == nil {
			want = c
		}
		if diff := cmp.Diff(want, c, sameRing); diff != "" {
			t.Errorf("%s: differs:\n%s", strings.Join(keys, ", "), diff)
		}
	}
}
