package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ops/service"
)

// example loads the configuration that packages install.
func example(t *testing.T) *config.Config {
	t.Helper()
	text, err := os.ReadFile("etc/chmpx.ini.example")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "chmpx.ini")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := config.FindSource(file, "")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The configuration that packages install is one that works as it stands: a
// ring in which this host is the one server.
func TestIniExample(t *testing.T) {
	c := example(t)
	if len(c.Servers) != 1 || c.Servers[0].Name != "localhost" || c.Group != "SAMPLE" {
		t.Errorf("the ring is %s of %v", c.Group, c.Servers)
	}
}

// Every host may have a slave, as in CHMPX's own file; that lets none of them change
// the ring.
func TestIniExampleLetsOthersLook(t *testing.T) {
	c := example(t)
	if len(c.Slaves) != 1 || !c.Slaves[0].Matches("192.0.2.1") || c.Value("CTLSLAVES") != "READONLY" {
		t.Errorf("slaves %+v, CTLSLAVES = %q", c.Slaves, c.Value("CTLSLAVES"))
	}
}

// The keys that the configuration calls those without effect are those.
func TestIniExampleWithoutEffect(t *testing.T) {
	text, err := os.ReadFile("etc/chmpx.ini.example")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(doc), "\n## Without effect\n")
	_, keys, shown := strings.Cut(string(text), "have no effect here.\n")
	keys, _, _ = strings.Cut(keys, "\n\n")
	if !found || !shown || keys == "" {
		t.Fatal("the table or the keys are missing")
	}
	for _, line := range strings.Split(keys, "\n") {
		if key, _, _ := strings.Cut(line, " "); !strings.Contains(table, "\n| "+key+" |") {
			t.Errorf("%s has an effect", key)
		}
	}
}

// The conf file that packages install sets nothing, shows every keyword with
// its default, and is right when the comments are taken away.
func TestConfExample(t *testing.T) {
	text, err := os.ReadFile("etc/" + service.ConfName)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	load := func(text string) service.Settings {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, service.ConfName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, notes, err := service.Load(dir)
		if err != nil || len(notes) > 0 {
			t.Fatalf("%v, %q", err, notes)
		}
		s.ProgramOptions = nil // none, as a slice or as nil
		return s
	}
	shown := regexp.MustCompile(`(?m)^#([A-Z_]+ =.*)$`)
	if got, want := len(shown.FindAllString(string(text), -1)), len(service.Keywords()); got != want {
		t.Errorf("%d keywords are shown, want %d", got, want)
	}
	for _, k := range service.Keywords() {
		if !strings.Contains(string(text), strings.TrimRight("\n#"+k.Name+" = "+k.Default, " ")+"\n") {
			t.Errorf("%s is not shown with its default %q", k.Name, k.Default)
		}
	}
	if a, b := load(string(text)), load(shown.ReplaceAllString(string(text), "$1")); !equal(a, b) {
		t.Errorf("the defaults that are shown are not those that hold:\n%+v\n%+v", a, b)
	}
}

func equal(a, b service.Settings) bool {
	return a.IniFile == b.IniFile && a.PidDir == b.PidDir && a.ServicePidFile == b.ServicePidFile && a.SubprocessPidFile == b.SubprocessPidFile &&
		a.AfterDepend == b.AfterDepend && a.Startup == b.Startup && a.AfterUp == b.AfterUp && a.Interval == b.Interval && a.StopTries == b.StopTries
}

// docs/service.md has every keyword with its default and a test that exists.
func TestServiceDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../../cmd/chmpx-service-helper/keywords_test.go")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([A-Z_]+)[^|]*\| ([^|]*) \|.*\| (Test\w+) \|$`)
	rows := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		rows[m[1]] = m[2:]
	}
	for _, k := range service.Keywords() {
		r := rows[k.Name]
		if r == nil {
			t.Errorf("%s has no row", k.Name)
			continue
		}
		if k.Default != "" && !strings.HasPrefix(r[0], "`"+k.Default+"`") || k.Default == "" && strings.TrimSpace(r[0]) != "" {
			t.Errorf("the default of %s is %q there, %q here", k.Name, r[0], k.Default)
		}
		body := regexp.MustCompile(`(?s)func ` + r[1] + `\(.*?\n}\n`).FindString(string(tests))
		if !strings.Contains(body, k.Name) {
			t.Errorf("%s names %s, which is not there", k.Name, r[1])
		}
		delete(rows, k.Name)
	}
	if len(rows) > 0 {
		t.Errorf("rows without a keyword: %v", rows)
	}
}
