package fault

import "slices"

// Point is a place in the code at which a process can be made to end.
type Point string

// The points of a program, in package client. A record of a ring is reserved,
// written, committed and published; the head of a ring is released.
const (
	SendReserved    Point = "send-reserved"
	SendCommitted   Point = "send-committed"
	SendPublished   Point = "send-published"
	ReplyReserved   Point = "reply-reserved"
	ReplyCommitted  Point = "reply-committed"
	ReplyPublished  Point = "reply-published"
	ReceiveCopied   Point = "receive-copied"
	ReceiveReleased Point = "receive-released"
	DoneNoted       Point = "done-noted"
	DoneReleased    Point = "done-released"
	ControlRead     Point = "control-read"
	AttachSent      Point = "attach-sent"
	AttachAnswered  Point = "attach-answered"
	HandBackSent    Point = "hand-back-sent"
	HandBackDone    Point = "hand-back-done"
	CopyCommitted   Point = "copy-committed"
)

// The points of a ring, in package shm: a program and a node pass them.
const (
	RingPadded    Point = "ring-padded"
	RingPublished Point = "ring-published"
	RingReleased  Point = "ring-released"
)

// The points of a node, in package dataplane.
const (
	NodeAttached         Point = "node-attached"
	NodeHandBackChecked  Point = "node-hand-back-checked"
	NodeHandBackStruck   Point = "node-hand-back-struck"
	NodeHandBackMarked   Point = "node-hand-back-marked"
	NodeDeliverReserved  Point = "node-deliver-reserved"
	NodeDelivered        Point = "node-delivered"
	NodeTakenSeen        Point = "node-taken-seen"
	NodeGivenUp          Point = "node-given-up"
	NodeSettled          Point = "node-settled"
	NodeControlPublished Point = "node-control-published"
	NodePublished        Point = "node-published"
	NodeReleased         Point = "node-released"
	NodeTableWritten     Point = "node-table-written"
	NodeTableKept        Point = "node-table-kept"
)

// The points of a server's raft, in package raftnode.
const (
	RaftLogBefore       Point = "raft-log-before"
	RaftLogAfter        Point = "raft-log-after"
	RaftStableBefore    Point = "raft-stable-before"
	RaftStableAfter     Point = "raft-stable-after"
	RaftSnapshotBegun   Point = "raft-snapshot-begun"
	RaftSnapshotWritten Point = "raft-snapshot-written"
	RaftSnapshotKept    Point = "raft-snapshot-kept"
)

// PointInfo says what a Point means.
type PointInfo struct {
	Point   Point
	Program bool // programs pass it
	Node    bool // nodes pass it; those of raft only servers
	What    string
}

// Points lists all points.
func Points() []PointInfo { return slices.Clone(points) }

