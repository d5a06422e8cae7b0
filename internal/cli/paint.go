package cli

import "regexp"

var jsonTokenRE = regexp.MustCompile(`"(?:[^"\\]|\\.)*"(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b`)

// paint colours JSON: keys, strings, and all other values.
func paint(text []byte) []byte {
	const key, str, other, reset = "\x1b[34m", "\x1b[32m", "\x1b[36m", "\x1b[0m"
	return jsonTokenRE.ReplaceAllFunc(text, func(token []byte) []byte {
		colour := other
		switch {
		case token[0] == '"' && token[len(token)-1] == ':':
			colour = key
		case token[0] == '"':
			colour = str
		}
		return []byte(colour + string(token) + reset)
	})
}
