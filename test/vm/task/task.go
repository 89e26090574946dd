// Package task is what the host and the guest of a test on another kernel agree on: the work, and how its results are told.
package task

// Plan is the file /plan of the guest's first file system, as JSON.
type Plan struct {
	// Release is the kernel's, as uname -r says it, and Modules the directory of the host that holds its modules.
	Release, Modules string
	// Load are the modules that nothing loads by itself, because what needs them opens a device node.
	Load []string
	// Env is added to the environment of every task.
	Env []string
	// Keep are directories of the host that the work needs. The guest has a /tmp of its own, and they may lie there.
	Keep  []string
	Tasks []Task
}

// Task is one test binary.
type Task struct {
	Name string // of the package, from the module's root: "pkg/mptcp"
	Dir  string // the package's, which is where go test runs a test
	Args []string
	// Seconds is how long it may take before it is killed.
	Seconds int
}

// What a line from the guest begins with. The rest is the field.
const (
	Hello  = 'h' // uname -r
	Begin  = 'b' // name of a task
	Output = 'o' // a line of its output
	End    = 'e' // name, exit status
	Done   = 'd' // nothing: all tasks have ended
	Failed = 'x' // why the guest cannot do its work
)
