package ringview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/chmpx/chmpx/controlplane/ctlport"
)

// ErrRefused is wrapped when a node did not do what a Post asked for; the text
// behind it is the node's, and nothing was changed.
var ErrRefused = errors.New("the node refused")

// postTimeout bounds a Post: a node may have to read files.
const postTimeout = 15 * time.Second

// Post asks the node at host and control port to change something, by a path
// that control ports know; the answer goes into v. It ends with ctx, at the
// latest after 15 s. Errors wrap ErrRefused, ErrNotSent or ErrNoAnswer.
func Post(ctx context.Context, host string, ctlPort uint16, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	addr := net.JoinHostPort(host, strconv.Itoa(int(ctlPort)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, nil)
	if err != nil {
		return fmt.Errorf("%w: POST %s to %s: %w", ErrNotSent, path, addr, err)
	}
	req.Host = "localhost" // as in Get
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(ctlport.ChangeHeader, "1")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return conn, err
	}}}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, ErrNotSent):
		return err
	case err != nil:
		return fmt.Errorf("%w of %s, it may have been done: %w", ErrNoAnswer, addr, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, replyBytesMax))
	if err != nil {
		return fmt.Errorf("%w of %s, it may have been done: %w", ErrNoAnswer, addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		var why struct{ Error string }
		if json.Unmarshal(body, &why) != nil || why.Error == "" {
			why.Error = resp.Status
		}
		return fmt.Errorf("%w: %s", ErrRefused, why.Error)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w of %s that can be read, it has been done: %w", ErrNoAnswer, addr, err)
	}
	return nil
}
