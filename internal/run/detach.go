package run

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/run/filter"
	"github.com/subflowd/subflowd/internal/run/supervise"
)

// Command is the first argument with which this program is a supervisor. What
// follows is for people who look at ps(1): the process that run became, and
// the name of the program.
const Command = "run-supervisor"

const (
	stageDetach = "detach" // starts the next stage and ends, so that nobody here is its parent
	stageServe  = "serve"
	channel     = 3 // of both stages: the socket to the process that becomes the program
)

// waiting is a supervisor that waits for its listener.
type waiting struct {
	program []unix.SockFilter
	socket  int
}

// prepare does all that can fail before there is a filter: afterwards there is
// no way back.
func prepare(p Program) (*waiting, error) {
	program, err := filter.Program(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	if err := notifies(); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	w := &waiting{program: program, socket: pair[0]}
	err = detach(pair[1], strconv.Itoa(os.Getpid()), filepath.Base(p.Args[0]))
	unix.Close(pair[1])
	// A stage that fails says why, unless it had no time for that.
	if said := w.ready(); err == nil || !errors.Is(said, errEnded) {
		err = said
	}
	if err != nil {
		w.dismiss()
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	return w, nil
}

// dismiss ends the supervisor, which has nothing to serve.
func (w *waiting) dismiss() { unix.Close(w.socket) }

// ready waits until the supervisor says that it is, or why not.
func (w *waiting) ready() error {
	text, err := w.receive()
	if err == nil && text != "" {
		err = errors.New(text)
	}
	return err
}

// hand gives the listener away and waits until it has arrived.
func (w *waiting) hand(l listener) error {
	text := []byte{0}
	if l.killable {
		text[0] = 1
	}
	if err := unix.Sendmsg(w.socket, text, unix.UnixRights(l.fd), nil, 0); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	unix.Close(l.fd)
	_, err := w.receive()
	return err
}

var errEnded = errors.New("hear from the supervisor: it has ended")

func (w *waiting) receive() (string, error) {
	b := make([]byte, 512)
	for {
		n, err := unix.Read(w.socket, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return "", fmt.Errorf("hear from the supervisor: %w", err)
		case n == 0:
			return "", errEnded
		default:
			return string(b[1:n]), nil
		}
	}
}

// detach starts the first stage and waits for its end: the second then is a
// child of init, or of a subreaper above this process.
func detach(socket int, about ...string) error {
	pid, err := start(stageDetach, socket, about)
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	for {
		_, err = unix.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil && status != 0 {
		// Go's runtime ends a program that gets no thread or memory.
		err = fmt.Errorf("its first stage ended with status %#x: what may this user have of processes and memory? ulimit -a", int(status))
	}
	return err
}

// start executes this program as a stage: nothing but the socket is open, no
// terminal is its own, and no directory is kept in use.
func start(stage string, socket int, about []string) (int, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer unix.Close(null)
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{"subflowctl", Command, stage}, about...), &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOGC=20"}, // one thread works, with next to no memory
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(socket)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("execute /proc/self/exe: %w", err)
	}
	return pid, nil
}

// Supervisor is the program when its first argument is Command; args are those
// behind it. It returns the exit code.
func Supervisor(args []string) int {
	if len(args) == 0 {
		return 2
	}
	switch args[0] {
	case stageDetach:
		err := keepFiles()
		if err == nil {
			_, err = start(stageServe, channel, args[1:])
		}
		if err != nil {
			_, _ = unix.Write(channel, append([]byte{0}, err.Error()...))
			return 1
		}
		return 0
	case stageServe:
		if serve() != nil {
			return 1
		}
		return 0
	}
	return 2
}

// keepFiles has the next stage get no file that whoever started the program
// had left open: a pipe would never end.
func keepFiles() error {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd >= channel {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// serve is the last stage.
func serve() error {
	runtime.LockOSThread()
	// Who signals a terminal's processes, a unit's or a group's means the
	// program. The supervisor ends when that has ended.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGALRM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGVTALRM, unix.SIGXCPU, unix.SIGPWR)
	name := []byte("subflowctl\x00") // it was executed as "exe"
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	// The program may be a sandbox of the same user: it is not to trace its way out.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	s, err := supervise.New()
	say := []byte{0}
	if err != nil {
		say = append(say, err.Error()...)
	}
	if _, werr := unix.Write(channel, say); werr != nil || err != nil {
		return errors.Join(err, werr)
	}
	l, err := take()
	if err != nil {
		return err
	}
	_, err = unix.Write(channel, []byte{0})
	unix.Close(channel)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return s.Serve(l.fd, l.killable)
}

// take receives the listener.
func take() (listener, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	text := make([]byte, 1)
	_, n, _, _, err := unix.Recvmsg(channel, text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return listener{}, fmt.Errorf("receive listener: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return listener{}, fmt.Errorf("receive listener: there is none (%w)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return listener{}, fmt.Errorf("receive listener: there is none (%w)", err)
	}
	return listener{fds[0], text[0] == 1}, nil
}
