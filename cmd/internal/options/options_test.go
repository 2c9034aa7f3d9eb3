package options

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "conf", Aliases: []string{"f"}},
		&cli.IntFlag{Name: "l"},
		&cli.BoolFlag{Name: "ta"},
	}
}

// Dashes, case and aliases do not matter, numbers may be negative, and unknown
// options go aside with their values.
func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		name           string
		args           []string
		known, unknown []string
	}{
		{"one dash", []string{"-conf", "x", "-ta"}, []string{"-conf=x", "-ta"}, nil},
		{"two dashes, case, alias", []string{"--CONF", "x", "-F", "y"}, []string{"-conf=x", "-conf=y"}, nil},
		{"equals sign", []string{"--conf=a=b"}, []string{"-conf=a=b"}, nil},
		{"negative number", []string{"-l", "-1"}, []string{"-l=-1"}, nil},
		{"unknown with value", []string{"-dummykey", "TEST", "-ta"}, []string{"-ta"}, []string{"-dummykey"}},
		{"unknown without value", []string{"-x", "-ta", "word"}, []string{"-ta"}, []string{"-x", "word"}},
		{"unknown with equals sign", []string{"-x=1", "word"}, nil, []string{"-x=1", "word"}},
		{"only dashes", []string{"-", "--"}, nil, []string{"-", "--"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			known, unknown, err := Normalize(c.args, flags())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.known, known) + cmp.Diff(c.unknown, unknown); d != "" {
				t.Errorf("Normalize(%q): -want +got\n%s", c.args, d)
			}
		})
	}
}

// A missing value is an error, not the next option.
func TestNormalizeNoValue(t *testing.T) {
	for _, args := range [][]string{{"-conf"}, {"-conf", "-ta"}} {
		if _, _, err := Normalize(args, flags()); !errors.Is(err, ErrNoValue) {
			t.Errorf("Normalize(%q) = %v, want ErrNoValue", args, err)
		}
	}
}
