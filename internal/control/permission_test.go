package control

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// helperEnv makes the test binary a client of the socket that it names.
const helperEnv = "SUBFLOWD_CONTROL_TEST_SOCKET"

func helper() int {
	for _, r := range []struct{ method, path string }{{"GET", PathStatus}, {"POST", PathReconcile}} {
		req, err := http.NewRequest(r.method, "http://x"+r.path, nil)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		resp, err := client(os.Getenv(helperEnv)).Do(req)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, strings.TrimSpace(string(text)))
	}
	return 0
}

// as runs the helper with the credentials and returns the codes of reading and
// of writing.
func as(t *testing.T, socket string, cred syscall.Credential) (read, write int, text string) {
	t.Helper()
	// The build directory of the test is root's alone.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{helperEnv + "=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run as uid %d: %v: %s", cred.Uid, err, out)
	}
	lines := strings.SplitN(string(out), "\n", 2)
	fmt.Sscan(lines[0], &read)
	fmt.Sscan(lines[1], &write)
	return read, write, lines[1]
}

func TestWhoMayWrite(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be other users")
	}
	group, err := user.LookupGroupId("1")
	if err != nil {
		t.Fatal(err)
	}
	many := make([]uint32, 1000)
	for i := range many {
		many[i] = 5000 + uint32(i)
	}
	f := newFake()
	path, _ := start(t, f, Options{Group: group.Name})
	for _, c := range []struct {
		name  string
		cred  syscall.Credential
		write int
	}{
		{"root", syscall.Credential{}, 200},
		{"a stranger", syscall.Credential{Uid: 4711, Gid: 4711}, 403},
		{"a stranger of group root", syscall.Credential{Uid: 4711, Gid: 0}, 403},
		{"a member by primary group", syscall.Credential{Uid: 4711, Gid: 1}, 200},
		{"a member by supplementary group", syscall.Credential{Uid: 4711, Gid: 4711, Groups: []uint32{4712, 1}}, 200},
		{"a member of many groups", syscall.Credential{Uid: 4711, Gid: 4711, Groups: append(many[:900:900], 1)}, 200},
		{"a stranger of many groups", syscall.Credential{Uid: 4711, Gid: 4711, Groups: many}, 403},
	} {
		before := f.count()
		read, write, text := as(t, path, c.cred)
		if read != 200 || write != c.write {
			t.Errorf("%s: read %d, write %d; want 200, %d", c.name, read, write, c.write)
		}
		if write == 403 && (!strings.Contains(text, `"remedy":"use sudo, or join the group: sudo usermod -aG `+group.Name) || f.count() != before) {
			t.Errorf("%s: %d reconciles more, %s", c.name, f.count()-before, text)
		}
	}
}

func TestNobodyIsMemberOfAMissingGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be other users")
	}
	path, _ := start(t, newFake(), Options{Group: "no-such-group-" + strconv.Itoa(os.Getpid())})
	if _, write, _ := as(t, path, syscall.Credential{Uid: 4711, Gid: 4711}); write != 403 {
		t.Errorf("write: %d", write)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
