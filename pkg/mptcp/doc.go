// Package mptcp is a client for the in-kernel path manager of Multipath TCP on Linux, and for what the kernel tells
// of Multipath TCP connections: what `ip mptcp`, `ss -M` and `nstat` show, as Go values.
//
//   - [Client.Endpoints], [Client.AddEndpoint], [Client.DeleteEndpoint], [Client.SetFlags], [Client.Limits] and
//     [Client.SetLimits] speak generic netlink (family mptcp_pm); [Probe] finds out what the kernel can do.
//   - [Client.SubscribeEvents] gives the path manager's events.
//   - [Client.Connections] joins MPTCP sockets and their subflows from sock_diag; [Client.Walk] gives the same one by
//     one. [Client.SubflowsFrom] and [Client.ConnectionCounts] are cheaper questions, and [Client.DestroySubflow]
//     closes one subflow.
//   - [ReadCounters] reads the MPTcpExt counters.
//
// # Namespaces
//
// A socket belongs to the network namespace of the thread that made it. [Dial] makes the client's sockets, so that
// later calls may come from any thread; [Client.SubscribeEvents] makes one more and refuses other namespaces.
// [ReadCounters] reads those of the calling thread. For another namespace than the process's own, lock the thread
// (runtime.LockOSThread), enter the namespace, and call Dial.
//
// # Privileges
//
// Changes, events, DestroySubflow and some kernels' subflows need CAP_NET_ADMIN in the user namespace that owns the
// network namespace, and nothing more; without it they give [ErrPermission]. Reading endpoints, limits and
// connections needs none on current kernels.
//
// # Errors
//
// What the kernel refuses is an [*Error]: it holds the error number and the kernel's text, and answers errors.Is for
// this package's sentinels. The path manager says EINVAL for much that others have numbers for; a missing entry, for
// one, is EINVAL with a text, which this package makes [ErrAbsent].
//
// # Traps
//
// No event is sent for a change of endpoints or limits: whoever must know has to ask again.
//
// Deleting by an address without an id does not delete the endpoint, it closes initial subflows: see
// [Client.DeleteEndpoint]. Deleting an endpoint closes its subflows, and may end connections whose peer accepts no
// other.
//
// [Client.SetFlags] clears backup and fullmesh where they are not given.
//
// A subflow is tried once for each connection and endpoint. Addresses, routes and rules come before the endpoint.
//
// # Kernels
//
// Everything is read by length and by attribute, so that older and newer kernels work with what they have. The
// package is tested with Linux 6.1 and 6.18; comments name the version in which a part came. Nothing is deduced from a
// version.
package mptcp
