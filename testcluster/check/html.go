package check

import (
	"fmt"
	"html/template"
	"io"
)

// HTML writes the report as a page that needs nothing else.
func (r *Report) HTML(w io.Writer) error {
	err := page.Execute(w, map[string]any{"Headline": r.headline(), "Report": r})
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

var page = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Headline}}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; background: #fff }
h1 { font-size: 1.3em } h2 { font-size: 1.1em; margin: 2em 0 .3em }
table { border-collapse: collapse; width: 100% } td { padding: .15em .8em .15em 0; vertical-align: top }
.numbers td:first-child { white-space: nowrap; color: #555; width: 16em }
.time { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.lines { font-size: 13px } .lines td { border-top: 1px solid #eee } .where { white-space: nowrap }
.clause { color: #b00020; text-transform: uppercase; margin-right: .5em }
.program .group { color: #1a5fb4 } .frame { color: #666 } .fault { background: #fff3d6 } .ring .group { color: #26734d }
.here { background: #ffd9dd; font-weight: 600 } .round { color: #666 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } .numbers td:first-child, .frame, .round { color: #999 }
 .lines td { border-color: #333 } .fault { background: #3d3214 } .here { background: #571e26 } .clause { color: #ff7b8a }
 .program .group { color: #7ab0f5 } .ring .group { color: #6fcf97 } }
</style></head><body>
<h1>{{.Headline}}</h1>
<table class="numbers">{{range .Report.Numbers.Rows}}<tr><td>{{index . 0}}</td><td>{{index . 1}}</td></tr>{{end}}</table>
{{range .Report.Notes}}<p>Note: {{.}}</p>{{end}}
{{range .Report.Violations}}
<h2><span class="clause">{{.Clause}}</span>{{.Text}}</h2>
<p class="round">{{with index $.Report.Count .Clause}}{{.}} of these in all. {{end}}{{if .Round}}In {{.Round}}. {{end}}Times in ms.</p>
<table class="lines">
{{range .Relative}}<tr class="{{.Group}}{{if .Here}} here{{end}}"><td class="time">{{.Ms}}</td><td class="group">{{.Group}}</td><td class="where">{{.Where}}</td><td>{{.Text}}</td></tr>
{{end}}</table>
{{end}}
</body></html>
`))
