package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/chmpx/chmpx/ring"
)

// AttachVersion is the version of the attach messages, of the records and of
// the segment that node and program must agree on.
const AttachVersion = 2

// Limits of the attach messages.
const (
	// AttachPrefixBytes is the size of the length in front of each message.
	AttachPrefixBytes = 4
	// AttachBytesMax bounds a message, its length prefix included.
	AttachBytesMax = 1024
	// AttachNameBytesMax bounds AttachRequest.Name.
	AttachNameBytesMax = 64
	// AttachTextBytesMax bounds AttachReply.Text.
	AttachTextBytesMax = 512
)

// ErrAttach is wrapped by every error about bytes that are no attach message.
var ErrAttach = errors.New("wire: invalid attach message")

// ErrVersion is wrapped when an attach message has a version other than
// AttachVersion. The message that is returned with it holds that version and
// nothing else.
var ErrVersion = errors.New("wire: unknown version of attach message")

// Role says which side of the ring a program is.
type Role uint8

// The roles of a program.
const (
	RoleServer Role = 1 // takes the messages of the slots that its node owns
	RoleClient Role = 2 // only sends and takes replies
)

// String returns the lower-case word.
func (r Role) String() string {
	switch r {
	case RoleServer:
		return "server"
	case RoleClient:
		return "client"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// AttachCode is a node's answer to an AttachRequest.
type AttachCode uint8

// The answers of a node.
const (
	AttachOK               AttachCode = iota // attached; three descriptors come along
	AttachRefusedVersion                     // the node speaks another version
	AttachRefusedRole                        // a slave node has no server programs
	AttachRefusedRoom                        // SHMBYTESMAX of the node is used up
	AttachRefusedDenied                      // the program's user or group may not attach
	AttachRefusedSession                     // the session is attached already, or was given up
	AttachRefusedStopping                    // the node is about to stop
	AttachRefusedMalformed                   // the node did not understand the request
	AttachRefusedSegment                     // the segment that was handed back cannot be used; ask for a new one
	attachCodeEnd
)

// String says the answer in words.
func (c AttachCode) String() string {
	words := [attachCodeEnd]string{"attached", "version refused", "role refused", "no room", "permission denied",
		"session refused", "node is stopping", "request not understood", "segment refused"}
	if c < attachCodeEnd {
		return words[c]
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// AttachFlags say more about an attachment.
type AttachFlags uint32

// The flags of an AttachRequest.
const (
	// AttachAckOnDone says that the program takes a message when it is done
	// with it: what it has when it ends is given to another one, marked.
	AttachAckOnDone AttachFlags = 1 << iota
	// AttachHandBack says that one descriptor comes along: the memfd of the
	// segment that an earlier process of the node had made for this session.
	AttachHandBack
	attachFlagEnd
)

// AttachRequest is the first and only message of a program on the attach
// socket. Closing the socket ends the attachment. After the length u32:
//
//	0 version u16  2 role u8  3 name bytes u8
//	4 pid u32      8 session [16]  24 flags u32  28 name
type AttachRequest struct {
	Version uint16
	Role    Role
	Flags   AttachFlags
	Session SessionID // zero: a new one
	PID     uint32    // for status output only; the node asks the kernel
	Name    string    // at most AttachNameBytesMax bytes of UTF-8
}

// AttachReply is a node's answer. With AttachOK it carries three descriptors:
// the memfd of the segment, the program's doorbell (the program waits on it)
// and the node's doorbell (the program rings it). Resumed says that the segment
// is the one that was handed back. After the length u32:
//
//	0 version u16  2 code u8  3 node role u8
//	4 ringBytes u32  8 session [16]  24 node u64
//	32 text bytes u16  34 resumed u8  35 zero  36 text
type AttachReply struct {
	Version   uint16
	Code      AttachCode
	Text      string // why it was refused, for people; at most AttachTextBytesMax bytes
	Session   SessionID
	Resumed   bool
	Node      ring.ID
	NodeRole  NodeRole
	RingBytes uint32 // of each Request and Reply ring
}

const (
	attachRequestFixed = 28
	attachReplyFixed   = 36
)

// Encode returns the message with its length in front. Version 0 stands for AttachVersion.
func (r *AttachRequest) Encode() ([]byte, error) {
	if len(r.Name) > AttachNameBytesMax || !utf8.ValidString(r.Name) {
		return nil, fmt.Errorf("%w: the name must be at most %d bytes of UTF-8", ErrAttach, AttachNameBytesMax)
	}
	if r.Role != RoleServer && r.Role != RoleClient || r.Flags >= attachFlagEnd {
		return nil, fmt.Errorf("%w: %v with flags %#x", ErrAttach, r.Role, uint32(r.Flags))
	}
	b := make([]byte, AttachPrefixBytes+attachRequestFixed, AttachPrefixBytes+attachRequestFixed+len(r.Name))
	m := b[AttachPrefixBytes:]
	le := binary.LittleEndian
	le.PutUint32(b, uint32(attachRequestFixed+len(r.Name)))
	le.PutUint16(m[0:], versionOr(r.Version))
	m[2], m[3] = byte(r.Role), byte(len(r.Name))
	le.PutUint32(m[4:], r.PID)
	copy(m[8:24], r.Session[:])
	le.PutUint32(m[24:], uint32(r.Flags))
	return append(b, r.Name...), nil
}

// DecodeAttachRequest decodes a message without its length prefix.
func DecodeAttachRequest(m []byte) (*AttachRequest, error) {
	v, err := attachVersion(m)
	if err != nil {
		return &AttachRequest{Version: v}, err
	}
	if len(m) < attachRequestFixed || len(m) != attachRequestFixed+int(m[3]) || m[3] > AttachNameBytesMax {
		return nil, fmt.Errorf("%w: request of %d bytes", ErrAttach, len(m))
	}
	le := binary.LittleEndian
	r := &AttachRequest{Version: v, Role: Role(m[2]), PID: le.Uint32(m[4:]),
		Flags: AttachFlags(le.Uint32(m[24:])), Name: string(m[attachRequestFixed:])}
	copy(r.Session[:], m[8:24])
	if r.Role != RoleServer && r.Role != RoleClient || r.Flags >= attachFlagEnd {
		return nil, fmt.Errorf("%w: %v with flags %#x", ErrAttach, r.Role, uint32(r.Flags))
	}
	if !utf8.ValidString(r.Name) {
		return nil, fmt.Errorf("%w: the name is not UTF-8", ErrAttach)
	}
	return r, nil
}

// Encode returns the message with its length in front. Version 0 stands for AttachVersion.
func (r *AttachReply) Encode() ([]byte, error) {
	if len(r.Text) > AttachTextBytesMax || !utf8.ValidString(r.Text) {
		return nil, fmt.Errorf("%w: the text must be at most %d bytes of UTF-8", ErrAttach, AttachTextBytesMax)
	}
	if r.Code >= attachCodeEnd || !r.NodeRole.valid() {
		return nil, fmt.Errorf("%w: %v from a %v", ErrAttach, r.Code, r.NodeRole)
	}
	b := make([]byte, AttachPrefixBytes+attachReplyFixed, AttachPrefixBytes+attachReplyFixed+len(r.Text))
	m := b[AttachPrefixBytes:]
	le := binary.LittleEndian
	le.PutUint32(b, uint32(attachReplyFixed+len(r.Text)))
	le.PutUint16(m[0:], versionOr(r.Version))
	m[2], m[3] = byte(r.Code), byte(r.NodeRole)
	le.PutUint32(m[4:], r.RingBytes)
	copy(m[8:24], r.Session[:])
	le.PutUint64(m[24:], uint64(r.Node))
	le.PutUint16(m[32:], uint16(len(r.Text)))
	if r.Resumed {
		m[34] = 1
	}
	return append(b, r.Text...), nil
}

// DecodeAttachReply decodes a message without its length prefix.
func DecodeAttachReply(m []byte) (*AttachReply, error) {
	v, err := attachVersion(m)
	if err != nil {
		return &AttachReply{Version: v}, err
	}
	le := binary.LittleEndian
	if len(m) < attachReplyFixed || len(m) > AttachBytesMax-AttachPrefixBytes ||
		len(m) != attachReplyFixed+int(le.Uint16(m[32:])) {
		return nil, fmt.Errorf("%w: reply of %d bytes", ErrAttach, len(m))
	}
	r := &AttachReply{Version: v, Code: AttachCode(m[2]), NodeRole: NodeRole(m[3]), RingBytes: le.Uint32(m[4:]),
		Node: ring.ID(le.Uint64(m[24:])), Resumed: m[34] == 1, Text: string(m[attachReplyFixed:])}
	copy(r.Session[:], m[8:24])
	switch {
	case r.Code >= attachCodeEnd:
		return nil, fmt.Errorf("%w: %v", ErrAttach, r.Code)
	case !r.NodeRole.valid():
		return nil, fmt.Errorf("%w: node role %d", ErrAttach, r.NodeRole)
	case m[34] > 1 || m[35] != 0:
		return nil, fmt.Errorf("%w: reply with bytes %d, %d where 0 or 1, and 0, are allowed", ErrAttach, m[34], m[35])
	case len(r.Text) > AttachTextBytesMax || !utf8.ValidString(r.Text):
		return nil, fmt.Errorf("%w: the text is too long or not UTF-8", ErrAttach)
	}
	return r, nil
}

// AttachLength returns how many bytes follow the length prefix b, which must
// hold AttachPrefixBytes. The result is within AttachBytesMax.
func AttachLength(b []byte) (int, error) {
	if len(b) < AttachPrefixBytes {
		return 0, fmt.Errorf("%w: length prefix of %d bytes", ErrAttach, len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	if n < 2 || n > AttachBytesMax-AttachPrefixBytes {
		return 0, fmt.Errorf("%w: %d bytes announced, at most %d allowed", ErrAttach, n, AttachBytesMax-AttachPrefixBytes)
	}
	return int(n), nil
}

func versionOr(v uint16) uint16 {
	if v == 0 {
		return AttachVersion
	}
	return v
}

func attachVersion(m []byte) (uint16, error) {
	if len(m) < 2 {
		return 0, fmt.Errorf("%w: %d bytes", ErrAttach, len(m))
	}
	v := binary.LittleEndian.Uint16(m)
	if v != AttachVersion {
		return v, fmt.Errorf("%w: %d, known is %d", ErrVersion, v, AttachVersion)
	}
	return v, nil
}
