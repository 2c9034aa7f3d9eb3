package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
)

// A client program asks the server program that owns a key.
func ExampleClient_Request() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Config: "test_slave.ini"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	reply, err := c.Request(ctx, ring.Hash([]byte("user:42")), []byte("get"))
	switch {
	case errors.Is(err, client.ErrMaybeDelivered):
		log.Print("sent, but nobody answered in time: ", err)
	case err != nil:
		log.Print("not sent: ", err)
	default:
		fmt.Printf("%s\n", reply.Payload)
	}
}

// A server program answers the messages of the keys that its node owns.
func ExampleClient_Serve() {
	ctx := context.Background()
	c, err := client.Attach(ctx, client.Options{Config: "test_server.ini", CtlPort: 8021, Role: client.RoleServer})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.Serve(ctx, 4, func(_ context.Context, m *client.Message) ([]byte, error) {
		if m.MaybeRepeat {
			log.Print("perhaps seen before")
		}
		return append([]byte("echo "), m.Payload...), nil
	})
	log.Print(err)
}

// Messages without reply: Send returns when the message will not be lost.
func ExampleClient_Send() {
	c, err := client.Attach(context.Background(), client.Options{Config: "test_slave.ini"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err = c.Send(ctx, ring.Hash([]byte("user:42")), []byte("seen"), client.FailWithoutOwner(time.Second))
	if errors.Is(err, client.ErrNotDelivered) {
		log.Print("not sent: ", err)
	}
}

// A message that must have arrived before the program goes on, but not late.
func ExampleClient_SendWait() {
	ctx := context.Background()
	c, err := client.Attach(ctx, client.Options{Config: "test_slave.ini"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	err = c.SendWait(ctx, ring.Hash([]byte("user:42")), []byte("stop"), client.Deadline(time.Now().Add(time.Second)))
	switch {
	case errors.Is(err, client.ErrNotDelivered):
		log.Print("nobody will see it: ", err)
	case errors.Is(err, client.ErrMaybeDelivered):
		log.Print("somebody may have seen it: ", err)
	}
}

// Every server in service answers.
func ExampleClient_BroadcastRequest() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Config: "test_slave.ini"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	servers, err := c.BroadcastRequest(ctx, []byte("count"), func(reply []byte) {
		fmt.Printf("%s\n", reply)
	})
	if err != nil {
		log.Printf("not all of %d servers answered: %v", servers, err)
	}
}

// With AckOnDone what a program was working on when it ended is given to another one.
func ExampleClient_Done() {
	ctx := context.Background()
	c, err := client.Attach(ctx, client.Options{Config: "test_server.ini", CtlPort: 8021, Role: client.RoleServer, AckOnDone: true})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return
		}
		go func() {
			// ... work on it; m.MaybeRepeat says that somebody may have begun to
			c.Done(m)
		}()
	}
}

// Many requests at once from one goroutine.
func ExampleClient_RequestAsync() {
	ctx := context.Background()
	c, err := client.Attach(ctx, client.Options{Config: "test_slave.ini"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	const window = 64
	tokens := make(chan struct{}, window)
	for i := range 10000 {
		tokens <- struct{}{} // waits while window requests are out
		err := c.RequestAsync(ctx, uint64(i), []byte("get"), func(reply []byte, err error) {
			<-tokens
		})
		if err != nil {
			log.Fatal(err)
		}
	}
}

// Receive and Reply are Serve for programs that have a loop of their own.
func ExampleClient_Receive() {
	ctx := context.Background()
	c, err := client.Attach(ctx, client.Options{Config: "test_server.ini", CtlPort: 8021, Role: client.RoleServer})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return
		}
		if m.WantsReply {
			if err := c.Reply(ctx, m, m.Payload); err != nil {
				return
			}
		}
	}
}
