package diff

import "testing"

func TestEndpoints(t *testing.T) {
	const want = "endpoint 10.1.1.2 dev eth0 subflow\n"
	runAll(t, []diffCase{
		{name: "none there", want: want, up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow"},
		{name: "ours", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: want},
		{name: "ours, announced and never settled", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow backup", owned: "endpoint 10.1.1.2 dev eth0", want: want, up: "ip mptcp endpoint change id 3 nobackup nofullmesh"},
		{name: "backup comes in place and keeps fullmesh", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow fullmesh", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: "endpoint 10.1.1.2 dev eth0 subflow backup fullmesh", up: "ip mptcp endpoint change id 3 backup fullmesh"},
		{name: "another role", have: "endpoint 10.1.1.2 dev eth0 id 3 signal", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: want, gone: "10.1.1.2 dev eth0 id 3 signal"},
		{name: "another role and backup", have: "endpoint 10.1.1.2 dev eth0 id 3 signal backup", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: want, gone: "10.1.1.2 dev eth0 id 3 signal backup"},
		{name: "fullmesh", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: "endpoint 10.1.1.2 dev eth0 subflow fullmesh", gone: "10.1.1.2 dev eth0 id 3 subflow"},
		{name: "another link", have: "endpoint 10.1.1.2 dev eth1 id 3 subflow", owned: "endpoint 10.1.1.2 dev eth1 id 3", want: want, gone: "10.1.1.2 dev eth1 id 3 subflow"},
		{name: "no longer wanted", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", owned: "endpoint 10.1.1.2 dev eth0 id 3", gone: "10.1.1.2 dev eth0 id 3 subflow"},
		{name: "implicit is none", have: "endpoint 10.1.1.2 id 3 implicit", want: want, up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow"},
		{name: "with a port it is another object", have: "endpoint 10.1.1.2 port 8080 dev eth0 id 3 signal", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: want, up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow"},
		{name: "rank decides the order, not the family", want: "endpoint 2001:db8::2 dev eth0 subflow\n" + want, up: "ip mptcp endpoint add 2001:db8::2 dev eth0 subflow\nip mptcp endpoint add 10.1.1.2 dev eth0 subflow"},
	})
}

// TestWaningEndpoints: what is to go is backup until then, and is never made.
func TestWaningEndpoints(t *testing.T) {
	const waning = "endpoint 10.1.1.2 dev eth0 subflow backup"
	runAll(t, []diffCase{
		{name: "none there", waning: waning},
		{name: "ours", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", owned: "endpoint 10.1.1.2 dev eth0 id 3", waning: waning, up: "ip mptcp endpoint change id 3 backup nofullmesh", gone: "10.1.1.2 dev eth0 id 3 subflow"},
		{name: "ours, and backup already", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow backup", owned: "endpoint 10.1.1.2 dev eth0 id 3", waning: waning, gone: "10.1.1.2 dev eth0 id 3 subflow backup"},
		{name: "with other flags", have: "endpoint 10.1.1.2 dev eth0 id 3 signal", owned: "endpoint 10.1.1.2 dev eth0 id 3", waning: waning, gone: "10.1.1.2 dev eth0 id 3 signal"},
		{name: "on another link", have: "endpoint 10.1.1.2 dev eth1 id 3 subflow", owned: "endpoint 10.1.1.2 dev eth1 id 3", waning: waning, gone: "10.1.1.2 dev eth1 id 3 subflow"},
		{name: "foreign", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", waning: waning},
		{name: "no record", unknown: true, have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", waning: waning, findings: "info foreign-endpoint 10.1.1.2"},
	})
}

func TestForeignEndpoints(t *testing.T) {
	const want = "endpoint 10.1.1.2 dev eth0 subflow\n"
	runAll(t, []diffCase{
		{name: "on the right link", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow fullmesh", want: want, findings: "info foreign-endpoint 10.1.1.2"},
		{name: "without a link", have: "endpoint 10.1.1.2 id 3 subflow", want: want, findings: "warning foreign-endpoint 10.1.1.2"},
		{name: "recorded under another id", have: "endpoint 10.1.1.2 dev eth0 id 4 subflow", owned: "endpoint 10.1.1.2 dev eth0 id 3", want: want, findings: "info foreign-endpoint 10.1.1.2"},
		{name: "taken over", have: "endpoint 10.1.1.2 id 3 subflow\nendpoint 10.7.7.7 id 5 signal", want: want, takeOver: true, gone: "10.1.1.2 id 3 subflow"},
		{name: "nothing to take over", have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", want: want, takeOver: true, findings: "info foreign-endpoint 10.1.1.2"},
		{name: "elsewhere", have: "endpoint 10.7.7.7 id 5 signal"},
		{name: "no record: exactly what is wanted is ours", unknown: true, have: "endpoint 10.1.1.2 dev eth0 id 3 subflow", want: want},
		{name: "no record: else it is foreign", unknown: true, have: "endpoint 10.1.1.2 dev eth0 id 3 subflow backup", want: want, findings: "info foreign-endpoint 10.1.1.2"},
		{name: "no record: what is left over is reported", unknown: true, have: "endpoint 10.7.7.7 dev eth0 id 3 subflow", findings: "info foreign-endpoint 10.7.7.7"},
	})
}

func TestSlots(t *testing.T) {
	const two = "endpoint 10.1.1.2 dev eth0 subflow\nendpoint 10.1.2.2 dev eth1 subflow\n"
	runAll(t, []diffCase{
		{name: "one is free: the first has it", have: "mptcp slots 2\nendpoint 10.7.7.7 id 9 signal", want: two, up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow", findings: "warning no-slot 10.1.2.2"},
		{name: "a port takes one", have: "mptcp slots 2\nendpoint 10.7.7.7 port 80 id 9 signal", want: two, up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow", findings: "warning no-slot 10.1.2.2"},
		{name: "what lingers takes one", have: "mptcp slots 1\nendpoint 10.7.7.7 dev eth0 id 9 subflow", owned: "endpoint 10.7.7.7 dev eth0 id 9", want: "endpoint 10.1.1.2 dev eth0 subflow", gone: "10.7.7.7 dev eth0 id 9 subflow", findings: "warning no-slot 10.1.1.2"},
		{name: "an implicit endpoint gives its own", have: "mptcp slots 2\nendpoint 10.1.1.2 id 9 implicit", want: two, up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow\nip mptcp endpoint add 10.1.2.2 dev eth1 subflow"},
		{name: "but the kernel wants a free one first", have: "mptcp slots 1\nendpoint 10.1.1.2 id 9 implicit", want: "endpoint 10.1.1.2 dev eth0 subflow", findings: "warning no-slot 10.1.1.2"},
		{name: "unknown maximum", have: "mptcp slots 0", want: "endpoint 10.1.1.2 dev eth0 subflow", up: "ip mptcp endpoint add 10.1.1.2 dev eth0 subflow"},
	})
}
