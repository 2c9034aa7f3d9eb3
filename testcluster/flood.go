package testcluster

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/chmpx/chmpx/client"
)

// FloodProgram attaches to the node of a configuration file, says so on w, and
// uses its rings as fast as it can until it is killed or ctx ends: a client
// sends messages of every size without waiting for anything, a server program
// takes and answers what comes. It is made to die in the middle of a message.
func FloodProgram(ctx context.Context, conf string, role client.Role, w io.Writer) error {
	c, err := attach(ctx, conf, role)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(w, "attached"); err != nil {
		return fmt.Errorf("say attached: %w", err)
	}
	if role == client.RoleServer {
		return c.Serve(ctx, 2, func(_ context.Context, m *client.Message) ([]byte, error) {
			if len(m.Payload) != requestBytes {
				return m.Payload, nil
			}
			return append(m.Payload, '?', m.Payload[requestBytes-1]), nil // as ServerProgram answers
		})
	}
	payload := make([]byte, c.MessageBytesMax())
	random := rand.New(rand.NewPCG(uint64(c.Session()[0]), 1))
	for ctx.Err() == nil {
		size := random.IntN(len(payload) >> random.IntN(12))
		hash := random.Uint64()
		if random.IntN(4) == 0 {
			err = c.RequestAsync(ctx, hash, payload[:size], func([]byte, error) {})
		} else {
			err = c.Send(ctx, hash, payload[:size])
		}
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
	}
	return nil
}