var points = []PointInfo{
	{SendReserved, true, false, "a message has room in the out-ring, nothing is written"},
	{SendCommitted, true, false, "a message is written into the out-ring and not visible to the node"},
	{SendPublished, true, false, "a message is visible to the node, which is not woken"},
	{ReplyReserved, true, false, "a reply has room in the out-ring, nothing is written"},
	{ReplyCommitted, true, false, "a reply is written into the out-ring and not visible to the node"},
	{ReplyPublished, true, false, "a reply is visible to the node, which is not woken"},
	{ReceiveCopied, true, false, "a message was read from the in-ring and is not taken"},
	{ReceiveReleased, true, false, "a message is taken, which acknowledges it, and the program never sees it (with AckOnDone it is not taken)"},
	{DoneNoted, true, false, "AckOnDone: a message is done and not taken"},
	{DoneReleased, true, false, "AckOnDone: a message is done and, with all before it, taken; the node is not woken"},
	{ControlRead, true, false, "a control record was read, nobody was told"},
	{AttachSent, true, false, "the program has asked to attach and not read the answer"},
	{AttachAnswered, true, false, "the program has the answer and has mapped nothing"},
	{HandBackSent, true, false, "the program has handed its segment to a new node and not read the answer"},
	{HandBackDone, true, false, "the new node has taken the segment back, the program has not read or written since"},
	{CopyCommitted, true, false, "the new node did not take the segment back: what was not settled is copied, not visible to the node"},

	{RingPadded, true, true, "the end of a ring is filled up, the record behind it is not written"},
	{RingPublished, true, true, "records are visible to the other side, whose sleep was not looked at"},
	{RingReleased, true, true, "room is given back to the other side, whose wish for it was not looked at"},

	{NodeAttached, false, true, "a program is registered and has no answer"},
	{NodeHandBackChecked, false, true, "a segment that is handed back is checked, nothing is changed in it"},
	{NodeHandBackStruck, false, true, "one record of a segment that is handed back is struck out"},
	{NodeHandBackMarked, false, true, "one record of a segment that is handed back is marked"},
	{NodeDeliverReserved, false, true, "a message has room in an in-ring, nothing is written"},
	{NodeDelivered, false, true, "a message is written into an in-ring, not visible to the program, not noted"},
	{NodeTakenSeen, false, true, "the node has seen that a message is taken, and acknowledged nothing"},
	{NodeGivenUp, false, true, "a message is marked as given up in the out-ring, its program is not told"},
	{NodeSettled, false, true, "a message of a program here is settled, its room not given back"},
	{NodeControlPublished, false, true, "control records are visible to a program: messages, and the room of what they tell about, are not yet"},
	{NodePublished, false, true, "messages are visible to a program, which is not woken"},
	{NodeReleased, false, true, "the room of settled messages is given back, their program not woken"},
	{NodeTableWritten, false, true, "a table is written beside the kept one and has not replaced it"},
	{NodeTableKept, false, true, "a table has replaced the kept one"},

	{RaftLogBefore, false, true, "entries are about to be written to the log"},
	{RaftLogAfter, false, true, "entries are in the log, raft does not know"},
	{RaftStableBefore, false, true, "a term or a vote is about to be written"},
	{RaftStableAfter, false, true, "a term or a vote is written, raft does not know"},
	{RaftSnapshotBegun, false, true, "a snapshot is begun, nothing is written"},
	{RaftSnapshotWritten, false, true, "a snapshot is written and does not count yet"},
	{RaftSnapshotKept, false, true, "a snapshot counts, raft does not know"},
}

// BugName names a deliberate bug.
type BugName string

// The deliberate bugs.
const (
	DropAck             BugName = "drop-ack"
	SkipDedup           BugName = "skip-dedup"
	ApplyOutOfOrder     BugName = "apply-out-of-order"
	StaleEpoch          BugName = "stale-epoch"
	ForgetSuspend       BugName = "forget-suspend"
	ReuseIncarnation    BugName = "reuse-incarnation"
	LoseRecordOnRestart BugName = "lose-record-on-restart"
	AnswerBeforeCommit  BugName = "answer-before-commit"
	StandInUnmarked     BugName = "stand-in-unmarked"
	LoseStandIn         BugName = "lose-stand-in"
)

// BugInfo says what a BugName does and what it breaks.
type BugInfo struct {
	Bug BugName
	// All says that the bug is in what all nodes compute alike: it must be on for
	// all nodes of a ring, or they only come to differ.
	All  bool
	What string
}

// Bugs lists all deliberate bugs.
func Bugs() []BugInfo { return slices.Clone(bugs) }

var bugs = []BugInfo{
	{DropAck, false, "one in 512 acknowledgements of messages is not sent: the message stays unsettled until its link breaks"},
	{SkipDedup, false, "a receiver does not know again what a program has taken: unmarked repeats when a link broke"},
	{ApplyOutOfOrder, false, "one in 5 tables reaches the data plane before the one that it follows: a node goes back until a peer tells it"},
	{StaleEpoch, false, "a node takes a newer table once in 4 s only, although the ring shows it more, and goes on by the old one as sender and as owner"},
	{ForgetSuspend, true, "a server that comes UP, or a snapshot, clears the flag of SUSPENDMERGE"},
	{ReuseIncarnation, true, "a server that starts again keeps the incarnation of its earlier start"},
	{LoseRecordOnRestart, false, "of a segment that is handed back the last message in the out-ring is skipped: it is lost if the earlier process of the node had not sent it"},
	{AnswerBeforeCommit, false, "a leader answers a command of the control port SUCCEED before its entry is in the log"},
	{StandInUnmarked, false, "a server that stands in for another one gives its programs what they get for that one without mark; needs --stand-in-after"},
	{LoseStandIn, false, "a server that stands in for another one has no note of it: the ring does not learn who lacks what; needs --stand-in-after"},
}
