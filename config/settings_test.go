package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Settings has every key of [GLOBAL] once, in the order of the documentation,
// with the defaults of the CHMPX code where CHMPX's documents have others.
func TestSettingsDefaults(t *testing.T) {
	c := mustLoad(t, shortINI)
	var keys []string
	for _, k := range Keys() {
		if k.Section == sectionGlobal && k.Name != keyInclude {
			keys = append(keys, k.Name)
		}
	}
	var got []string
	for _, s := range c.Settings() {
		got = append(got, s.Key)
		if want := slices.Contains([]string{"FILEVERSION", "GROUP", "DELIVERMODE", "PORT", "CTLPORT"}, s.Key); s.Given != want {
			t.Errorf("%s: given is %t", s.Key, s.Given)
		}
	}
	if !slices.Equal(got, keys) {
		t.Errorf("got  %v\nwant %v", got, keys)
	}
	for key, want := range map[string]string{
		"MAXMQCLIENT": "8192", "MAXQPERSERVERMQ": "8", "MQRETRYCNT": "3", "MQACK": "yes", "K2HMAXELE": "32", "RWTIMEOUT": "0",
		"CONTIMEOUT": "0", "MQRWTIMEOUT": "0", "RETRYCNT": "-1", "MAXCHMPX": "1024", "MAXMQSERVER": "1", "MQPERATTACH": "1",
		"MAXQPERCLIENTMQ": "1", "MAXMQPERCLIENT": "1", "MAXHISTLOG": "8192", "MERGETIMEOUT": "0", "SOCKTHREADCNT": "0",
		"MQTHREADCNT": "0", "MAXSOCKPOOL": "1", "SOCKPOOLTIMEOUT": "60", "K2HFULLMAP": "yes", "K2HMASKBIT": "8", "K2HCMASKBIT": "4",
		"SSL_MIN_VER": "DEFAULT", "NSSDB_DIR": "", "CHMPXIDTYPE": "NAME", "REPLICA": "0", "DOMERGE": "no", "AUTOMERGE": "no",
		"SELFCTLPORT": "", "SELFCUK": "", "GROUP": "G", "DOWNOUT": "1m", "NO SUCH KEY": "",
	} {
		if got := c.Value(key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
}

// What Settings shows is what a file may say: loaded again it is the same.
func TestSettingsRoundTrip(t *testing.T) {
	for _, path := range []string{"testdata/all.ini", "testdata/ring.ini", "testdata/loopback1.ini"} {
		c, _, err := Load(Source{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		b.WriteString("GLOBAL:\n")
		for _, s := range c.Settings() {
			if s.Value != "" {
				fmt.Fprintf(&b, "  %s: '%s'\n", s.Key, strings.ReplaceAll(s.Value, "'", "''"))
			}
		}
		b.WriteString("SVRNODE:\n- {NAME: a, CUSTOM_ID_SEED: a, CTLENDPOINTS: a, ENDPOINTS: a, PORT: 1, CTLPORT: 2}\n")
		again, _, err := loadText("again.yaml", b.String())
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for i, s := range again.Settings() {
			if want := c.Settings()[i]; s.Value != want.Value {
				t.Errorf("%s: %s = %q, want %q", path, s.Key, s.Value, want.Value)
			}
		}
	}
}

// A key that another one forces has the forced value everywhere, and a file
// that has it otherwise gets one warning for it; one that agrees, none.
func TestForcedValues(t *testing.T) {
	for _, c := range []struct {
		keys      string
		replica   int
		doMerge   bool
		autoMerge bool
		warned    string // the keys, in their order
	}{
		{"DELIVERMODE=random", 0, false, true, ""},
		{"DELIVERMODE=random\nREPLICA=0\nDOMERGE=off\nAUTOMERGE=yes", 0, false, true, ""},
		{"DELIVERMODE=random\nREPLICA=2\nDOMERGE=on\nAUTOMERGE=no", 0, false, true, "REPLICA DOMERGE AUTOMERGE"},
		{"REPLICA=2\nDOMERGE=on\nDELIVERMODE=Random", 0, false, true, "REPLICA DOMERGE"},
		{"DELIVERMODE=hash", 0, false, false, ""},
		{"DELIVERMODE=hash\nAUTOMERGE=on", 0, false, false, "AUTOMERGE"},
		{"DELIVERMODE=hash\nAUTOMERGE=on\nDOMERGE=on", 0, true, true, ""},
		{"DELIVERMODE=hash\nDOMERGE=on", 0, true, false, ""},
		{"DELIVERMODE=hash\nREPLICA=9\nMAXCHMPX=3", 3, false, false, "REPLICA"},
		{"DELIVERMODE=hash\nREPLICA=99", 63, false, false, "REPLICA"},
	} {
		conf, warnings, err := loadText("a.ini", strings.Replace(shortINI, "DELIVERMODE=hash", c.keys, 1))
		if err != nil {
			t.Fatalf("%s: %v", c.keys, err)
		}
		var warned []string
		for _, w := range warnings {
			key, _, _ := strings.Cut(w.Text, " ")
			warned = append(warned, key)
		}
		if conf.Replica != c.replica || conf.DoMerge != c.doMerge || conf.AutoMerge != c.autoMerge || strings.Join(warned, " ") != c.warned {
			t.Errorf("%q: got REPLICA %d, DOMERGE %t, AUTOMERGE %t, warnings %v", c.keys, conf.Replica, conf.DoMerge, conf.AutoMerge, warnings)
		}
		for key, want := range map[string]string{"REPLICA": fmt.Sprint(c.replica), "DOMERGE": word(c.doMerge), "AUTOMERGE": word(c.autoMerge)} {
			if got := conf.Value(key); got != want {
				t.Errorf("%q: %s = %s, want %s", c.keys, key, got, want)
			}
		}
	}
}

func word(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

// STANDINAFTER goes by the ring's DOMERGE, which no file knows, unless a file says it itself, and
// is never beside OWNERLEASE; what it cannot be beside that is refused by its line.
func TestStandInAfter(t *testing.T) {
	for keys, want := range map[string]time.Duration{
		"DELIVERMODE=hash":                                Auto,
		"DELIVERMODE=hash\nDOMERGE=on":                    Auto,
		"DELIVERMODE=random":                              Auto,
		"DELIVERMODE=hash\nOWNERLEASE=2s":                 Never,
		"DELIVERMODE=hash\nSTANDINAFTER=Auto":             Auto,
		"DELIVERMODE=hash\nSTANDINAFTER=0s":               0, // at once
		"DELIVERMODE=hash\nDOMERGE=on\nSTANDINAFTER=10s":  10 * time.Second,
		"DELIVERMODE=hash\nDOMERGE=off\nSTANDINAFTER=nev": 0,
	} {
		conf, warnings, err := loadText("a.ini", strings.Replace(shortINI, "DELIVERMODE=hash", keys, 1))
		if strings.HasSuffix(keys, "nev") {
			if err == nil || !strings.Contains(err.Error(), "use a duration from 0s to 1h with its unit, like 250ms or 3s, or never or auto") {
				t.Errorf("%q: %v", keys, err)
			}
			continue
		}
		if err != nil || conf.StandInAfter != want || len(warnings) > 0 {
			t.Errorf("%q: got %v (%v, %v), want %v", keys, conf.StandInAfter, warnings, err, want)
		}
		text := map[time.Duration]string{Never: "never", Auto: "auto"}[want]
		if text == "" {
			text = durationString(want)
		}
		if got := conf.Value("STANDINAFTER"); got != text {
			t.Errorf("%q: shown as %q, want %q", keys, got, text)
		}
	}
	_, _, err := loadText("a.ini", strings.Replace(shortINI, "DELIVERMODE=hash", "DELIVERMODE=hash\nOWNERLEASE=2s\nSTANDINAFTER=5s", 1))
	if err == nil || !strings.Contains(err.Error(), "STANDINAFTER = 5s: with OWNERLEASE = 2s nobody acts for another server; use never, or OWNERLEASE = 0s") {
		t.Errorf("got %v", err)
	}
}
