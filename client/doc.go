// Package client lets a program send messages to the server program that owns
// a key, and be such a server program. It talks to the chmpx node on the same
// host through shared memory; that node finds the owner.
//
// A program attaches once and shares the Client between its goroutines:
//
//	c, err := client.Attach(ctx, client.Options{Config: "slave.ini", CtlPort: 8022})
//	defer c.Close()
//	reply, err := c.Request(ctx, ring.Hash(key), payload)
//
// A server program attaches as RoleServer and answers:
//
//	err := c.Serve(ctx, 4, func(ctx context.Context, m *client.Message) ([]byte, error) { … })
//
// # What is promised
//
// Send and the sending half of Request fail only before the message is
// accepted (ErrNotDelivered). What is accepted is kept in shared memory until
// a server program has taken it: through broken links, moved keys, full
// queues, and a restart of the node, after which the Client attaches again by
// itself. It is taken at least once; a Message that may be a repeat says so
// (MaybeRepeat). Two messages of one Client with one hash, the second sent
// after Send of the first returned, are first taken in that order.
//
// SendWait returns when the message was taken. A message may have a Deadline;
// when it passes first, an error or Options.Undelivered says so. Drain waits for
// everything that was accepted. SendRandom, Broadcast and Replicate, and the
// requests of the latter two, reach other servers than the owner of a key.
//
// A message counts as taken when Receive returns it or Serve calls the handler;
// with Options.AckOnDone only when the program is done with it.
//
// A Request ends with the reply or an error; ErrMaybeDelivered says that a
// server program may have seen it. Nothing waits without a bound of its own:
// every wait ends with its context or with Close.
//
// The attach socket must lie where only root, this user or its owner can have
// made it: see ErrForeignDir.
//
// A Client belongs to its process. Go programs do not fork without exec, and
// neither the mapping nor the descriptors pass to a child.
package client
