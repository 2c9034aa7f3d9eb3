package options

import (
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// Options that are explained have the values and defaults that they would have
// otherwise, by all of their names; what cannot be read is an error that names the option,
// the value and what is allowed.
func TestExplained(t *testing.T) {
	run := func(args ...string) (c *cli.Context, err error) {
		app := &cli.App{
			Flags: Explained([]cli.Flag{
				&cli.BoolFlag{Name: "b", Aliases: []string{"bb"}}, &cli.IntFlag{Name: "i", Value: -3}, &cli.UintFlag{Name: "u", Value: 4, Aliases: []string{"uu"}},
				&cli.Uint64Flag{Name: "seed"}, &cli.DurationFlag{Name: "d", Value: time.Minute}, &cli.StringFlag{Name: "s"},
				Between(&cli.UintFlag{Name: "few", Value: 2}, 1, 9),
			}),
			HideHelp: true, Writer: new(strings.Builder), ErrWriter: new(strings.Builder),
			Action: func(got *cli.Context) error { c = got; return nil }, ExitErrHandler: func(*cli.Context, error) {},
			OnUsageError: func(_ *cli.Context, err error, _ bool) error { return err },
		}
		return c, app.Run(append([]string{"x"}, args...))
	}
	c, err := run()
	if err != nil || c.Bool("b") || c.Int("i") != -3 || c.Uint("u") != 4 || c.Uint64("seed") != 0 || c.Duration("d") != time.Minute || c.Uint("few") != 2 || c.IsSet("i") {
		t.Errorf("defaults: %v", err)
	}
	c, err = run("-bb", "-i", "-7", "-uu", "8", "-seed", "18446744073709551615", "-d=90s", "-few", "9")
	if err != nil || !c.Bool("b") || c.Int("i") != -7 || c.Uint("u") != 8 || c.Uint64("seed") != 1<<64-1 || c.Duration("d") != 90*time.Second || c.Uint("few") != 9 || !c.IsSet("i") || !c.IsSet("uu") {
		t.Errorf("values: %v", err)
	}
	if c, err = run("-b=false"); err != nil || c.Bool("b") {
		t.Errorf("a switch that is off: %v", err)
	}
	for arg, want := range map[string]string{
		"-b=maybe": "use true or false", "-i=1.5": "use a whole number", "-u=-1": "use a whole number, 0 or more", "-seed=18446744073709551616": "use a whole number from 0 to 18446744073709551615",
		"-d=90": "use a time with its unit", "-few=10": "use a whole number from 1 to 9", "-few=0": "use a whole number from 1 to 9", "-few=": "use a whole number from 1 to 9",
	} {
		name, value, _ := strings.Cut(arg, "=")
		if _, err := run(arg); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), `"`+value+`"`) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}
