package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v4"
)

// familySections are the top-level names that other programs of the CHMPX
// family keep in the same file.
var familySections = []string{"K2HDKC"}

// parseYAML takes the text of a YAML or JSON file apart; JSON is read as YAML.
// Names of sections and keys may be in any case.
func parseYAML(n *notes, f *file, text string) parsed {
	var p parsed
	y := yamlFile{notes: n, file: f, lines: 1 + strings.Count(strings.TrimRight(text, "\n"), "\n"), to: &p}
	decoder := yaml.NewDecoder(strings.NewReader(joinSurrogates(text)))
	for first := true; ; first = false {
		var document yaml.Node
		if err := decoder.Decode(&document); err != nil {
			if !errors.Is(err, io.EOF) {
				y.broken(err)
			}
			return p
		}
		y.document(&document, first)
	}
}

// surrogates are what JSON writes for a character beyond U+FFFF, and all
// escaped backslashes before them.
var surrogates = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)

// joinSurrogates writes such pairs as YAML has them, which knows no halves.
func joinSurrogates(text string) string {
	return surrogates.ReplaceAllStringFunc(text, func(pair string) string {
		if len(pair) != len(`\ud83d\ude00`) {
			return pair // an escaped backslash
		}
		high, _ := strconv.ParseUint(pair[2:6], 16, 16) // digits: the expression says so
		low, _ := strconv.ParseUint(pair[8:12], 16, 16)
		return fmt.Sprintf(`\U%08X`, utf16.DecodeRune(rune(high), rune(low)))
	})
}

// yamlFile is a file while its nodes are sorted into sections.
type yamlFile struct {
	*notes
	file  *file
	lines int // of the text
	to    *parsed
}

// document takes a document, of which only the first may say something.
func (y yamlFile) document(document *yaml.Node, first bool) {
	top := document.Content[0]
	switch {
	case kindOf(top) == "nothing":
	case !first:
		y.errorf(y.at(document), "a second document: put everything into the first one")
	case top.Kind != yaml.MappingNode:
		y.errorf(y.at(top), "use a mapping with GLOBAL, SVRNODE and SLVNODE at the top, not %s", kindOf(top))
		y.partial = true
	default:
		y.noAnchors(top)
		y.pairs(top, y.top)
	}
}

// noAnchors notes all anchors and aliases. They are not followed, so that a
// short file stays short.
func (y yamlFile) noAnchors(node *yaml.Node) {
	if node.Anchor != "" || node.Kind == yaml.AliasNode {
		y.errorf(y.at(node), "anchors and aliases are not allowed; use INCLUDE for what is common")
		y.partial = true
	}
	for _, child := range node.Content {
		y.noAnchors(child)
	}
}

func (y yamlFile) at(node *yaml.Node) pos { return pos{y.file, max(1, node.Line)} }

// broken notes what the library could not read; nothing behind it is known.
func (y yamlFile) broken(err error) {
	y.partial = true
	var where *yaml.LoadError
	if errors.As(err, &where) {
		y.errorf(pos{y.file, min(max(0, where.Mark.Line), y.lines)}, "not YAML or JSON: %s (indent with blanks, not tabs; a text like [.]* needs quotes)", where.Message)
		return
	}
	y.errorf(pos{y.file, 0}, "%v", err)
}

// pairs calls do for every key of a mapping, with the key in upper case.
func (y yamlFile) pairs(mapping *yaml.Node, do func(key string, at pos, value *yaml.Node)) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			y.errorf(y.at(key), "%s as key: use a name", kindOf(key))
		case value.Kind == yaml.AliasNode: // noted by noAnchors
		default:
			do(strings.ToUpper(key.Value), y.at(key), value)
		}
	}
}

// top takes one name at the top of the file.
func (y yamlFile) top(name string, at pos, value *yaml.Node) {
	switch name {
	case keyInclude:
		y.include(at, value)
	case sectionGlobal:
		if value.Kind != yaml.MappingNode {
			y.errorf(at, "%s is a mapping of keys, not %s", name, kindOf(value))
			y.partial = true
			return
		}
		y.section(name, at, value)
	case sectionServer, sectionSlave:
		if value.Kind != yaml.SequenceNode {
			y.errorf(at, "%s is a list of mappings, one for each node, not %s", name, kindOf(value))
			y.partial = true
			return
		}
		for _, node := range value.Content {
			if node.Kind == yaml.AliasNode {
				continue
			}
			if node.Kind != yaml.MappingNode {
				y.errorf(y.at(node), "%s is a list of mappings, one for each node, not of %s", name, kindOf(node))
				y.partial = true
				continue
			}
			y.section(name, y.at(node), node)
		}
	default:
		y.stranger(name, at, value)
	}
}

// stranger notes a name at the top that is not ours.
func (y yamlFile) stranger(name string, at pos, value *yaml.Node) {
	wraps := value.Kind == yaml.MappingNode && slices.ContainsFunc(value.Content, func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && strings.EqualFold(n.Value, sectionGlobal)
	})
	switch {
	case slices.Contains(familySections, name):
		y.to.sections = append(y.to.sections, section{name: name, at: at})
	case wraps:
		y.errorf(at, "%s: GLOBAL, SVRNODE and SLVNODE must be at the top, not below another name", clip(name))
		y.partial = true
	case find(name, sectionGlobal) != nil:
		y.errorf(at, "%s belongs below GLOBAL", name)
	default:
		y.errorf(at, "%s is not a name for the top; GLOBAL, SVRNODE, SLVNODE and INCLUDE are%s", clip(name), nearest(name, sectionNames))
		y.partial = true
	}
}

// section takes the keys of one section.
func (y yamlFile) section(name string, at pos, mapping *yaml.Node) {
	s := section{name: name, at: at}
	y.pairs(mapping, func(key string, at pos, value *yaml.Node) {
		switch {
		case key == keyInclude:
			y.include(at, value)
		case value.Kind != yaml.ScalarNode && find(key, name) == nil:
			y.warnf(at, "%s", strangeKey(key, name))
		case value.Kind != yaml.ScalarNode:
			y.errorf(at, "%s = %s: use a text or a number; several go into one text with commas", key, kindOf(value))
			s.entries = append(s.entries, entry{key: key, at: at, unread: true})
		default:
			s.entries = append(s.entries, entry{key: key, value: scalar(value), at: at})
		}
	})
	y.to.sections = append(y.to.sections, s)
}

// include takes a path or a list of paths.
func (y yamlFile) include(at pos, value *yaml.Node) {
	paths := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		paths = value.Content
	}
	for _, path := range paths {
		if path.Kind != yaml.ScalarNode {
			y.errorf(at, "INCLUDE = %s: use the path of a file or a list of paths", kindOf(path))
			y.partial = true
			continue
		}
		y.to.includes = append(y.to.includes, entry{key: keyInclude, value: scalar(path), at: y.at(path)})
	}
}

// scalar returns a value as it is written; null is the empty text.
func scalar(node *yaml.Node) string {
	if node.ShortTag() == "!!null" {
		return ""
	}
	return node.Value
}

// kindOf names what a node is, for messages.
func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if node.ShortTag() == "!!null" {
		return "nothing"
	}
	return "a single value"
}
