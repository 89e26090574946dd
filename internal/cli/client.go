package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
)

const (
	answerTimeout = 10 * time.Second
	busyTimeout   = 5 * time.Second // how long a full socket is tried again
	maxAnswer     = 16 << 20
	maxEvent      = 1 << 20 // one line of a stream
)

// client asks the daemon over its control socket.
type client struct {
	socket string
}

func (a *app) client() *client { return &client{socket: a.socket} }

// ask sends a request, decodes the answer into document, and returns it as it
// came. Errors carry their exit code.
func (c *client) ask(ctx context.Context, method, path string, document any) (json.RawMessage, error) {
	code, body, err := c.patiently(ctx, method, path)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if code != http.StatusOK {
		return nil, c.refused(code, body)
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(body, &head); err != nil || head.Schema == 0 {
		return nil, c.stranger()
	}
	if head.Schema > status.Schema {
		return nil, newer(head.Schema)
	}
	if err := json.Unmarshal(body, document); err != nil {
		return nil, c.stranger()
	}
	return body, nil
}

// newer is the error of a daemon whose documents mean something else.
func newer(schema int) error {
	return &exitError{
		code: ExitNo, err: fmt.Errorf("read the answer of subflowd: its schema is %d, and only %d is known here", schema, status.Schema),
		remedy: "update subflowctl",
	}
}

// patiently asks again for a while when the daemon has no place for another
// client.
func (c *client) patiently(ctx context.Context, method, path string) (int, []byte, error) {
	end := time.Now().Add(busyTimeout)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		code, body, err := c.once(ctx, method, path)
		busy := err == nil && code == http.StatusServiceUnavailable || errors.Is(err, syscall.EAGAIN)
		if !busy || time.Now().After(end) {
			return code, body, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return code, body, err
		}
	}
}

// errNoHTTP says that what answers does not speak HTTP.
var errNoHTTP = errors.New("no HTTP answer")

// once is one connection with one request. http.Transport does not do: a
// daemon with very many connections answers before it has read the request, and
// the transport logs that and drops the answer.
func (c *client) once(ctx context.Context, method, path string) (int, []byte, error) {
	conn, resp, err := c.begin(ctx, method, path)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}

// begin sends a request and reads the head of the answer. The connection is the
// caller's to close.
func (c *client) begin(ctx context.Context, method, path string) (net.Conn, *http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://subflowd"+path, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Close = true
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(end)
	}
	// A broken pipe may have an answer behind it.
	if err == nil {
		if err = req.Write(conn); errors.Is(err, syscall.EPIPE) {
			err = nil
		}
	}
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(bufio.NewReader(conn), req)
		var broken net.Error
		if err != nil && !errors.As(err, &broken) && !errors.Is(err, io.ErrUnexpectedEOF) {
			err = errNoHTTP
		}
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, resp, nil
}

// follow reads a stream of events until it ends or ctx does, and gives each to
// take, with the line as it came. It returns why it ended; errors carry their
// exit code.
func (c *client) follow(ctx context.Context, path string, take func(line []byte, e status.Event)) error {
	dial, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, resp, err := c.begin(dial, http.MethodGet, path)
	if err != nil {
		return c.unreachable(err)
	}
	defer conn.Close()
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return c.unreachable(err)
		}
		return c.refused(resp.StatusCode, body)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return c.unreachable(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e status.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Schema == 0 {
			return c.stranger()
		}
		if e.Schema > status.Schema {
			return newer(e.Schema)
		}
		take(lines.Bytes(), e)
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return c.unreachable(err)
	}
	return c.unreachable(io.ErrUnexpectedEOF)
}

// unreachable names the socket and what to do about it.
func (c *client) unreachable(err error) error {
	out := &exitError{code: ExitUnreachable, remedy: "is the service running? systemctl status subflowd"}
	switch {
	case errors.Is(err, errNoHTTP):
		return c.stranger()
	case errors.Is(err, fs.ErrNotExist):
		out.err = fmt.Errorf("reach subflowd at %s: the socket does not exist: %w", c.socket, fs.ErrNotExist)
	case errors.Is(err, syscall.ECONNREFUSED):
		out.err = fmt.Errorf("reach subflowd at %s: nobody listens: %w", c.socket, syscall.ECONNREFUSED)
	case errors.Is(err, fs.ErrPermission):
		out.code, out.err = ExitPermission, fmt.Errorf("reach subflowd at %s: %w", c.socket, fs.ErrPermission)
		out.remedy = "the socket and its directories let everybody in by default: ls -ld " + c.socket
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		out.err = fmt.Errorf("reach subflowd at %s: no answer: %w", c.socket, os.ErrDeadlineExceeded)
	case errors.Is(err, io.ErrUnexpectedEOF):
		out.err = fmt.Errorf("reach subflowd at %s: it hung up: %w", c.socket, err)
	default:
		out.err = fmt.Errorf("reach subflowd at %s: %w", c.socket, rootCause(err))
	}
	return out
}

// rootCause drops the address, which the caller names.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (c *client) stranger() error {
	return &exitError{
		code: ExitUnreachable, err: fmt.Errorf("reach subflowd at %s: another program answers there", c.socket),
		remedy: "name the daemon's socket: --socket PATH",
	}
}

// notThereError says that the daemon knows no such thing.
type notThereError string

func (e notThereError) Error() string { return string(e) }

func (c *client) refused(code int, body []byte) error {
	var f status.Failure
	if err := json.Unmarshal(body, &f); err != nil || f.Error == "" {
		return c.stranger()
	}
	out := &exitError{code: ExitNo, err: errors.New(f.Error), remedy: f.Remedy}
	switch code {
	case http.StatusNotFound:
		out.err = notThereError(f.Error)
	case http.StatusForbidden:
		out.code = ExitPermission
	case http.StatusServiceUnavailable:
		out.code = ExitUnreachable
	}
	return out
}

// get asks with the usual patience.
func (c *client) get(path string, document any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	return c.ask(ctx, http.MethodGet, path, document)
}

// isUnreachable tells whether an error means that no daemon answered.
func isUnreachable(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.code == ExitUnreachable
}
