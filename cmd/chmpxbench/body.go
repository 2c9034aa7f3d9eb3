package main

import (
	"bytes"
	"strconv"
)

// body is the text of one message: hexadecimal thread id, "-", hexadecimal
// loop, padded with "@" up to the last byte, which is 0.
type body struct {
	text   []byte
	prefix int // where the loop begins
}

// newBody returns the body of a thread, of the size given, for loop 0.
func newBody(thread uint64, size int) body {
	b := body{text: bytes.Repeat([]byte{'@'}, size)}
	b.text[size-1] = 0
	b.prefix = copy(b.text, strconv.AppendUint(nil, thread, 16))
	b.text[b.prefix] = '-'
	b.prefix++
	b.set(0)
	return b
}

// set writes the loop. Loops must not become smaller: their digits are not
// padded again. It does not allocate.
func (b *body) set(loop uint64) {
	strconv.AppendUint(b.text[:b.prefix], loop, 16)
}

// visible returns a received text up to its NUL.
func visible(p []byte) []byte {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		return p[:i]
	}
	return p
}

// reply writes the answer to a received text into out, which has the size of
// the server's body: the text, ":", thread, "-", loop, cut or padded with "@".
func reply(out, received []byte, thread, loop uint64) {
	last := len(out) - 1
	n := copy(out[:last], visible(received))
	if n < last {
		tail := strconv.AppendUint([]byte{':'}, thread, 16)
		tail = strconv.AppendUint(append(tail, '-'), loop, 16)
		n += copy(out[n:last], tail)
	}
	for ; n < last; n++ {
		out[n] = '@'
	}
	out[last] = 0
}

// answers reports whether got can be what a server replies to sent: the text
// itself, or the text completed or cut to the size of the server's own body.
func answers(got, sent []byte) bool {
	if len(got) == len(sent) || len(got) < bodyBytesMin || got[len(got)-1] != 0 {
		return bytes.Equal(got, sent)
	}
	text := visible(sent)
	n := min(len(text), len(got)-1)
	return bytes.Equal(got[:n], text[:n])
}
