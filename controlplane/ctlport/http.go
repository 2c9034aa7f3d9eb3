package ctlport

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// requestBytesMax bounds a request, as the text commands are bounded.
const requestBytesMax = 8191

// serveHTTP answers one request and closes: the port is for operators, not for
// load, and one request per connection keeps the count of connections honest.
func (s *Server) serveHTTP(ctx context.Context, conn net.Conn, r *bufio.Reader, rights Rights) {
	limited := bufio.NewReader(io.LimitReader(r, requestBytesMax))
	req, err := http.ReadRequest(limited)
	if err != nil {
		s.answer(conn, http.MethodGet, http.StatusBadRequest, errorBody(fmt.Sprintf("the request cannot be read, or has more than %d bytes: %v", requestBytesMax, err)))
		return
	}
	code, body := s.route(ctx, req, rights)
	s.answer(conn, req.Method, code, body)
}

// route decides about a request. A browser that was led here by a foreign page
// says so with Origin or Sec-Fetch-Site, and gets nothing.
func (s *Server) route(ctx context.Context, req *http.Request, rights Rights) (int, []byte) {
	if _, has := req.Header["Origin"]; has {
		return http.StatusForbidden, errorBody("requests with an Origin are refused")
	}
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return http.StatusForbidden, errorBody("requests from other sites are refused")
	}
	if !s.named(req.Host) {
		return http.StatusForbidden, errorBody(fmt.Sprintf("this node is not called %.64q; use its address", req.Host))
	}
	looks := req.Method == http.MethodGet || req.Method == http.MethodHead
	if !looks && rights < Full {
		return http.StatusForbidden, errorBody(reasonReadOnly)
	}
	if act := s.cfg.Actions[req.URL.Path]; act != nil {
		return s.act(ctx, req, act)
	}
	var show func() any
	switch {
	case req.URL.Path == "/v1/status" && s.cfg.Status != nil:
		show = s.cfg.Status
	case req.URL.Path == "/v1/owners" && s.cfg.Owners != nil:
		hash, err := strconv.ParseUint(req.URL.Query().Get("hash"), 0, 64)
		if err != nil {
			return http.StatusBadRequest, errorBody("hash: a number of 64 bits is needed, as 0x1f or 31")
		}
		show = func() any { return s.cfg.Owners(hash) }
	default:
		return http.StatusNotFound, errorBody("no such resource: " + req.URL.Path)
	}
	if !looks {
		return http.StatusMethodNotAllowed, errorBody("only GET and HEAD are allowed")
	}
	if consistent, err := wantsConsistent(req); err != nil {
		return http.StatusBadRequest, errorBody(err.Error())
	} else if consistent && s.cfg.Consistent != nil {
		if err := s.cfg.Consistent(ctx); err != nil {
			return http.StatusServiceUnavailable, errorBody(err.Error())
		}
	}
	return s.encode(req, show())
}

// encode returns an answer as JSON.
func (s *Server) encode(req *http.Request, answer any) (int, []byte) {
	body, err := json.Marshal(answer)
	if err != nil {
		s.cfg.Logger.Error("answer cannot be encoded", "path", req.URL.Path, "err", err)
		return http.StatusInternalServerError, errorBody("the answer cannot be encoded")
	}
	return http.StatusOK, append(body, '\n')
}

// ChangeHeader is what a request that changes something has with the value 1: no
// page can make a browser send it without asking first.
const ChangeHeader = "X-Chmpx"

// act does what a POST asks for.
func (s *Server) act(ctx context.Context, req *http.Request, do Action) (int, []byte) {
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	switch {
	case req.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, errorBody("only POST is allowed")
	case kind != "application/json":
		return http.StatusUnsupportedMediaType, errorBody("Content-Type must be application/json")
	case req.Header.Get(ChangeHeader) != "1":
		return http.StatusForbidden, errorBody("the header " + ChangeHeader + ": 1 is missing")
	}
	body, err := io.ReadAll(req.Body) // what is left of requestBytesMax
	if err != nil {
		return http.StatusBadRequest, errorBody(fmt.Sprintf("the body cannot be read, or the request has more than %d bytes: %v", requestBytesMax, err))
	}
	answer, err := do(ctx, body)
	if err != nil {
		return http.StatusConflict, errorBody(err.Error())
	}
	return s.encode(req, answer)
}

// wantsConsistent reports whether a request for the status asks for what is
// committed, instead of what this node has heard of so far.
func wantsConsistent(req *http.Request) (bool, error) {
	query := req.URL.Query()
	if !query.Has("consistent") || req.URL.Path != "/v1/status" {
		return false, nil
	}
	text := query.Get("consistent")
	want, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("consistent: %.20q is neither 1 nor 0", text)
	}
	return want, nil
}

// named reports whether a request is meant for this node. A foreign page whose
// name is made to resolve to this host would be same-origin for its browser, but
// the browser says that name.
func (s *Server) named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "" {
		return true
	}
	is := func(name string) bool { return strings.EqualFold(name, host) }
	return is("localhost") || s.cfg.Names != nil && slices.ContainsFunc(s.cfg.Names(), is)
}

func errorBody(text string) []byte {
	b, err := json.Marshal(map[string]string{"error": text})
	if err != nil {
		return []byte("{}\n")
	}
	return append(b, '\n')
}

func (s *Server) answer(conn net.Conn, method string, code int, body []byte) {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
		code, http.StatusText(code), len(body))
	if method == http.MethodHead {
		body = nil
	}
	_ = conn.SetWriteDeadline(time.Now().Add(stepTimeout))
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		s.cfg.Logger.Debug("control reply not sent", "remote", conn.RemoteAddr().String(), "err", err)
	}
}
