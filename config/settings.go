package config

// Setting is one key of [GLOBAL] with the value that takes effect.
type Setting struct {
	Key   string
	Value string // as a file would have it; "": none. Booleans are yes and no
	Given bool   // a file has the key; it need not be the value that takes effect
}

// Settings returns every key of [GLOBAL] in the order of Keys, also those
// without effect. INCLUDE is not among them.
func (c *Config) Settings() []Setting { return append([]Setting(nil), c.settings...) }

// Value returns the value of a key of [GLOBAL] as Settings has it, "" for
// none and for keys that do not exist.
func (c *Config) Value(key string) string {
	for _, s := range c.settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func (k keys) settings() []Setting {
	var all []Setting
	for _, s := range specs {
		if s.in(k.section) && s.name != keyInclude {
			_, given := k.tried[s.name]
			all = append(all, Setting{s.name, k.get(s.name).text, given})
		}
	}
	return all
}
